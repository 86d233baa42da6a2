"""One run, told in order; the coordinator's half.

invite -> roster -> group key -> statistics -> initial model -> rounds -> evaluation -> finish

It carries messages and adds up what it cannot read apart; with `sealed` it cannot read the sum
either. It holds no model: members step their own copies, and tell only hashes. What a sum costs is
in its ledger before anything of it is opened, and members help to open it only where they saw it
there and more than two thirds of them cosigned that. Members that are away are asked again with the
next step, and brought up to date first.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from aggregator.inviting import ASK_AGAIN_S, Invitation, countersignature, invite, locate
from aggregator.plan import CoordinatorPlan, parse_plan
from aggregator.ports import Answer, Ledger, Notebook, Observer, Recorded, State, Transport
from aggregator.progress import FORMAT as PROGRESS_FORMAT
from aggregator.progress import Opened, Place, Progress, Shown, parse_progress
from aggregator.showing import clean, require_cosigned, show_state, speaks_for
from privacy.canonical import canonical_json
from privacy.errors import CohortError, NotVerifiedError, ProtocolError, RefusedError
from privacy.ledger.entry import ROWS, STATISTICS, UPDATE
from privacy.ledger.head import HEAD_DOMAIN, LedgerHead, head_message
from privacy.manifest import Manifest
from privacy.messages import (
    SEALED_BEFORE,
    Accepted,
    Cosigned,
    EvaluateRequest,
    FinishNotice,
    InitialModel,
    InitialModelRequest,
    Joined,
    KeyHeld,
    KeyMade,
    KeyNotice,
    PairNotice,
    PairRequest,
    PairsMade,
    Parcel,
    Ready,
    RecordedSum,
    Refused,
    Released,
    ReleaseRequest,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    RosterNotice,
    Sealed,
    SignedState,
    StatisticsRequest,
    StopNotice,
    SumNotice,
    SumPart,
    SumRequest,
    SurvivorsNotice,
    TrainRequest,
    Voted,
    pack,
    unpack_request,
)
from privacy.secure_sum import Answer as Shares
from privacy.secure_sum import Release, SealedVector, Vote
from privacy.secure_sum.cohort import Cohort, groups_of
from privacy.secure_sum.gathering import Gathering, OpenedSum
from privacy.secure_sum.graph import threshold
from privacy.secure_sum.keys import KeyOffer, Roster, admit
from privacy.secure_sum.pair_keys import pairs_due
from privacy.secure_sum.schemes import Scheme, scheme_of
from privacy.suites import suite_of
from privacy.suites.voice import identity_half
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    SumContext,
    extend_history,
    first_history,
    payload_digest,
)

AnyReply = TypeVar(
    "AnyReply",
    Joined,
    Ready,
    InitialModel,
    Sealed,
    Voted,
    Released,
    Revealed,
    Accepted,
    KeyHeld,
    PairsMade,
    Cosigned,
)
Word = TypeVar("Word", bound=Hashable)
NO_MODEL = bytes(32)
COMMITTED = "round"
FINISHING = ("finishing", 0)
VOTE_S = 120.0
"""Most that members have for the signatures of a step; other runs wait meanwhile."""
SHORTEST_S = 1.0
DISMISS_S = 10.0
RETURN_S = 60.0
"""How long a coordinator that comes back waits for all members, before it goes on with enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a coordinator knows of a run that went to its end.

    Attributes:
        model: Hash of the final common model before averaging, as members accepted it.
        architecture: Hash of the network's layout, equal at all members.
        values: Weights of the network.
        bytes_up: Payload that one member sent in one round of training.
        bytes_down: Payload of the sums that one member was sent in one round.
        bytes_total: Payload that one member sent in the whole run.
        undone: Rounds that members undid.
        absences: Member -> steps that closed without its vector.
        untold: Members that have not heard of the end, and hold the run's keys until they do.
        behind: Members that are there and refuse a sum that they missed: they cannot come to the
            end, and hold the run's keys until they are told that it goes on without them.
    """

    model: bytes
    architecture: bytes
    values: int
    bytes_up: int
    bytes_down: int
    bytes_total: int
    undone: int
    absences: Mapping[str, int]
    untold: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Member:
    """Where a member stands.

    Attributes:
        node: Its address; None while it has not been found again.
        shown: How many of the run's opened steps it accepted.
        present: Whether it answered the last time.
        absences: Steps that closed without its vector.
        reason: Its last refusal.
        witnessed: Entries of the ledger when it cosigned it last, as it said.
        leaves: Entries of its own ledger when it sent its last vector, as it said.
    """

    node: int | None
    shown: int = 0
    witnessed: int = 0
    leaves: int = 0
    present: bool = True
    absences: int = 0
    reason: str = ""


@dataclass(slots=True)
class _Notice:
    """An opened step that somebody has not seen yet; `kept` is how it was written down."""

    notice: SumNotice
    payload: bytes
    kept: Shown | None = None

    def written(self, book: Notebook) -> Shown:
        """As it is written down; it is packed and kept once, however often."""
        if self.kept is None:
            payload = book.keep(self.payload) if self.payload else ""
            self.kept = Shown(pack(self.notice).message, payload)
        return self.kept


@dataclass(kw_only=True)
class _Run:
    about: Invitation
    countersigned: tuple[str, bytes] | None
    transport: Transport
    ledger: Ledger
    observer: Observer
    notebook: Notebook | None
    roster: Roster
    scheme: Scheme
    members: dict[str, _Member]
    everyone: Cohort
    groups: tuple[Cohort, ...]
    known: Mapping[bytes, int]
    consents: Mapping[str, bytes]
    public: bytes = b""
    public_kept: str = ""
    fingerprint: bytes = b""
    history: bytes = b""
    model: bytes = NO_MODEL
    before: bytes = NO_MODEL
    architecture: bytes = b""
    values: int = 0
    undone: int = 0
    last: tuple[int, int] = (0, 0)
    accepted: dict[str, bytes] = field(default_factory=dict)
    seen: int = 0
    notices: list[_Notice] = field(default_factory=list)
    opened: Opened | None = None
    survivors: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    revealing: set[bytes] = field(default_factory=set)
    over: dict[str, tuple[str, ...]] = field(default_factory=dict)
    done: list[tuple[str, int]] = field(default_factory=list)
    bytes_total: int = 0

    @property
    def steps(self) -> int:
        """How many steps were opened; what everybody has seen of them is dropped."""
        return self.seen + len(self.notices)

    @property
    def manifest(self) -> Manifest:
        return self.about.manifest

    @property
    def plan(self) -> CoordinatorPlan:
        return self.about.plan

    @property
    def run(self) -> bytes:
        return self.roster.run


@dataclass(frozen=True, slots=True)
class _Sum:
    """One sum that was opened; `aggregate` is the hash of its payload."""

    cohort: Cohort
    context: bytes
    opened: OpenedSum
    aggregate: bytes


@dataclass(frozen=True, slots=True)
class _Gathered:
    """One cohort's vectors, before their sum is opened.

    Attributes:
        cohort: Who was asked.
        context: Of the sum.
        gathering: What arrived.
        reserved: Its `sum.reserved`, where a coordinator before this one wrote it.
    """

    cohort: Cohort
    context: SumContext
    gathering: Gathering
    reserved: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class _Step:
    """A step's sums as they were opened; None where a group's was given up."""

    name: str
    round: int
    values: int
    schema: bytes
    model: bytes
    sums: tuple[_Sum | None, ...]
    bytes_up: int

    @property
    def there(self) -> tuple[_Sum, ...]:
        """The sums of the groups that were not given up."""
        return tuple(one for one in self.sums if one is not None)

    @property
    def bytes_down(self) -> int:
        return sum(len(one.opened.payload) for one in self.there)


def run(
    manifest: Manifest,
    signature: bytes,
    *,
    launcher: bytes,
    data: Mapping[str, object],
    rules: Mapping[str, object] | None = None,
    transport: Transport,
    ledger: Ledger,
    observer: Observer,
    notebook: Notebook | None = None,
) -> RunResult:
    """Carry out a run, or go on with one whose coordinator was gone.

    Args:
        manifest: What was agreed.
        signature: The launcher's, over the manifest's bytes.
        launcher: The launcher's public key.
        data: What data it is about: the body of `data.declared`, without the run.
        rules: What rules it was held against: the body of `rules.checked`, without the run.
        transport: Reaches the nodes.
        ledger: Records.
        observer: Is told.
        notebook: Where it is written down how far the run is; None: it ends with its coordinator.
            What stands there already is gone on with.

    Raises:
        RefusedError: A member refused before the first round, in its own words, or a check failed.
        CohortError: Fewer members than a sum needs.
        NotVerifiedError: What the notebook holds cannot be used.
    """
    about = Invitation(
        manifest, signature, launcher, parse_plan(dict(manifest.coordinator_settings))
    )
    work = _resume(about, transport, ledger, observer, notebook)
    if work is None:
        observer.step("inviting the members")
        work = _gather(
            about,
            data=data,
            rules=rules,
            transport=transport,
            ledger=ledger,
            observer=observer,
            notebook=notebook,
        )
    _agree_on_key(work)
    plan = work.plan
    observer.step("summing feature statistics")
    for stage in range(plan.statistics_stages):
        _step(work, STATISTICS, StatisticsRequest, stage, stage=stage)
    observer.step("agreeing on the initial model")
    _initial_model(work)
    observer.step("training")
    _rounds(work)
    observer.step("evaluating")
    _evaluate(work, "test", plan.rounds)
    if plan.personal:
        _evaluate(work, "personal", plan.rounds)
    if FINISHING not in work.done:
        # whoever goes on from here finds members that have finished, and answer nothing else
        work.done.append(FINISHING)
        _write_down(work)
    _bring_up_to_date(work)
    told = _ask(
        work, _everyone(work, FinishNotice(run=work.run, accepted=work.accepted)), Ready, "query"
    )
    ledger.record(
        "run.finished",
        {"run": manifest.run, "rounds": plan.rounds, "model": work.model.hex()},
    )
    return RunResult(
        model=work.model,
        architecture=work.architecture,
        values=work.values,
        bytes_up=work.last[0],
        bytes_down=work.last[1],
        bytes_total=work.bytes_total,
        undone=work.undone,
        absences={name: member.absences for name, member in work.members.items()},
        untold=tuple(
            name
            for name, member in work.members.items()
            if name not in told and (member.node is None or not member.present)
        ),
        behind=tuple(
            name
            for name, member in work.members.items()
            if member.node is not None and member.present and member.shown < work.steps
        ),
    )


def witness(manifest: Manifest, *, transport: Transport, ledger: Ledger, observer: Observer) -> int:
    """Let a run's members cosign the ledger as it is now; return how many did.

    Each is shown the state first with a proof from nothing; who remembers more says so, and is
    shown it again, once, with the proof from there. Who sends anything else is left out.
    """
    with ledger.showing():
        state = ledger.state()
        cosigned = show_state(
            manifest,
            transport.nodes(),
            state,
            transport=transport,
            ledger=ledger,
            observer=observer,
        )
    directory = manifest.directory_keys()
    if len(cosigned) >= threshold(len(directory)):
        ledger.cosigned(manifest.run, state, cosigned)
    else:
        observer.note(
            f"{len(cosigned)} of {len(directory)} members cosigned the ledger as it is now; "
            "what they cosigned with the last sum stays"
        )
    return len(cosigned)


def dismiss(
    manifest: Manifest, *, transport: Transport, members: Collection[str] | None = None
) -> tuple[str, ...]:
    """Tell nodes that a run goes on without them, for good; return who has not heard it.

    Args:
        manifest: The run's.
        transport: Reaches them.
        members: Whom to tell; None: all of its members.
    """
    notice = StopNotice(run=manifest.digest())
    due = manifest.members if members is None else tuple(sorted(members))
    names = transport.names
    nodes = [node for node in transport.nodes() if members is None or names.get(node) in due]
    answers = transport.exchange(
        dict.fromkeys(nodes, (notice, b"")),
        kind="query",
        deadline_s=DISMISS_S,
        needed=nodes,
        grace_s=0.0,
    )
    told = {
        reply.member
        for node, (reply, _) in answers.items()
        if isinstance(reply, Ready) and speaks_for(transport, node, reply.member)
    }
    return tuple(member for member in due if member not in told)


# -- before the first sum --------------------------------------------------------------------


def _gather(
    about: Invitation,
    *,
    data: Mapping[str, object],
    rules: Mapping[str, object] | None,
    transport: Transport,
    ledger: Ledger,
    observer: Observer,
    notebook: Notebook | None,
) -> _Run:
    """Put the run on record, and invite every member."""
    manifest = about.manifest
    ledger.record(
        "run.started",
        {
            "run": manifest.run,
            "name": manifest.name,
            "task": manifest.task,
            "members": {name: manifest.directory[name] for name in manifest.members},
            "minimum": manifest.minimum_cohort,
            "group_size": manifest.group_size,
            "manifest": manifest.digest().hex(),
            "document": manifest.to_bytes().decode("utf-8"),
            "signature": about.signature.hex(),
            "launcher": about.launcher.hex(),
            "protection": manifest.protection,
        },
    )
    ledger.record("data.declared", {"run": manifest.run, **data})
    if rules is not None:
        ledger.record("rules.checked", {"run": manifest.run, **rules})
    countersigned = countersignature(about, transport=transport, ledger=ledger, observer=observer)
    agreed = invite(about, countersigned, transport=transport, ledger=ledger, observer=observer)
    members = {name: _Member(node=one.node) for name, one in agreed.items()}
    offers = [one.offer for one in agreed.values()]
    consents = {name: one.consent for name, one in agreed.items()}
    work = _begin(
        about,
        countersigned,
        offers,
        members,
        consents=consents,
        heads=ledger.heads(),
        transport=transport,
        ledger=ledger,
        observer=observer,
        notebook=notebook,
    )
    # from here on these are the members; a node agrees to one set of keys
    _write_down(work)
    return work


def _begin(
    about: Invitation,
    countersigned: tuple[str, bytes] | None,
    offers: Sequence[KeyOffer],
    members: dict[str, _Member],
    *,
    consents: Mapping[str, bytes],
    heads: Mapping[bytes, int],
    transport: Transport,
    ledger: Ledger,
    observer: Observer,
    notebook: Notebook | None,
) -> _Run:
    manifest = about.manifest
    minimum = manifest.minimum_cohort
    roster = admit(
        offers,
        run=manifest.digest(),
        directory=manifest.directory_keys(),
        minimum=minimum,
        suite=suite_of(manifest.suite),
    )
    return _Run(
        about=about,
        countersigned=countersigned,
        transport=transport,
        ledger=ledger,
        observer=observer,
        notebook=notebook,
        roster=roster,
        scheme=scheme_of(manifest.protection),
        members=dict(sorted(members.items())),
        everyone=Cohort(roster, roster.members, minimum),
        groups=tuple(
            Cohort(roster, names, minimum) for names in groups_of(roster, manifest.group_size)
        ),
        known={key: heads.get(key, 0) for key in roster.directory.values()},
        consents=consents,
    )


def _agree_on_key(work: _Run) -> None:
    """Show all signed keys to all, and let the members share a group key; once."""
    if work.fingerprint:
        return
    for member, consent in sorted(work.consents.items()):
        work.ledger.record(
            "run.consented",
            {"run": work.manifest.run, "member": member, "signature": consent.hex()},
        )
    packed = tuple(offer.to_bytes() for offer in work.roster.offers)
    _share_key(work, _all_of(work, RosterNotice(run=work.run, offers=packed)))
    if pairs_due(work.roster, masked=work.scheme.masked):
        _share_pairs(work)
    work.history = first_history(work.roster.digest, work.fingerprint)
    work.ledger.record(
        "keys.agreed",
        {
            "run": work.manifest.run,
            "roster": work.roster.digest.hex(),
            "fingerprint": work.fingerprint.hex(),
            "public_bytes": len(work.public),
        },
    )
    _write_down(work)


# -- what is written down --------------------------------------------------------------------


def _write_down(work: _Run) -> None:
    """Let another process be able to go on from here."""
    book = work.notebook
    if book is None:
        return
    shown = tuple(one.written(book) for one in work.notices)
    if work.public and not work.public_kept:
        work.public_kept = book.keep(work.public)
    progress = Progress(
        format=PROGRESS_FORMAT,
        run=work.run,
        offers=tuple(offer.to_bytes() for offer in work.roster.offers),
        consents=dict(work.consents),
        known={key.hex(): leaves for key, leaves in work.known.items()},
        fingerprint=work.fingerprint,
        public=work.public_kept,
        members={
            name: Place(member.shown, member.absences, member.leaves)
            for name, member in work.members.items()
        },
        history=work.history,
        model=work.model,
        accepted=work.accepted,
        architecture=work.architecture,
        values=work.values,
        seen=work.seen,
        notices=shown,
        opened=work.opened,
        survivors={context.hex(): names for context, names in work.survivors.items()},
        revealing=tuple(sorted(context.hex() for context in work.revealing)),
        over=work.over,
        done=tuple(work.done),
        before=work.before,
        last=work.last,
        undone=work.undone,
        bytes_total=work.bytes_total,
    )
    book.write(progress.to_bytes())
    book.keep_only({work.public_kept, *(one.payload for one in shown)})


def _resume(
    about: Invitation,
    transport: Transport,
    ledger: Ledger,
    observer: Observer,
    notebook: Notebook | None,
) -> _Run | None:
    """Take up a run where another process left it; None where none did."""
    written = None if notebook is None else notebook.read()
    if notebook is None or written is None:
        return None
    observer.step("going on with the run")
    manifest = about.manifest
    progress = parse_progress(written, run=manifest.digest())
    countersigned = countersignature(about, transport=transport, ledger=ledger, observer=observer)
    work = _begin(
        about,
        countersigned,
        [KeyOffer.from_bytes(offer) for offer in progress.offers],
        {
            name: _Member(node=None, shown=at.shown, absences=at.absences, leaves=at.leaves)
            for name, at in progress.members.items()
        },
        consents=progress.consents,
        heads={bytes.fromhex(key): leaves for key, leaves in progress.known.items()},
        transport=transport,
        ledger=ledger,
        observer=observer,
        notebook=notebook,
    )
    work.fingerprint, work.public_kept = progress.fingerprint, progress.public
    work.public = notebook.kept(progress.public) if progress.public else b""
    work.history, work.model = progress.history, progress.model
    work.accepted, work.opened = progress.accepted, progress.opened
    work.architecture, work.values = progress.architecture, progress.values
    for one in progress.notices:
        notice = unpack_request(Parcel(one.notice))[0]
        if not isinstance(notice, SumNotice):
            raise NotVerifiedError("What was written down of this run cannot be used.")
        payload = notebook.kept(one.payload) if one.payload else b""
        work.notices.append(_Notice(notice, payload, one))
    work.seen = progress.seen
    work.survivors = {bytes.fromhex(key): names for key, names in progress.survivors.items()}
    work.revealing = {bytes.fromhex(context) for context in progress.revealing}
    work.over, work.done = progress.over, list(progress.done)
    work.before, work.last = progress.before, progress.last
    work.undone, work.bytes_total = progress.undone, progress.bytes_total
    _wait_for_members(work)
    return work


def _wait_for_members(work: _Run) -> None:
    """Find all members again, or as many as can go on once `RETURN_S` are over."""
    if FINISHING in work.done:
        _locate(work)
        return  # there is nothing that some members have to do together
    started = time.monotonic()
    patience_s = min(RETURN_S, work.plan.deadline_s)
    while True:
        _locate(work)
        missing = [name for name, member in work.members.items() if member.node is None]
        enough = len(work.members) - len(missing) >= threshold(len(work.members))
        waited_s = time.monotonic() - started
        if not missing or (enough and waited_s >= patience_s):
            break
        if waited_s >= work.plan.deadline_s:
            raise CohortError(
                f"{', '.join(missing)} did not come back; start those nodes, and resume the run."
            )
        time.sleep(ASK_AGAIN_S / 4)
    for name in missing:
        work.members[name].present = False
        work.observer.note(f"{name} has not come back; the run goes on without it for now")


def _locate(work: _Run) -> None:
    """Look for members whose address is not known among nodes that are nobody's yet."""
    if all(member.node is not None for member in work.members.values()):
        return
    reachable, names = work.transport.nodes(), work.transport.names
    found = {
        name: node
        for node in reachable
        if (name := names.get(node, "")) in work.members and work.members[name].node is None
    }
    known = {member.node for member in work.members.values()}
    unknown = tuple(node for node in reachable if node not in known and node not in names)
    if unknown:
        offers = {offer.member: offer.to_bytes() for offer in work.roster.offers}
        found |= locate(work.about, work.countersigned, offers, unknown, transport=work.transport)
    for name, node in found.items():
        work.members[name].node = node
    if not found:
        return
    # they may have cosigned more than they say when they repeat what they said
    with work.ledger.showing():
        show_state(
            work.manifest,
            list(found.values()),
            work.ledger.state(),
            transport=work.transport,
            ledger=work.ledger,
            observer=work.observer,
        )


