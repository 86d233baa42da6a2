"""What a run must keep before a node agrees to it: all that the node can check by itself.

Each function returns, or raises with one sentence, without a value of any row. Nothing is
remembered here, and nothing spent.
"""

from collections.abc import Collection
from datetime import UTC, date, datetime

from clients.class_floor import require_class_floor
from clients.consent import Consent
from clients.contract import DataContract
from clients.learner import Learner
from clients.members import MemberRows
from clients.node_books import NodeBooks
from clients.node_settings import NodeSettings, Reasoning
from clients.policy import check_manifest
from clients.session import Session
from clients.session_file import RUN_NAME
from clients.spec import NodeSpec, parse_node_spec, require_trainable
from privacy.budget import Budget
from privacy.errors import CohortError, ProtocolError, RefusedError
from privacy.identity import verify_signature
from privacy.manifest import COUNTERSIGN_DOMAIN, SIGNING_DOMAIN, Manifest
from privacy.messages import CountersignRequest, Invite, Pending
from privacy.plan import PrivacyPlan
from privacy.receipt import Receipt
from privacy.secure_sum.cohort import SMALLEST_GROUPED, Cohort, groups_of
from privacy.secure_sum.graph import require_holding
from privacy.secure_sum.keys import Roster
from privacy.suites import require_here


def signed(
    settings: NodeSettings, request: Invite | CountersignRequest
) -> tuple[str, bytes, Manifest]:
    """Who started a run, by name and key, and the run.

    Raises:
        RefusedError: Whoever did may start none here.
        ProtocolError: The signature does not hold.
    """
    manifest = Manifest.from_bytes(request.manifest)
    if settings.seen is not None:
        # whoever joined a moment ago is known once the acts are looked at that it saw
        settings.seen(manifest.acts)
    launcher, key = settings.initiator(request.launcher)
    verify_signature(key, SIGNING_DOMAIN, request.manifest, request.signature)
    return launcher, key, manifest


def require_countersigned(
    settings: NodeSettings, request: Invite, manifest: Manifest, launcher: bytes
) -> None:
    """Return if another member signed the run too, or need not have.

    Raises:
        RefusedError: Nobody did, or nobody whom this node knows and recognises.
        ProtocolError: The signature does not hold.
    """
    if not request.countersigner and not request.countersignature:
        if settings.countersigned:
            raise RefusedError(
                "The run is signed by its launcher alone; let a second member sign it too."
            )
        return
    key = settings.members().get(request.countersigner)
    if key is None:
        raise RefusedError("The run is countersigned by nobody whom this node knows.")
    if settings.strangers({request.countersigner}):
        raise RefusedError(
            f"The run is countersigned by {request.countersigner}, whom this node's policy "
            "does not recognise; let another member sign it."
        )
    if key == launcher:
        raise RefusedError("A run is countersigned by another member than its launcher.")
    verify_signature(key, COUNTERSIGN_DOMAIN, manifest.digest(), request.countersignature)


def require_second(settings: NodeSettings, launcher: bytes) -> None:
    """Return if this node may sign that launcher's run as the second.

    Raises:
        RefusedError: It is the launcher itself, or its policy countersigns none.
    """
    if launcher == settings.identity.public:
        raise RefusedError("A run is countersigned by another member than its launcher.")
    if not settings.terms().countersigns:
        raise RefusedError("This node's policy countersigns no runs; ask another member.")


def consented(settings: NodeSettings, manifest: Manifest, launcher: str) -> bool:
    """Whether who decides here says yes; it may not have decided yet."""
    consent = settings.consent
    return consent is None or consent(manifest, launcher) is Consent.GIVEN


def pending(settings: NodeSettings, manifest: Manifest) -> Pending:
    """What a launcher is told while who decides here has not."""
    consent: object = settings.consent
    told = consent.reason(manifest) if isinstance(consent, Reasoning) else ""
    return Pending(member=settings.member, reason=told or "This node has not decided yet.")


