"""How a step's sums are opened: gathered, put on record, cosigned, and only then opened.

What a sum costs is in the ledger before anything of it is opened, and members help to open it only
where they saw it there and more than two thirds of them cosigned that.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aggregator.asking import ask_members
from aggregator.ports import Recorded, State
from aggregator.run_state import Leaving, RunState, reasons, write_down
from aggregator.showing import TRIES, require_cosigned
from privacy.errors import CohortError, ProtocolError
from privacy.ledger.entry import ROWS, UPDATE
from privacy.ledger.head import HEAD_DOMAIN, LedgerHead, head_message
from privacy.messages import (
    SEALED_BEFORE,
    Cosigned,
    RecordedSum,
    Released,
    ReleaseRequest,
    Request,
    Revealed,
    RevealRequest,
    Sealed,
    SignedState,
    SurvivorsNotice,
    Voted,
)
from privacy.secure_sum import Answer as Shares
from privacy.secure_sum import Release, SealedVector, Vote
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.gathering import Gathering, OpenedSum
from privacy.secure_sum.graph import threshold
from privacy.suites.voice import identity_half
from privacy.sum_context import SumContext, payload_digest

Word = TypeVar("Word", bound=Hashable)
VOTE_S = 120.0
"""Most that members have for the signatures of a step; other runs wait meanwhile."""
SHORTEST_S = 1.0


@dataclass(frozen=True, slots=True)
class CohortSum:
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
class OpenedStep:
    """A step's sums as they were opened; None where a group's was given up."""

    name: str
    round: int
    values: int
    schema: bytes
    model: bytes
    sums: tuple[CohortSum | None, ...]
    bytes_up: int

    @property
    def there(self) -> tuple[CohortSum, ...]:
        """The sums of the groups that were not given up."""
        return tuple(one for one in self.sums if one is not None)

    @property
    def bytes_down(self) -> int:
        """Payload of its sums."""
        return sum(len(one.opened.payload) for one in self.there)


def opened_step(
    work: RunState, name: str, round_index: int, replies: Mapping[str, tuple[Sealed, bytes]]
) -> OpenedStep:
    """Return a step's sums; each is signed for by its cohort, or None where that was given up.

    Raises:
        CohortError: Too few members are left for any.
    """
    if not replies:
        raise CohortError(f"No member sent its {name} of round {round_index}. {reasons(work)}")
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
    step = OpenedStep(name, round_index, length, schema, model, tuple(sums), up)
    for member, where in work.members.items():
        if not any(member in one.opened.survivors for one in step.there):
            where.absences += 1
    return step


def _gathered(
    work: RunState, context: SumContext, replies: Mapping[str, tuple[Sealed, bytes]]
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
            with Leaving(work, member):
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
    work: RunState,
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


def _opened(work: RunState, one: _Gathered, cosignatures: Mapping[str, bytes]) -> CohortSum | None:
    """Open one cohort's sum; None where a group's has to be given up."""
    try:
        opened = _reveal(work, one.gathering, cosignatures)
    except ProtocolError as fault:
        _give_up(work, one.context, fault)
        return None
    rows = ROWS.get(one.context.step)
    if rows is not None:
        work.over[rows] = opened.survivors
    return CohortSum(one.cohort, one.gathering.context, opened, payload_digest(opened.payload))


def _give_up(work: RunState, context: SumContext, fault: ProtocolError) -> None:
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
        raise type(fault)(f"{fault}. {reasons(work)}".strip()) from None
    work.observer.note(f"a group of round {context.round} was given up: {fault}")


def _reserve(
    work: RunState,
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
    work: RunState,
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
            write_down(work)
        for member, vote in _votes(work, gathering, reserved, left_s).items():
            with Leaving(work, member):
                public = work.roster.directory[member]
                require_cosigned(member, public, reserved.state, vote.cosignature)
                work.ledger.note_witnessed(public, reserved.state.size)
                cosignatures[member] = vote.cosignature
                gathering.take_vote(Vote(member, vote.signature))
        here = [name for name in gathering.survivors if work.members[name].present]
        if gathering.leave_silent_out(here):
            continue
        asked: dict[str, tuple[Request, bytes]] = {
            member: (
                ReleaseRequest(
                    run=work.run,
                    context=gathering.context,
                    survivors=gathering.survivors,
                    votes=signatures_by_member(gathering.votes_for(member)),
                ),
                b"",
            )
            for member in gathering.unreleased
        }
        for member, (masks, _) in ask_members(
            work, asked, Released, "query", within_s=left_s()
        ).items():
            with Leaving(work, member):
                gathering.take_release(Release(member, masks.seeds, masks.signature))
        if not gathering.leave_unreleased_out():
            return


def _votes(
    work: RunState, gathering: Gathering, reserved: Recorded, left_s: Callable[[], float]
) -> dict[str, Voted]:
    """What members answer who see the sum on record.

    Who remembers more of the ledger than was known here, as a run ended before its answer came,
    says so, and is shown it again with the proof from there.
    """
    votes: dict[str, Voted] = {}
    due: Collection[str] = gathering.survivors
    for _ in range(TRIES):
        shown = {member: _shown(work, member, reserved.state) for member in due}
        asked: dict[str, tuple[Request, bytes]] = {
            member: (
                SurvivorsNotice(
                    run=work.run,
                    context=gathering.context,
                    survivors=gathering.survivors,
                    record=RecordedSum(
                        leaf=reserved.leaf, index=reserved.index, path=reserved.path, state=state
                    ),
                ),
                b"",
            )
            for member, state in shown.items()
        }
        answers: dict[str, tuple[Voted | Cosigned, bytes]] = ask_members(
            work, asked, (Voted, Cosigned), "query", within_s=left_s(), quorum=True
        )
        again: list[str] = []
        for member, (reply, _) in answers.items():
            if isinstance(reply, Voted):
                votes[member] = reply
                continue
            with Leaving(work, member):
                if not shown[member].old < reply.witnessed <= reserved.state.size:
                    raise ProtocolError(f"{member} remembers another ledger; compare both copies")
                work.members[member].witnessed = reply.witnessed
                again.append(member)
        due = again
        if not due:
            break
    for member in due:
        with Leaving(work, member):
            raise ProtocolError(f"{member} remembers more of the ledger each time it is asked")
    return votes


def _reveal(work: RunState, gathering: Gathering, cosignatures: Mapping[str, bytes]) -> OpenedSum:
    """Hear the shares that open a cohort's sum, and open it."""
    if gathering.needs_answers:
        if gathering.context not in work.revealing:
            # from the first answer on, no smaller set can be signed any more
            work.revealing.add(gathering.context)
            write_down(work)
        asked = {
            member: (
                RevealRequest(
                    run=work.run,
                    context=gathering.context,
                    survivors=gathering.survivors,
                    votes=signatures_by_member(gathering.votes_for(member)),
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
        for member, (answer, _) in ask_members(work, asked, Revealed, "query", quorum=True).items():
            with Leaving(work, member):
                gathering.take_answer(Shares(member, answer.shares, answer.signature))
    for fault in gathering.faults:
        work.observer.note(fault)
    return gathering.open()


def _shown(work: RunState, member: str, state: State) -> SignedState:
    """The ledger's state as a member needs to see it: with the proof from what it cosigned last."""
    # what it says of itself, or what it signed in another run meanwhile
    told = work.members[member].witnessed
    old = max(told, work.ledger.witnessed(work.roster.directory[member]))
    return SignedState(checkpoint=state.note, old=old, growth=work.ledger.growth(old, state))


def _keep(work: RunState, state: State, cosignatures: Mapping[str, bytes]) -> None:
    directory = work.roster.directory
    work.ledger.cosigned(
        work.manifest.run,
        state,
        {member: (directory[member], signature) for member, signature in cosignatures.items()},
    )


def signatures_by_member(votes: Iterable[Vote]) -> dict[str, bytes]:
    """Of votes for one sum."""
    return {vote.member: vote.signature for vote in votes}


def _require_size(work: RunState, member: str, size_bytes: int, common_bytes: int) -> None:
    """Leave out whose payload has another size than most; only ciphertexts of `ckks` vary."""
    if size_bytes != common_bytes and work.scheme.name != "ckks":
        raise ProtocolError(f"{member} sent {size_bytes} bytes where others sent {common_bytes}")


def _require_head(
    work: RunState,
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


def _sealed(reply: Sealed, payload: bytes) -> SealedVector:
    sealed = SealedVector.from_wire(reply.header, payload)
    if sealed.sender != reply.member:
        raise ProtocolError(f"{reply.member} sent a vector in the name of {sealed.sender}.")
    return sealed


def _most_common(words: Iterable[Word]) -> Word:
    return Counter(words).most_common(1)[0][0]