def _share_key(work: _Run, replies: Mapping[str, Reply]) -> None:
    """Bring each member the group key that one of them made; all must hold the same one."""
    made = [reply for reply in replies.values() if isinstance(reply, KeyMade)]
    if len(made) != 1 or set(made[0].keys) != set(work.members) - {made[0].member}:
        raise ProtocolError("The run's group key was not made by one member for all the others.")
    maker = made[0]
    work.public, work.fingerprint = maker.public, maker.fingerprint
    notices = {
        member: KeyNotice(
            run=work.run,
            fingerprint=maker.fingerprint,
            public=maker.public,
            carrier=maker.carrier,
            secret=sealed.secret,
            signature=sealed.signature,
        )
        for member, sealed in maker.keys.items()
    }
    held = _ask(work, {name: (n, b"") for name, n in notices.items()}, KeyHeld, "query", all_=True)
    for member, (reply, _) in held.items():
        if reply.fingerprint != maker.fingerprint:
            raise ProtocolError(
                f"{member} holds another key than {maker.member} told of; one of them is at fault."
            )


def _share_pairs(work: _Run) -> None:
    """Bring each member what others sealed to it; whether all of it is there is its own to say."""
    asked = dict.fromkeys(work.members, (PairRequest(run=work.run), b""))
    made = {
        member: reply.keys
        for member, (reply, _) in _ask(work, asked, PairsMade, "query", all_=True).items()
    }
    notices = {
        member: PairNotice(
            run=work.run,
            keys={sender: keys[member] for sender, keys in made.items() if member in keys},
        )
        for member in work.members
    }
    _ask(work, {name: (n, b"") for name, n in notices.items()}, Ready, "query", all_=True)


