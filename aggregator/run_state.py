"""Where a run stands, for its coordinator, and how that is written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aggregator.inviting import Invitation
from aggregator.plan import CoordinatorPlan
from aggregator.ports import Ledger, Notebook, Observer, Transport
from aggregator.progress import FORMAT as PROGRESS_FORMAT
from aggregator.progress import Opened, Place, Progress, Shown
from privacy.errors import ProtocolError
from privacy.manifest import Manifest
from privacy.messages import SumNotice, pack
from privacy.secure_sum.cohort import Cohort, groups_of
from privacy.secure_sum.keys import KeyOffer, Roster, admit
from privacy.secure_sum.schemes import Scheme, scheme_of
from privacy.suites import suite_of

NO_MODEL = bytes(32)
COMMITTED = "round"
FINISHING = ("finishing", 0)


@dataclass(kw_only=True)
class Member:
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
class Notice:
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
class RunState:
    """What a coordinator knows of a run that goes on; `write_down` keeps what another needs.

    Attributes:
        about: As members were invited.
        countersigned: Who signed the manifest second, and the signature.
        members: By name, sorted.
        everyone: All of them as one cohort; `groups` are those whose updates are summed apart.
        known: Member's key -> entries of its ledger when the run began.
        consents: Member -> its signature below the manifest.
        public: The group key's public half, `public_kept` where it was kept, and `fingerprint`.
        history: Hash of all that members accepted so far.
        model: Hash of the members' common model; `before` that of the last update.
        architecture: Hash of the network's layout; `values`: how many weights it has.
        undone: Rounds that members undid.
        last: Payload of the last update, up and down, in bytes; `bytes_total` of all that went up.
        accepted: Member -> its signature below `history`.
        seen: Opened steps that all members have seen; `notices` are those that some have not.
        opened: A step whose sums were opened, and that is not over yet.
        survivors: Context -> whose vectors a sum of this step is over, once members vote on it.
        revealing: Contexts of sums for which members were asked to reveal.
        over: Rows that a sum is about -> whom the last one about them was over.
        done: Steps that are over, by name and round.
    """

    about: Invitation
    countersigned: tuple[str, bytes] | None
    transport: Transport
    ledger: Ledger
    observer: Observer
    notebook: Notebook | None
    roster: Roster
    scheme: Scheme
    members: dict[str, Member]
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
    notices: list[Notice] = field(default_factory=list)
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
        """What members agreed to."""
        return self.about.manifest

    @property
    def plan(self) -> CoordinatorPlan:
        """The coordinator's part of the manifest."""
        return self.about.plan

    @property
    def run(self) -> bytes:
        """The run's digest."""
        return self.roster.run


def begin(
    about: Invitation,
    countersigned: tuple[str, bytes] | None,
    offers: Sequence[KeyOffer],
    members: dict[str, Member],
    *,
    consents: Mapping[str, bytes],
    heads: Mapping[bytes, int],
    transport: Transport,
    ledger: Ledger,
    observer: Observer,
    notebook: Notebook | None,
) -> RunState:
    """Return the state before the first step, once all who take part have offered keys.

    Raises:
        ProtocolError: A key is of nobody in the manifest, or they are too few.
    """
    manifest = about.manifest
    minimum = manifest.minimum_cohort
    roster = admit(
        offers,
        run=manifest.digest(),
        directory=manifest.directory_keys(),
        minimum=minimum,
        suite=suite_of(manifest.suite),
    )
    return RunState(
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


def write_down(work: RunState) -> None:
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


class Leaving:
    """What a member sends wrong keeps it out of this sum, and nobody else."""

    def __init__(self, work: RunState, member: str) -> None:
        self._work, self._member = work, member

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, fault: BaseException | None, __: object) -> bool:
        if not isinstance(fault, ProtocolError):
            return False
        self._work.members[self._member].reason = str(fault)
        self._work.observer.note(f"{self._member} is left out of this step: {fault}")
        return True


def reasons(work: RunState) -> str:
    """Why members are away, in their own words."""
    return " ".join(
        f"{name}: {member.reason}" for name, member in work.members.items() if member.reason
    )
