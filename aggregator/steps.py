"""One step of a run: members are asked, their sums are opened, and shown to all of them."""

import json
from collections.abc import Callable, Mapping, Sequence

from aggregator.asking import ask_members, to_everyone
from aggregator.opening import OpenedStep, opened_step, signatures_by_member
from aggregator.progress import Opened
from aggregator.returning import bring_up_to_date
from aggregator.run_state import Leaving, Notice, RunState, reasons, write_down
from privacy.canonical import canonical_json
from privacy.errors import CohortError, NotVerifiedError
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.messages import Accepted, Sealed, SumNotice, SumPart, SumRequest
from privacy.secure_sum.graph import threshold
from privacy.suites.voice import identity_half
from privacy.sum_context import ACCEPTED_DOMAIN, extend_history


def run_step(
    work: RunState, name: str, ask: Callable[..., SumRequest], round_index: int, **about: object
) -> None:
    """Ask for sealed vectors, open their sums, put them on record and show them; once."""
    if (name, round_index) in work.done:
        return
    if work.opened is None:
        bring_up_to_date(work)
        if name == UPDATE:
            work.before = work.model
        request = ask(run=work.run, accepted=work.accepted, **about)
        replies = ask_members(
            work,
            to_everyone(work, request),
            Sealed,
            _kind(name),
            all_=name == STATISTICS,
            quorum=True,
            fewest=max((len(work.survivors.get(one, ())) for one in work.revealing), default=0),
        )
        _prepare(work, opened_step(work, name, round_index, replies))
    _show(work)
    work.done.append((name, round_index))
    work.survivors.clear()
    work.revealing.clear()
    write_down(work)


def _kind(name: str) -> str:
    return {STATISTICS: "query", UPDATE: "train"}.get(name, "evaluate")


def _prepare(work: RunState, opened: OpenedStep) -> None:
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
            votes=signatures_by_member(one.opened.votes),
            length=len(one.opened.payload),
        )
        for one in opened.sums
    )
    notice = SumNotice(run=work.run, step=opened.name, round=opened.round, parts=parts)
    work.notices.append(Notice(notice, b"".join(one.opened.payload for one in opened.there)))
    work.opened = Opened(opened.name, opened.round, records, opened.bytes_up, opened.bytes_down)
    if opened.name == UPDATE:
        work.last = opened.bytes_up, opened.bytes_down
    write_down(work)


def _show(work: RunState) -> None:
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
    answers = ask_members(
        work,
        to_everyone(work, newest.notice, newest.payload),
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
            f"sum. {reasons(work)}"
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
    work: RunState,
    answers: Mapping[str, tuple[Accepted, bytes]],
    shown: Sequence[tuple[bytes, Sequence[str], bytes]],
) -> tuple[tuple[bytes, bytes, bool], dict[str, bytes]]:
    """What most members say follows from the sums, and who says it, with signatures."""
    agreed: dict[tuple[bytes, bytes, bool], dict[str, bytes]] = {}
    for member, (reply, _) in answers.items():
        with Leaving(work, member):
            history = extend_history(work.history, shown, model=reply.model, kept=reply.kept)
            work.roster.require_signed(member, ACCEPTED_DOMAIN, history, reply.signature)
            words = (history, reply.model, reply.kept)
            agreed.setdefault(words, {})[member] = reply.signature
    if not agreed:
        step = work.opened.step if work.opened else ""
        raise CohortError(f"No member accepted the {step} sum. {reasons(work)}")
    return max(agreed.items(), key=lambda words: len(words[1]))


def _record_accepted(work: RunState, opened: Opened, *, kept: bool) -> None:
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