def _initial_model(work: _Run) -> None:
    """All members make the same model from one seed and one sum; only its hash is told."""
    if work.values:
        return
    _bring_up_to_date(work)
    request = InitialModelRequest(run=work.run, accepted=work.accepted)
    replies = [
        reply
        for reply, _ in _ask(
            work, _everyone(work, request), InitialModel, "query", all_=True
        ).values()
    ]
    layouts = {(reply.architecture, reply.digest, reply.length) for reply in replies}
    if len(layouts) != 1:
        raise ProtocolError(
            "The members do not start from one model; they must run the same version of tacit."
        )
    work.architecture, work.model, work.values = layouts.pop()
    work.ledger.record(
        "model.agreed",
        {
            "run": work.manifest.run,
            "architecture": work.architecture.hex(),
            "model": work.model.hex(),
            "values": work.values,
        },
    )
    _write_down(work)


# -- rounds ----------------------------------------------------------------------------------


def _rounds(work: _Run) -> None:
    plan = work.plan
    for index in range(1, plan.rounds + 1):
        if (COMMITTED, index) in work.done:
            continue
        _step(work, UPDATE, TrainRequest, index, round=index)
        work.ledger.record(
            "round.committed",
            {
                "run": work.manifest.run,
                "round": index,
                "model_before": work.before.hex(),
                "model_after": _after_update(work, index).hex(),
            },
        )
        watched = plan.watch_every > 0 and (index % plan.watch_every == 0 or index == plan.rounds)
        if watched:
            watched = _evaluate(work, "watch", index)
        work.observer.round(
            index,
            watched=watched,
            facts={"bytes_up": work.last[0], "bytes_down": work.last[1]},
        )
        work.done.append((COMMITTED, index))
        _write_down(work)


