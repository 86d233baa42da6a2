"""One run, told in order; the coordinator's half.

invite -> roster -> statistics -> initial model -> rounds -> evaluation -> finish. Each sum is
opened over the whole roster or not at all, recorded with its receipt, checked, and only then used.
What the coordinator handles is a sum, a digest, or a vector that everybody may see.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aggregator.plan import CoordinatorPlan, parse_plan
from aggregator.ports import Ledger, Observer, Transport
from aggregator.server_step import initial_state, mean_of_last, step
from privacy import fixed_point
from privacy.errors import CohortError, ProtocolError, RefusedError
from privacy.fixed_point import FixedPoint
from privacy.manifest import Manifest
from privacy.messages import (
    EvaluateRequest,
    FinishNotice,
    InitialModel,
    InitialModelRequest,
    Invite,
    Joined,
    Ready,
    Refused,
    Reply,
    Request,
    RosterNotice,
    Sealed,
    StatisticsRequest,
    TrainRequest,
    Vector,
    vector_digest,
)
from privacy.secure_sum import Opener, SealedVector, SumContext
from privacy.secure_sum.clear import ClearOpener
from privacy.secure_sum.keys import KeyOffer, Roster, admit
from privacy.secure_sum.masked import MaskedOpener
from privacy.tally import TALLY_CLIP, metrics, tally_length

Floats = NDArray[np.float64]
AnyReply = TypeVar("AnyReply", Joined, Ready, InitialModel, Sealed)
Known = TypeVar("Known")
SMALLEST_WEIGHT = 1e-3  # of all members together; below it nothing was learnt


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run leaves behind.

    Attributes:
        model: Shape (d,), the final global model.
        initial: Shape (d,), what the members started from.
        architecture: Hex digest of the network's layout, equal at all members.
        statistics: The opened sums of feature statistics, in order.
        metrics: Of the final model on the members' test rows.
        personal: The same for the members' fine-tuned copies; empty unless the run asked.
        bytes_up: Sealed bytes that one member sent in one round of training.
        bytes_down: Bytes of the model that one member was sent in one round.
        bytes_total: Sealed bytes that one member sent in the whole run.
    """

    model: NDArray[np.float32]
    initial: NDArray[np.float32]
    architecture: str
    statistics: tuple[Floats, ...]
    metrics: Mapping[str, float]
    personal: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    bytes_total: int


@dataclass(kw_only=True)
class _Run:
    manifest: Manifest
    plan: CoordinatorPlan
    transport: Transport
    ledger: Ledger
    address: dict[str, int] = field(default_factory=dict)
    roster: Roster | None = None
    opener: Opener | None = None
    sealed_bytes: int = 0

    @property
    def digest(self) -> bytes:
        return self.manifest.digest()

    @property
    def members(self) -> tuple[str, ...]:
        return _known(self.roster).members


def run(
    manifest: Manifest,
    signature: bytes,
    *,
    transport: Transport,
    ledger: Ledger,
    observer: Observer,
) -> RunResult:
    """Carry out a run.

    Args:
        manifest: What was agreed.
        signature: The launcher's, over the manifest's bytes.
        transport: Reaches the nodes.
        ledger: Records.
        observer: Is told.

    Raises:
        RefusedError: A member refused, in its own words, or a check failed.
        CohortError: Fewer members than the manifest's minimum.
    """
    plan = parse_plan(dict(manifest.coordinator_settings))
    work = _Run(manifest=manifest, plan=plan, transport=transport, ledger=ledger)
    ledger.record(
        "run.started",
        {
            "run": manifest.run,
            "name": manifest.name,
            "task": manifest.task,
            "members": list(manifest.members),
            "manifest": work.digest.hex(),
            "protection": manifest.protection,
        },
    )
    observer.step("inviting the members")
    _gather(work, signature)
    observer.step("summing feature statistics")
    statistics = _statistics(work)
    observer.step("agreeing on the initial model")
    initial, architecture = _initial_model(work, statistics[-1])
    observer.step("training")
    model, up = _rounds(work, initial, observer)
    observer.step("evaluating")
    result = _evaluate(work, model, "test", plan.rounds)
    personal = _evaluate(work, model, "personal", plan.rounds) if plan.personal else {}
    _tell(work, lambda _: FinishNotice(run=work.digest), model, Ready, kind="query")
    ledger.record(
        "run.finished",
        {"run": manifest.run, "rounds": plan.rounds, "model": vector_digest(model).hex()},
    )
    return RunResult(
        model=model,
        initial=initial,
        architecture=architecture,
        statistics=statistics,
        metrics=result,
        personal=personal,
        bytes_up=up,
        bytes_down=model.nbytes,
        bytes_total=work.sealed_bytes,
    )


