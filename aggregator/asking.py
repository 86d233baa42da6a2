"""Requests to members, and their replies; who does not answer well is away for this step."""

import math
from collections.abc import Mapping
from typing import TypeVar

from aggregator.run_state import RunState
from aggregator.showing import clean
from privacy.errors import CohortError, ProtocolError, RefusedError
from privacy.messages import (
    Refused,
    Reply,
    Request,
    SumNotice,
)
from privacy.secure_sum.graph import threshold

AnyReply = TypeVar("AnyReply", bound=Reply)


def to_everyone(
    work: RunState, request: Request, payload: bytes = b""
) -> dict[str, tuple[Request, bytes]]:
    """The same for every member that has seen all sums so far."""
    due = work.steps - isinstance(request, SumNotice)
    return {
        name: (request, payload) for name, member in work.members.items() if member.shown == due
    }


def ask_members(
    work: RunState,
    requests: Mapping[str, tuple[Request, bytes]],
    expected: type[AnyReply] | tuple[type[AnyReply], ...],
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


def ask_all(work: RunState, request: Request) -> dict[str, Reply]:
    """Send one request to all and return all replies, of which some are `Ready`."""
    nodes = {member.node: name for name, member in work.members.items() if member.node is not None}
    answers = work.transport.exchange(
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


def _expect(
    reply: Reply, expected: type[AnyReply] | tuple[type[AnyReply], ...], name: str
) -> AnyReply:
    # whose node it is that answers is known here; what it calls itself may be another's name
    if isinstance(reply, Refused):
        raise RefusedError(f"{name} refused: {clean(reply.reason)}")
    if not isinstance(reply, expected):
        raise ProtocolError(f"The node of {name} answered another question than it was asked.")
    return reply