def _after_update(work: _Run, index: int) -> bytes:
    """Hash of the model after a round, as its members accepted it; a validation may undo it."""
    about = {"run": work.manifest.run, "step": UPDATE, "round": index}
    accepted = work.ledger.recorded("sum.accepted", about)
    return work.model if accepted is None else bytes.fromhex(str(accepted["model"]))


def _evaluate(work: _Run, part: str, round_index: int) -> bool:
    """Sum the members' tallies of `part`; whether that was possible.

    Members refuse one that would differ from another by a few members.
    A validation that cannot be had is left out; the run goes on.
    """
    name = f"evaluate {part}"
    try:
        _step(work, name, EvaluateRequest, round_index, round=round_index, part=part)
    except ProtocolError as fault:
        if work.opened is not None:
            raise
        work.observer.note(f"{part} of round {round_index} was not evaluated: {fault}")
        return False
    return True


def _step(
    work: _Run, name: str, ask: Callable[..., SumRequest], round_index: int, **about: object
) -> None:
    """Ask for sealed vectors, open their sums, put them on record and show them; once."""
    if (name, round_index) in work.done:
        return
    if work.opened is None:
        _bring_up_to_date(work)
        if name == UPDATE:
            work.before = work.model
        request = ask(run=work.run, accepted=work.accepted, **about)
        replies = _ask(
            work,
            _everyone(work, request),
            Sealed,
            _kind(name),
            all_=name == STATISTICS,
            quorum=True,
            fewest=max((len(work.survivors.get(one, ())) for one in work.revealing), default=0),
        )
        _prepare(work, _open(work, name, round_index, replies))
    _show(work)
    work.done.append((name, round_index))
    work.survivors.clear()
    work.revealing.clear()
    _write_down(work)