def _gather(work: _Run, signature: bytes) -> None:
    """Invite every node, collect its signed key, and show all keys to all."""
    manifest = work.manifest
    invite = Invite(manifest=manifest.to_bytes(), signature=signature)
    nodes = work.transport.nodes()
    answers = work.transport.exchange(
        dict.fromkeys(nodes, (invite, None)), kind="query", deadline_s=work.plan.deadline_s
    )
    offers: list[KeyOffer] = []
    for node, (reply, _) in answers.items():
        if isinstance(reply, Refused) and reply.member not in manifest.directory:
            continue  # a node that is online, but not asked for
        joined = _expect(reply, Joined)
        offer = KeyOffer.from_bytes(joined.offer)
        if offer.member in work.address:
            raise ProtocolError(f"Two nodes say that they are {offer.member}; keep one.")
        work.address[offer.member] = node
        offers.append(offer)
    absent = sorted(set(manifest.members) - set(work.address))
    if absent:
        raise CohortError(
            f"{', '.join(absent)} did not answer; start the missing nodes and launch again."
        )
    work.roster = admit(
        offers,
        run=work.digest,
        directory=manifest.directory_keys(),
        minimum=manifest.minimum_cohort,
    )
    masked = manifest.protection == "masked"
    work.opener = MaskedOpener(work.roster) if masked else ClearOpener(work.roster)
    packed = tuple(offer.to_bytes() for offer in offers)
    _tell(work, lambda _: RosterNotice(run=work.digest, offers=packed), None, Ready, kind="query")


def _statistics(work: _Run) -> tuple[Floats, ...]:
    opened: list[Floats] = []
    for stage in range(work.plan.statistics_stages):
        request = StatisticsRequest(run=work.digest, stage=stage)
        before = opened[-1] if opened else None
        total, _ = _sum(
            work,
            request,
            before,
            step_name="statistics",
            round_index=stage,
            encoding=fixed_point.wide(len(work.members)),
            length=None,
            kind="query",
        )
        opened.append(total)
    return tuple(opened)


def _initial_model(work: _Run, statistics: Floats) -> tuple[NDArray[np.float32], str]:
    """All members make the same model from one seed and one sum; one of them sends it."""
    sender = work.members[0]
    replies = _tell(
        work,
        lambda member: InitialModelRequest(run=work.digest, send=member == sender),
        statistics,
        InitialModel,
        kind="query",
    )
    layouts = {(r.architecture, r.digest, r.length) for r, _ in replies.values()}
    if len(layouts) != 1:
        raise ProtocolError(
            "The members do not start from one model; they must run the same version of tacit."
        )
    architecture, digest, _ = layouts.pop()
    vector = replies[sender][1]
    if vector is None or vector.dtype != np.float32 or vector_digest(vector) != digest:
        raise ProtocolError(f"The initial model that {sender} sent is not the agreed one.")
    return np.asarray(vector, dtype=np.float32), architecture.hex()


def _rounds(
    work: _Run, initial: NDArray[np.float32], observer: Observer
) -> tuple[NDArray[np.float32], int]:
    plan = work.plan
    state = initial_state(initial)
    model = initial
    history = [initial]
    encoding = fixed_point.narrow(len(work.members), clip=plan.clip)
    up = 0
    for index in range(1, plan.rounds + 1):
        started = time.perf_counter()
        total, up = _sum(
            work,
            TrainRequest(run=work.digest, round=index),
            model,
            step_name="update",
            round_index=index,
            encoding=encoding,
            length=model.size + 1,
            kind="train",
        )
        state = step(state, _mean_change(total, plan.clip), plan.server)
        before, model = model, state.model.astype(np.float32)
        history = [*history, model][-plan.average_last :]
        work.ledger.record(
            "round.committed",
            {
                "run": work.manifest.run,
                "round": index,
                "model_before": vector_digest(before).hex(),
                "model_after": vector_digest(model).hex(),
            },
        )
        seconds = time.perf_counter() - started
        watched: Mapping[str, float] = {}
        if index % plan.watch_every == 0 or index == plan.rounds:
            watched = _evaluate(work, mean_of_last(history, plan.average_last), "watch", index)
        observer.round(
            index,
            watched,
            {"seconds": seconds, "bytes_up": up, "bytes_down": model.nbytes},
        )
    return mean_of_last(history, plan.average_last), up