def examined(
    settings: NodeSettings, books: NodeBooks, manifest: Manifest
) -> tuple[NodeSpec, Learner, Budget, list[Receipt]]:
    """Hold a run against all that this node checks by itself; nothing of it is remembered.

    Returns:
        The node's part of it, what learns, what it is charged to, and what it plans to spend.
    """
    policy = settings.terms()
    if not RUN_NAME.fullmatch(manifest.run):
        raise RefusedError(
            "A run's name has up to 128 letters, digits and .-_ and begins with one of the "
            "first two; choose another."
        )
    books.require_free_name(manifest)
    # (3) it names this node with its own key, and nobody whom this node does not know
    _require_same_membership(settings, manifest)
    directory, known = manifest.directory_keys(), settings.members()
    if directory.get(settings.member) != settings.identity.public:
        raise RefusedError("The run's member list does not hold this node with its own key.")
    for member, public in directory.items():
        if known.get(member) != public:
            raise RefusedError(
                f"The run names {member} with a key that this node was not told of at its "
                "enrolment; enrol that member first."
            )
    require_recognised(settings, directory)
    # (4) it asks for nothing below this node's terms
    check_manifest(manifest, policy, settings.contract)
    _require_suite(settings, manifest)
    _require_groups(manifest, len(directory))
    spec = parse_node_spec(dict(manifest.node_settings))
    require_class_floor(
        manifest,
        spec,
        policy,
        settings.contract,
        today=today(),
        own_machine=settings.own_machine,
    )
    # (5) its noise covers what this node's rows could show, and the budget holds all of it
    work = Learner(settings.contract, spec, settings.device, plan=manifest.privacy)
    if manifest.privacy is not None:
        _require_covered(work, spec, manifest.privacy)
    budget = books.budget(manifest)
    planned = manifest.planned_receipts(stages=work.stages, rounds=spec.training.rounds)
    budget.check(planned)
    # (6) its releases will be on record in the ledger that this node follows
    books.watch().check(manifest.log, allowed=policy.ledgers)
    return spec, work, budget, planned


def require_still_members(
    settings: NodeSettings, session: Session, roster: Roster, minimum: int
) -> None:
    """Look once more at whom the run is with, before anything of this node's rows is told.

    Raises:
        RefusedError: Somebody was revoked or has another key since this node joined, or too few
            of them are recognised.
    """
    settings.initiator(session.launcher)
    known = settings.members()
    for member in roster.members:
        if known.get(member) != roster.directory[member]:
            raise RefusedError(
                f"{member} takes part in the federation no more, or with another key; launch "
                "the run again."
            )
    groups = groups_of(roster, session.manifest.group_size)
    for members in (roster.members, *(one for one in groups if settings.member in one)):
        if not settings.strangers(members):
            continue
        require_recognised(settings, members)
        cohort = Cohort(roster, members, minimum)
        strangers = settings.strangers(cohort.holders(settings.member))
        if len(strangers) >= cohort.threshold(settings.member):
            raise RefusedError(
                f"{len(strangers)} members whom this node's policy does not recognise could "
                "open a sum among themselves; launch the run with fewer of them."
            )


def require_none_left(settings: NodeSettings, roster: Roster, survivors: Collection[str]) -> None:
    """Return if all whom a sum would be over take part in the federation still.

    Raises:
        RefusedError: Somebody was revoked since the members' keys were agreed on.
    """
    gone = sorted(settings.gone({name: roster.directory[name] for name in survivors}))
    if gone:
        raise RefusedError(
            f"{', '.join(gone)} takes part in the federation no more; leave it out of the sum."
        )


def require_enough_left(settings: NodeSettings, cohort: Cohort) -> None:
    """Return if a sum can be opened without those who take part in the federation no more.

    Raises:
        CohortError: They are too many, so that what it costs would be spent for nothing.
    """
    gone = settings.gone({name: cohort.roster.directory[name] for name in cohort.members})
    if gone:
        cohort.require_survivors([name for name in cohort.members if name not in gone])