def _kind(name: str) -> str:
    return {STATISTICS: "query", UPDATE: "train"}.get(name, "evaluate")


def _open(
    work: _Run, name: str, round_index: int, replies: Mapping[str, tuple[Sealed, bytes]]
) -> _Step:
    if not replies:
        raise CohortError(f"No member sent its {name} of round {round_index}. {_reasons(work)}")
    schema, model, length = _most_common(
        (reply.schema, reply.model, reply.length) for reply, _ in replies.values()
    )
    for member, (reply, _) in replies.items():
        work.members[member].witnessed = reply.witnessed
    contexts = [
        SumContext(
            run=work.run,
            step=name,
            round=round_index,
            schema=schema,
            model=model,
            history=work.history,
            roster=work.roster.digest,
            cohort=cohort.digest,
            keys=work.fingerprint,
        )
        for cohort in (work.groups if name == UPDATE else (work.everyone,))
    ]
    gathered = [_gathered(work, context, replies) for context in contexts]
    up = max((len(payload) for _, payload in replies.values()), default=0)
    cosignatures: dict[str, bytes] = {}
    with work.ledger.showing():
        until = time.monotonic() + VOTE_S
        reserved = _reserve(work, [one for one in gathered if one is not None], length, replies)
        # all groups vote before any is told of: members reveal only what two thirds of all saw
        voted = [
            one is not None
            and _agreed(work, one, reserved[one.context.digest()], cosignatures, until)
            for one in gathered
        ]
    sums = [
        _opened(work, one, cosignatures) if one is not None and agreed else None
        for one, agreed in zip(gathered, voted, strict=True)
    ]
    if reserved and any(sums):
        _keep(work, next(iter(reserved.values())).state, cosignatures)
    work.bytes_total += up
    step = _Step(name, round_index, length, schema, model, tuple(sums), up)
    for member, where in work.members.items():
        if not any(member in one.opened.survivors for one in step.there):
            where.absences += 1
    return step


def _gathered(
    work: _Run, context: SumContext, replies: Mapping[str, tuple[Sealed, bytes]]
) -> _Gathered | None:
    """Take the vectors of one cohort; None where a group's sum has to be given up."""
    cohort = next(one for one in (*work.groups, work.everyone) if one.digest == context.cohort)
    size = _most_common(len(payload) for _, payload in replies.values())
    gathering = Gathering(
        context,
        cohort,
        scheme=work.scheme.name,
        adder=work.scheme.adder(work.public, len(work.roster.members)),
        masked=work.scheme.masked,
    )
    about = {"run": work.manifest.run, "context": gathering.context.hex()}
    reserved = work.ledger.recorded("sum.reserved", about)
    # where members signed already whom the sum is over, it is over nobody else
    signed = work.survivors.get(gathering.context)
    for member in cohort.members:
        if member in replies and (signed is None or member in signed):
            with _Leaving(work, member):
                _require_size(work, member, len(replies[member][1]), size)
                _require_head(work, member, gathering.context, replies[member][0], reserved)
                gathering.take(_sealed(*replies[member]))
    # members sign no second sum about the same rows over others
    rows = ROWS.get(context.step)
    over = signed if signed is not None else None if rows is None else work.over.get(rows)
    try:
        if gathering.context in work.revealing and set(gathering.arrived) != set(signed or ()):
            missing = ", ".join(sorted(set(signed or ()) - set(gathering.arrived)))
            raise CohortError(
                f"{missing} must come back first: others have told what opens a sum with them in it"
            )
        gathering.close(over=over)
    except ProtocolError as fault:
        _give_up(work, context, fault)
        return None
    return _Gathered(cohort, context, gathering, reserved)


