"""One run, told in order; the coordinator's half.

invite -> roster -> group key -> statistics -> initial model -> rounds -> evaluation -> finish

It carries messages and adds up what it cannot read apart; with `sealed` it cannot read the sum
either. It holds no model: members step their own copies, and tell only hashes. What a sum costs is
in its ledger before anything of it is opened, and members help to open it only where they saw it
there and more than two thirds of them cosigned that. Members that are away are asked again with the
next step, and brought up to date first.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aggregator.asking import ask_all, ask_members, to_everyone
from aggregator.inviting import Invitation, countersignature, invite
from aggregator.plan import parse_plan
from aggregator.ports import Ledger, Notebook, Observer, Transport
from aggregator.returning import bring_up_to_date, resume
from aggregator.run_state import COMMITTED, FINISHING, Member, RunState, begin, write_down
from aggregator.showing import show_state, speaks_for
from aggregator.steps import run_step
from privacy.errors import ProtocolError
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.manifest import Manifest
from privacy.messages import (
    EvaluateRequest,
    FinishNotice,
    InitialModel,
    InitialModelRequest,
    KeyHeld,
    KeyMade,
    KeyNotice,
    PairNotice,
    PairRequest,
    PairsMade,
    Ready,
    Reply,
    RosterNotice,
    StatisticsRequest,
    StopNotice,
    TrainRequest,
)
from privacy.secure_sum.graph import threshold
from privacy.secure_sum.pair_keys import pairs_due
from privacy.sum_context import first_history

DISMISS_S = 10.0


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
    work = resume(about, transport, ledger, observer, notebook)
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
        run_step(work, STATISTICS, StatisticsRequest, stage, stage=stage)
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
        write_down(work)
    bring_up_to_date(work)
    told = ask_members(
        work, to_everyone(work, FinishNotice(run=work.run, accepted=work.accepted)), Ready, "query"
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
) -> RunState:
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
    members = {name: Member(node=one.node) for name, one in agreed.items()}
    offers = [one.offer for one in agreed.values()]
    consents = {name: one.consent for name, one in agreed.items()}
    work = begin(
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
    write_down(work)
    return work


def _agree_on_key(work: RunState) -> None:
    """Show all signed keys to all, and let the members share a group key; once."""
    if work.fingerprint:
        return
    for member, consent in sorted(work.consents.items()):
        work.ledger.record(
            "run.consented",
            {"run": work.manifest.run, "member": member, "signature": consent.hex()},
        )
    packed = tuple(offer.to_bytes() for offer in work.roster.offers)
    _share_key(work, ask_all(work, RosterNotice(run=work.run, offers=packed)))
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
    write_down(work)


# -- what is written down --------------------------------------------------------------------


def _share_key(work: RunState, replies: Mapping[str, Reply]) -> None:
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
    held = ask_members(
        work, {name: (n, b"") for name, n in notices.items()}, KeyHeld, "query", all_=True
    )
    for member, (reply, _) in held.items():
        if reply.fingerprint != maker.fingerprint:
            raise ProtocolError(
                f"{member} holds another key than {maker.member} told of; one of them is at fault."
            )


def _share_pairs(work: RunState) -> None:
    """Bring each member what others sealed to it; whether all of it is there is its own to say."""
    asked = dict.fromkeys(work.members, (PairRequest(run=work.run), b""))
    made = {
        member: reply.keys
        for member, (reply, _) in ask_members(work, asked, PairsMade, "query", all_=True).items()
    }
    notices = {
        member: PairNotice(
            run=work.run,
            keys={sender: keys[member] for sender, keys in made.items() if member in keys},
        )
        for member in work.members
    }
    ask_members(work, {name: (n, b"") for name, n in notices.items()}, Ready, "query", all_=True)


def _initial_model(work: RunState) -> None:
    """All members make the same model from one seed and one sum; only its hash is told."""
    if work.values:
        return
    bring_up_to_date(work)
    request = InitialModelRequest(run=work.run, accepted=work.accepted)
    replies = [
        reply
        for reply, _ in ask_members(
            work, to_everyone(work, request), InitialModel, "query", all_=True
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
    write_down(work)


# -- rounds ----------------------------------------------------------------------------------


def _rounds(work: RunState) -> None:
    plan = work.plan
    for index in range(1, plan.rounds + 1):
        if (COMMITTED, index) in work.done:
            continue
        run_step(work, UPDATE, TrainRequest, index, round=index)
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
        write_down(work)


def _after_update(work: RunState, index: int) -> bytes:
    """Hash of the model after a round, as its members accepted it; a validation may undo it."""
    about = {"run": work.manifest.run, "step": UPDATE, "round": index}
    accepted = work.ledger.recorded("sum.accepted", about)
    return work.model if accepted is None else bytes.fromhex(str(accepted["model"]))


def _evaluate(work: RunState, part: str, round_index: int) -> bool:
    """Sum the members' tallies of `part`; whether that was possible.

    Members refuse one that would differ from another by a few members.
    A validation that cannot be had is left out; the run goes on.
    """
    name = f"evaluate {part}"
    try:
        run_step(work, name, EvaluateRequest, round_index, round=round_index, part=part)
    except ProtocolError as fault:
        if work.opened is not None:
            raise
        work.observer.note(f"{part} of round {round_index} was not evaluated: {fault}")
        return False
    return True