def require_safe(settings: NodeSettings, session: Session, roster: Roster, minimum: int) -> None:
    """Return if those who agreed, perhaps not all who were asked, are enough to hide among.

    Raises:
        CohortError: They are too few for what the run promises.
        ProtocolError: This node is not among them, or with another key than it offered.
    """
    manifest, members = session.manifest, len(roster.members)
    if settings.member not in roster.members or (
        roster.exchange_of(settings.member) != session.key.public
    ):
        raise ProtocolError("The run's keys do not hold the one that this node offered.")
    if members < _fewest_members(manifest):
        raise CohortError(
            f"The run's manifest asks for {_fewest_members(manifest)} members at least, and "
            f"{members} are shown; launch it again."
        )
    _require_groups(manifest, members)
    if manifest.privacy is not None:
        most = max(manifest.privacy.colluders, settings.terms().colluders)
        require_holding(members, minimum, most)


def require_apart(contract: DataContract, rows: MemberRows) -> None:
    """Return if no unit has rows of both parts, where one table is split.

    Files that a contract calls test rows are about other units, also where their ids are alike.

    Raises:
        RefusedError: One has: what training and testing tell of it adds up, and is counted apart.
    """
    by_files = all(source.part != "all" for source in contract.sources)
    if (by_files and not contract.by_role("part")) or "__unit" not in rows.train:
        return
    if not set(rows.train["__unit"]).isdisjoint(rows.test["__unit"]):
        raise RefusedError(
            f"A {contract.unit} has training and test rows, so its privacy cannot be counted in "
            "parts; set the contract's split to kind: units."
        )


def require_recognised(settings: NodeSettings, members: Collection[str]) -> None:
    """Return if this node's policy recognises enough of these members.

    Raises:
        RefusedError: It does not.
    """
    least = settings.terms().minimum_cohort
    strangers = settings.strangers(members)
    found = len(members) - len(strangers)
    if strangers and found < least:
        raise RefusedError(
            f"This node's policy recognises {found} of the run's {len(members)} members, and "
            f"wants at least {least}; launch it with more of those."
        )


def _require_same_membership(settings: NodeSettings, manifest: Manifest) -> None:
    """Return if the launcher saw the acts of membership that this node sees.

    Raises:
        RefusedError: It does not say, or saw others: somebody shows two federations.
    """
    seen = settings.seen
    if seen is None:
        return
    if not manifest.membership:
        raise RefusedError(
            "The run does not say which acts of membership its launcher saw; update tacit at "
            "the launcher, and launch it again."
        )
    if seen(manifest.acts) != manifest.membership:
        raise RefusedError(
            "The launcher of this run sees another membership of the federation than this "
            "node; compare tacit federation members on both machines."
        )


def _require_suite(settings: NodeSettings, manifest: Manifest) -> None:
    """Return if the run uses the federation's algorithms, and this machine has them.

    Raises:
        RefusedError: It uses others, weaker perhaps, or they are not here.
    """
    suite = settings.suite
    if suite is not None and suite() != manifest.suite:
        raise RefusedError(
            f"The run uses the suite {manifest.suite} and the federation's founder signed "
            f"{suite()}; launch it with that."
        )
    require_here(manifest.suite)


def _require_groups(manifest: Manifest, members: int) -> None:
    """Return if so many members make enough groups, where sums are in groups.

    Raises:
        RefusedError: They do not.
    """
    if manifest.group_size and members < SMALLEST_GROUPED:
        raise RefusedError(
            f"Sums in groups need {SMALLEST_GROUPED} members and this run has {members}; "
            "set protection.robust: none."
        )


def _fewest_members(manifest: Manifest) -> int:
    """How many have to take part, as the launcher signed it; all of them where nothing is said."""
    least = manifest.coordinator_settings.get("min_members")
    return least if type(least) is int else len(manifest.directory)


def _require_covered(work: Learner, spec: NodeSpec, plan: PrivacyPlan) -> None:
    """Return if the plan's noise is for as much as one unit of this node's rows can change.

    Raises:
        RefusedError: It is for less, or a setting breaks the bound.
    """
    require_trainable(spec)
    for name, told, own in (
        ("statistics", plan.statistics_clip, work.statistics_sensitivity),
        ("evaluation", plan.evaluation_clip, work.evaluation_sensitivity),
    ):
        if told < own:
            raise RefusedError(
                f"The plan's noise on {name} is for a sensitivity of {told:g}, and here it is "
                f"{own:g}; plan again with this version of tacit."
            )


def today() -> date:
    """The date, UTC."""
    return datetime.now(UTC).date()