def _agreed(
    work: _Run,
    one: _Gathered,
    reserved: Recorded,
    cosignatures: dict[str, bytes],
    until: float,
) -> bool:
    """Hear who one cohort's sum is over; False where a group's has to be given up."""
    try:
        _vote(work, one.gathering, reserved, cosignatures, until)
    except ProtocolError as fault:
        _give_up(work, one.context, fault)
        return False
    return True


def _opened(work: _Run, one: _Gathered, cosignatures: Mapping[str, bytes]) -> _Sum | None:
    """Open one cohort's sum; None where a group's has to be given up."""
    try:
        opened = _reveal(work, one.gathering, cosignatures)
    except ProtocolError as fault:
        _give_up(work, one.context, fault)
        return None
    rows = ROWS.get(one.context.step)
    if rows is not None:
        work.over[rows] = opened.survivors
    return _Sum(one.cohort, one.gathering.context, opened, payload_digest(opened.payload))


def _give_up(work: _Run, context: SumContext, fault: ProtocolError) -> None:
    """Go on without a group's sum; where there is one sum alone, that is the end.

    Raises:
        ProtocolError: There is one sum alone.
    """
    if context.step != UPDATE or len(work.groups) == 1:
        lost = [name for name, one in work.members.items() if SEALED_BEFORE in one.reason]
        left = len(work.members) - len(lost)
        if left < max(work.everyone.smallest, threshold(len(work.members))):
            raise ProtocolError(
                f"{', '.join(lost)} lost the vector of this sum when it was restarted, and too few "
                "are left without it; launch a new run, with more members."
            ) from None
        raise type(fault)(f"{fault}. {_reasons(work)}".strip()) from None
    work.observer.note(f"a group of round {context.round} was given up: {fault}")


def _reserve(
    work: _Run,
    gathered: Sequence[_Gathered],
    length: int,
    replies: Mapping[str, tuple[Sealed, bytes]],
) -> dict[bytes, Recorded]:
    """Put on record what a step costs, before anybody is asked to help to open it."""
    manifest = work.manifest
    bodies: list[Mapping[str, object]] = [
        one.reserved
        or {
            "run": manifest.run,
            "step": one.context.step,
            "round": one.context.round,
            "asked": list(one.cohort.members),
            "schema": one.context.schema.hex(),
            "model": one.context.model.hex(),
            "context": one.gathering.context.hex(),
            "protection": manifest.protection,
            "receipt": manifest.receipt(one.context.step, one.context.round, length).to_json(),
            "nodes": {
                member: {
                    "leaves": replies[member][0].leaves,
                    "root": replies[member][0].root.hex(),
                    "signature": identity_half(replies[member][0].signature).hex(),
                }
                for member in one.gathering.arrived
            },
        }
        for one in gathered
    ]
    recorded = work.ledger.reserve(bodies)
    return {one.gathering.context: each for one, each in zip(gathered, recorded, strict=True)}


def _vote(
    work: _Run,
    gathering: Gathering,
    reserved: Recorded,
    cosignatures: dict[str, bytes],
    until: float,
) -> None:
    """Let a cohort agree on who its sum is over, and cosign the ledger that has it.

    Other runs wait meanwhile, so it takes no longer than `until` (`time.monotonic`), and who has
    not answered by then is left out.
    """

    def left_s() -> float:
        return max(SHORTEST_S, until - time.monotonic())

    while True:
        if work.survivors.get(gathering.context) != gathering.survivors:
            # whoever goes on with this run asks for these signatures and no others
            work.survivors[gathering.context] = gathering.survivors
            _write_down(work)
        asked: dict[str, tuple[Request, bytes]] = {
            member: (
                SurvivorsNotice(
                    run=work.run,
                    context=gathering.context,
                    survivors=gathering.survivors,
                    record=RecordedSum(
                        leaf=reserved.leaf,
                        index=reserved.index,
                        path=reserved.path,
                        state=_shown(work, member, reserved.state),
                    ),
                ),
                b"",
            )
            for member in gathering.survivors
        }
        for member, (vote, _) in _ask(
            work, asked, Voted, "query", within_s=left_s(), quorum=True
        ).items():
            with _Leaving(work, member):
                public = work.roster.directory[member]
                require_cosigned(member, public, reserved.state, vote.cosignature)
                work.ledger.note_witnessed(public, reserved.state.size)
                cosignatures[member] = vote.cosignature
                gathering.take_vote(Vote(member, vote.signature))
        if gathering.leave_silent_out():
            continue
        asked = {
            member: (
                ReleaseRequest(
                    run=work.run,
                    context=gathering.context,
                    survivors=gathering.survivors,
                    votes=_signatures(gathering.votes_for(member)),
                ),
                b"",
            )
            for member in gathering.unreleased
        }
        for member, (masks, _) in _ask(work, asked, Released, "query", within_s=left_s()).items():
            with _Leaving(work, member):
                gathering.take_release(Release(member, masks.seeds, masks.signature))
        if not gathering.leave_unreleased_out():
            return


def _reveal(work: _Run, gathering: Gathering, cosignatures: Mapping[str, bytes]) -> OpenedSum:
    """Hear the shares that open a cohort's sum, and open it."""
    if gathering.needs_answers:
        if gathering.context not in work.revealing:
            # from the first answer on, no smaller set can be signed any more
            work.revealing.add(gathering.context)
            _write_down(work)
        asked = {
            member: (
                RevealRequest(
                    run=work.run,
                    context=gathering.context,
                    survivors=gathering.survivors,
                    votes=_signatures(gathering.votes_for(member)),
                    cosignatures={
                        holder: cosignatures[holder]
                        for holder in work.everyone.holders(member)
                        if holder in cosignatures
                    },
                    boxes=dict(gathering.boxes_for(member)),
                ),
                b"",
            )
            for member in gathering.voters
        }
        for member, (answer, _) in _ask(work, asked, Revealed, "query", quorum=True).items():
            with _Leaving(work, member):
                gathering.take_answer(Shares(member, answer.shares, answer.signature))
    for fault in gathering.faults:
        work.observer.note(fault)
    return gathering.open()