def _mean_change(total: Floats, clip: float) -> Floats:
    """The weighted mean: the sum of weight * change over the sum of weights."""
    weight = float(total[-1]) / clip
    if not weight > SMALLEST_WEIGHT:
        raise ProtocolError("The members' weights add up to nothing; the round is not used.")
    mean = total[:-1] / weight
    # a mean of vectors within the clip is within it, up to the rounding of the fixed point
    if np.abs(mean).max() > clip * 1.01:
        raise ProtocolError("The opened mean is beyond every member's clip; the round is not used.")
    return mean


def _evaluate(
    work: _Run, model: NDArray[np.float32], part: str, round_index: int
) -> Mapping[str, float]:
    plan = work.plan
    total, _ = _sum(
        work,
        EvaluateRequest(run=work.digest, round=round_index, part=part),
        model,
        step_name=f"evaluate {part}",
        round_index=round_index,
        encoding=fixed_point.wide(len(work.members), clip=TALLY_CLIP),
        length=tally_length(plan.tally, plan.groups),
        kind="evaluate",
    )
    return metrics(plan.tally, total, plan.groups, target_unit=plan.target_unit)


def _sum(
    work: _Run,
    request: Request,
    vector: Vector | None,
    *,
    step_name: str,
    round_index: int,
    encoding: FixedPoint,
    length: int | None,
    kind: str,
) -> tuple[Floats, int]:
    """Ask every member for a sealed vector, open the sum of all, record it with its receipt.

    Returns:
        The sum, and the bytes that one member sent.
    """
    replies = _tell(work, lambda _: request, vector, Sealed, kind=kind)
    lengths = {reply.length for reply, _ in replies.values()}
    if len(lengths) != 1 or (length is not None and lengths != {length}):
        raise ProtocolError(
            f"The members' vectors for {step_name} have different lengths; "
            "they must keep the same contract."
        )
    size = lengths.pop()
    roster = _known(work.roster)
    context = SumContext(
        run=work.digest,
        step=step_name,
        round=round_index,
        schema=encoding.schema(size),
        model=bytes(32) if vector is None else vector_digest(vector),
        roster=roster.digest,
    )
    sealed = [_sealed(reply, payload) for reply, payload in replies.values()]
    words = _known(work.opener).open_sum(sealed, context=context)
    total = encoding.decode_sum(words, size, len(sealed))
    work.ledger.record(
        "sum.opened",
        {
            "run": work.manifest.run,
            "step": step_name,
            "round": round_index,
            "context": context.digest().hex(),
            "members": list(roster.members),
            "aggregate": hashlib.sha256(words.tobytes()).hexdigest(),
        },
    )
    work.ledger.record(
        "receipt",
        {
            "run": work.manifest.run,
            "step": step_name,
            "round": round_index,
            "unit": work.manifest.unit,
            "mechanism": "none",
            "protection": work.manifest.protection,
            "values": size,
            "members": list(roster.members),
        },
    )
    sent = max(len(vector.payload) for vector in sealed)
    work.sealed_bytes += sent
    return total, sent


def _sealed(reply: Sealed, payload: Vector | None) -> SealedVector:
    if payload is None or payload.dtype != np.uint64:
        raise ProtocolError(f"{reply.member} sent no sealed numbers.")
    sealed = SealedVector.from_wire(reply.header, payload.tobytes())
    if sealed.sender != reply.member:
        raise ProtocolError(f"{reply.member} sent a vector in the name of {sealed.sender}.")
    return sealed


def _tell(
    work: _Run,
    request: Callable[[str], Request],
    vector: Vector | None,
    expected: type[AnyReply],
    *,
    kind: str,
) -> dict[str, tuple[AnyReply, Vector | None]]:
    """One request to every member of the run; every reply, by member."""
    answers = work.transport.exchange(
        {node: (request(member), vector) for member, node in work.address.items()},
        kind=kind,
        deadline_s=work.plan.deadline_s,
    )
    replies: dict[str, tuple[AnyReply, Vector | None]] = {}
    for member, node in work.address.items():
        if node not in answers:
            raise CohortError(
                f"{member} did not answer within {work.plan.deadline_s:g} s; "
                "check that node and launch again."
            )
        answer, payload = answers[node]
        reply = _expect(answer, expected)
        if reply.member != member:
            raise ProtocolError(f"The node of {member} answered as {reply.member}.")
        replies[member] = (reply, payload)
    return replies


def _expect(reply: Reply, expected: type[AnyReply]) -> AnyReply:
    if isinstance(reply, Refused):
        raise RefusedError(f"{reply.member} refused: {reply.reason}")
    if not isinstance(reply, expected):
        raise ProtocolError("A node answered another question than it was asked.")
    return reply


def _known(value: Known | None) -> Known:
    if value is None:
        raise RuntimeError("used before the members were gathered")
    return value