def _shown(work: _Run, member: str, state: State) -> SignedState:
    """The ledger's state as a member needs to see it: with the proof from what it cosigned last."""
    # what it says of itself, or what it signed in another run meanwhile
    told = work.members[member].witnessed
    old = max(told, work.ledger.witnessed(work.roster.directory[member]))
    return SignedState(checkpoint=state.note, old=old, growth=work.ledger.growth(old, state))


def _keep(work: _Run, state: State, cosignatures: Mapping[str, bytes]) -> None:
    directory = work.roster.directory
    work.ledger.cosigned(
        work.manifest.run,
        state,
        {member: (directory[member], signature) for member, signature in cosignatures.items()},
    )


def _signatures(votes: Iterable[Vote]) -> dict[str, bytes]:
    return {vote.member: vote.signature for vote in votes}


def _require_size(work: _Run, member: str, size_bytes: int, common_bytes: int) -> None:
    """Leave out whose payload has another size than most; only ciphertexts of `ckks` vary."""
    if size_bytes != common_bytes and work.scheme.name != "ckks":
        raise ProtocolError(f"{member} sent {size_bytes} bytes where others sent {common_bytes}")


def _require_head(
    work: _Run,
    member: str,
    context: bytes,
    reply: Sealed,
    reserved: Mapping[str, object] | None,
) -> None:
    """Leave out whose own ledger did not grow, or that does not sign what it says of it.

    What a vector costs is on record there first. Where the sum was reserved before, the same
    vector says the same of its ledger again.
    """
    where, public = work.members[member], work.roster.directory[member]
    head = LedgerHead(reply.leaves, reply.root.hex())
    work.roster.require_signed(member, HEAD_DOMAIN, head_message(context, head), reply.signature)
    if reserved is not None:
        signed = identity_half(reply.signature).hex()
        told = {"leaves": head.leaves, "root": head.root, "signature": signed}
        nodes = reserved["nodes"]
        if not isinstance(nodes, dict) or nodes.get(member) != told:
            raise ProtocolError(f"the vector of {member} came after its sum was put on record")
        where.leaves = max(where.leaves, reply.leaves)
        return
    before = max(where.leaves, work.known.get(public, 0))
    if reply.leaves <= before:
        raise ProtocolError(
            f"{member} had {before} entries in its own ledger and now says {reply.leaves}; "
            "it was set back, and has to be restored"
        )
    where.leaves = reply.leaves


def _prepare(work: _Run, opened: _Step) -> None:
    """Write down what was opened, as it will be put on record and shown."""
    about = {"run": work.manifest.run, "step": opened.name, "round": opened.round}
    records = tuple(
        canonical_json(
            {
                **about,
                "members": list(one.opened.survivors),
                "context": one.context.hex(),
                "aggregate": one.aggregate.hex(),
                "payload_bytes": len(one.opened.payload),
                "signatures": {
                    vote.member: identity_half(vote.signature).hex() for vote in one.opened.votes
                },
            }
        )
        for one in opened.there
    )
    given_up = SumPart(survivors=(), votes={}, length=0)
    parts = tuple(
        given_up
        if one is None
        else SumPart(
            survivors=one.opened.survivors,
            votes=_signatures(one.opened.votes),
            length=len(one.opened.payload),
        )
        for one in opened.sums
    )
    notice = SumNotice(run=work.run, step=opened.name, round=opened.round, parts=parts)
    work.notices.append(_Notice(notice, b"".join(one.opened.payload for one in opened.there)))
    work.opened = Opened(opened.name, opened.round, records, opened.bytes_up, opened.bytes_down)
    if opened.name == UPDATE:
        work.last = opened.bytes_up, opened.bytes_down
    _write_down(work)


def _show(work: _Run) -> None:
    """Put a step's sums on record, show them to all, and hear that two thirds accept the same."""
    opened = work.opened
    if opened is None:
        raise RuntimeError("nothing was opened")
    bodies = [json.loads(record) for record in opened.records]
    for body in bodies:
        before = work.ledger.recorded("sum.opened", body)
        if before is None:
            work.ledger.record("sum.opened", body)
        elif any(before[name] != body[name] for name in ("members", "aggregate")):
            raise NotVerifiedError("Another sum was opened than the one that is on record.")
    newest = work.notices[-1]
    answers = _ask(
        work,
        _everyone(work, newest.notice, newest.payload),
        Accepted,
        _kind(opened.step),
        quorum=True,
    )
    shown = [
        (bytes.fromhex(body["context"]), body["members"], bytes.fromhex(body["aggregate"]))
        for body in bodies
    ]
    (history, model, kept), accepted = _agreement(work, answers, shown)
    if len(accepted) < threshold(len(work.members)):
        raise CohortError(
            f"Only {len(accepted)} of {len(work.members)} members accepted the {opened.step} "
            f"sum. {_reasons(work)}"
        )
    work.history, work.model, work.accepted = history, model, accepted
    for member, where in work.members.items():
        if member in accepted:
            where.shown = work.steps
        elif member in answers:
            where.reason = "it came to another model from the same sums; compare versions of tacit"
            work.observer.note(f"{member} is left out from now on: {where.reason}")
    _record_accepted(work, opened, kept=kept)
    work.opened = None
    if not kept:
        work.undone += 1
        work.observer.note(f"round {opened.round} was undone: the members' validation got worse")


def _agreement(
    work: _Run,
    answers: Mapping[str, tuple[Accepted, bytes]],
    shown: Sequence[tuple[bytes, Sequence[str], bytes]],
) -> tuple[tuple[bytes, bytes, bool], dict[str, bytes]]:
    """What most members say follows from the sums, and who says it, with signatures."""
    agreed: dict[tuple[bytes, bytes, bool], dict[str, bytes]] = {}
    for member, (reply, _) in answers.items():
        with _Leaving(work, member):
            history = extend_history(work.history, shown, model=reply.model, kept=reply.kept)
            work.roster.require_signed(member, ACCEPTED_DOMAIN, history, reply.signature)
            words = (history, reply.model, reply.kept)
            agreed.setdefault(words, {})[member] = reply.signature
    if not agreed:
        step = work.opened.step if work.opened else ""
        raise CohortError(f"No member accepted the {step} sum. {_reasons(work)}")
    return max(agreed.items(), key=lambda words: len(words[1]))


def _record_accepted(work: _Run, opened: Opened, *, kept: bool) -> None:
    about = {"run": work.manifest.run, "step": opened.step, "round": opened.round}
    before = work.ledger.recorded("sum.accepted", about)
    if before is None:
        signatures = {
            name: identity_half(signed).hex() for name, signed in sorted(work.accepted.items())
        }
        outcome = {"model": work.model.hex(), "kept": kept, "signatures": signatures}
        work.ledger.record("sum.accepted", {**about, **outcome})
    elif (before["model"], before["kept"]) != (work.model.hex(), kept):
        raise NotVerifiedError("Members accepted another model than the one that is on record.")


def _bring_up_to_date(work: _Run) -> None:
    """Show members who were away the sums that they missed, in order."""
    _locate(work)
    for place in range(min(member.shown for member in work.members.values()), work.steps):
        missed = work.notices[place - work.seen]
        behind = {
            name: (missed.notice, missed.payload)
            for name, member in work.members.items()
            if member.shown == place
        }
        for name, (reply, _) in _ask(work, behind, Accepted, "query").items():
            if place + 1 < work.steps or reply.history == work.history:
                work.members[name].shown = place + 1
    # what everybody has seen is never needed again
    seen = min(member.shown for member in work.members.values())
    del work.notices[: seen - work.seen]
    work.seen = seen


# -- messages --------------------------------------------------------------------------------


def _everyone(
    work: _Run, request: Request, payload: bytes = b""
) -> dict[str, tuple[Request, bytes]]:
    """The same for every member that has seen all sums so far."""
    due = work.steps - isinstance(request, SumNotice)
    return {
        name: (request, payload) for name, member in work.members.items() if member.shown == due
    }


def _ask(
    work: _Run,
    requests: Mapping[str, tuple[Request, bytes]],
    expected: type[AnyReply],
    kind: str,
    *,
    all_: bool = False,
    within_s: float = math.inf,
    quorum: bool = False,
    fewest: int = 0,
) -> dict[str, tuple[AnyReply, bytes]]:
    """Send requests; return the replies that came, by member.

    A member that does not answer, refuses or answers something else is away for this step; with
    `all_`, before the first round, that ends the run with its own words. No longer is waited than
    `within_s`; with `quorum` as long as that, where more than a third of all are away,
    or fewer than `fewest` have answered.
    """
    addresses = {node: name for name in requests if (node := work.members[name].node) is not None}
    within_s = min(within_s, work.plan.deadline_s)
    answers = work.transport.exchange(
        {node: requests[name] for node, name in addresses.items()},
        kind=kind,
        deadline_s=within_s,
        needed=[node for node, name in addresses.items() if work.members[name].present],
        grace_s=work.plan.grace_s,
        # with fewer there is nothing to go on with
        enough=max(fewest, min(len(addresses), threshold(len(work.members)))) if quorum else 0,
    )
    replies: dict[str, tuple[AnyReply, bytes]] = {}
    for node, name in addresses.items():
        member = work.members[name]
        if member.present and node not in answers:
            work.observer.note(f"{name} does not answer; the run goes on without it for now")
        member.present = node in answers
        if node not in answers:
            member.reason = f"it did not answer within {within_s:g} s"
            if all_:
                raise CohortError(f"{name}: {member.reason}; check that node and launch again.")
            continue
        try:
            reply = _expect(answers[node][0], expected, name)
            if reply.member != name:
                raise ProtocolError(f"The node of {name} answered as {reply.member}.")
        except RefusedError as fault:
            if all_:
                raise
            member.reason = str(fault)
            work.observer.note(f"{name} is left out of this step: {fault}")
            continue
        member.reason = ""
        replies[name] = (reply, answers[node][1])
    return replies


def _all_of(work: _Run, request: Request) -> dict[str, Reply]:
    """Send one request to all and return all replies, of which some are `Ready`."""
    nodes = {member.node: name for name, member in work.members.items() if member.node is not None}
    answers: Mapping[int, Answer] = work.transport.exchange(
        dict.fromkeys(nodes, (request, b"")),
        kind="query",
        deadline_s=work.plan.deadline_s,
        needed=list(nodes),
        grace_s=0.0,
    )
    replies: dict[str, Reply] = {}
    for node, name in nodes.items():
        if node not in answers:
            raise CohortError(
                f"{name} did not answer within {work.plan.deadline_s:g} s; "
                "check that node and launch again."
            )
        reply = answers[node][0]
        if isinstance(reply, Refused):
            raise RefusedError(f"{name} refused: {clean(reply.reason)}")
        replies[name] = reply
    return replies


class _Leaving:
    """What a member sends wrong keeps it out of this sum, and nobody else."""

    def __init__(self, work: _Run, member: str) -> None:
        self._work, self._member = work, member

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, fault: BaseException | None, __: object) -> bool:
        if not isinstance(fault, ProtocolError):
            return False
        self._work.members[self._member].reason = str(fault)
        self._work.observer.note(f"{self._member} is left out of this step: {fault}")
        return True


def _sealed(reply: Sealed, payload: bytes) -> SealedVector:
    sealed = SealedVector.from_wire(reply.header, payload)
    if sealed.sender != reply.member:
        raise ProtocolError(f"{reply.member} sent a vector in the name of {sealed.sender}.")
    return sealed


def _expect(reply: Reply, expected: type[AnyReply], name: str) -> AnyReply:
    # whose node it is that answers is known here; what it calls itself may be another's name
    if isinstance(reply, Refused):
        raise RefusedError(f"{name} refused: {clean(reply.reason)}")
    if not isinstance(reply, expected):
        raise ProtocolError(f"The node of {name} answered another question than it was asked.")
    return reply


def _most_common(words: Iterable[Word]) -> Word:
    return Counter(words).most_common(1)[0][0]


def _reasons(work: _Run) -> str:
    """Why members are away, in their own words."""
    return " ".join(
        f"{name}: {member.reason}" for name, member in work.members.items() if member.reason
    )
