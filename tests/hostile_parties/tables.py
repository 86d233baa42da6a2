"""The tables of tests/attacks, as one registry: what was thought of by hand, for either party.

There each is tried at one place and must be refused in one sentence. Here each is tried wherever a
message of its kind is sent, in any federation, together with whatever else is tried.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec
from attacks import test_hidden_records, test_hostile_coordinator, test_hostile_node
from attacks.test_hostile_node import Hostile
from hostile_parties.mutants import Words
from support.direct import Direct
from support.sums import Exchange

from privacy.messages import (
    Accepted,
    Asked,
    CountersignRequest,
    EvaluateRequest,
    FinishNotice,
    InitialModelRequest,
    Invite,
    Joined,
    KeyNotice,
    PairNotice,
    PairRequest,
    Pending,
    Ready,
    Refused,
    ReleaseRequest,
    Reply,
    RevealRequest,
    RosterNotice,
    Sealed,
    StateNotice,
    StatisticsRequest,
    StopNotice,
    SumNotice,
    SurvivorsNotice,
    TrainRequest,
)
from privacy.randomness import system_bytes
from privacy.secure_sum.keys import offer_key
from privacy.suites import suite_of

MakeRequest = Callable[[Exchange, Direct], Words]
MakeReply = Callable[[Any, bytes, Hostile], Words]


@dataclass(frozen=True, slots=True)
class Crafted:
    """A hostile message that somebody thought of.

    Attributes:
        name: What it is.
        kind: Of the honest message in whose place it is sent.
        make: Makes it; may fail where it does not apply.
        ends: Whether an honest node leaves the run when it sees it.
    """

    name: str
    kind: type
    make: Callable[..., Words]
    ends: bool = False


def requests() -> list[Crafted]:
    """Of a hostile coordinator."""
    return [
        Crafted(name, one.before, one.make, one.ends)
        for table in (test_hostile_coordinator.DEVIATIONS, test_hidden_records.deviation.all)
        for name, one in table.items()
    ]


def _also(module: object, names: Sequence[str], kind: type) -> list[Crafted]:
    return [
        Crafted(name.removeprefix("_").replace("_", " "), kind, getattr(module, name))
        for name in names
    ]


def replies() -> list[Crafted]:
    """Of a hostile member, whose name is `mill`."""
    table = [
        Crafted(name, one.instead_of, one.make)
        for name, one in test_hostile_node.DEVIATIONS.items()
        if name not in {"silence", "no message at all"}
    ]
    for kind, names in (
        (
            Sealed,
            (
                "_shares_of_no_one_seed",
                "_boxes_that_three_cannot_open",
                "_a_commitment_to_another_seed",
                "_a_wrong_tag",
                "_noise",
            ),
        ),
        (
            Joined,
            (
                "_consent_to_another_run",
                "_consent_for_another_purpose",
                "_consent_of_another_key",
            ),
        ),
        (Accepted, ("_another_model", "_another_history", "_a_signature_that_does_not_hold")),
    ):
        table += _also(test_hostile_node, names, kind)
    return [*table, Crafted("a second key offer", Joined, _a_second_offer)]


def _a_second_offer(reply: Joined, payload: bytes, by: Hostile) -> Words:
    """Another exchange key for the same run, signed as it should be: two offers of one member."""
    session = by.node._sessions[by.run]
    manifest = session.manifest
    _, offer = offer_key(
        by.node._signing.voice(manifest.suite),
        reply.member,
        run=by.run,
        directory=manifest.directory_keys(),
        entropy=system_bytes,
        suite=suite_of(manifest.suite),
    )
    return msgspec.structs.replace(reply, offer=offer.to_bytes()), payload


# -- what fits nowhere ------------------------------------------------------------------------


def out_of_turn(at: Exchange, run: Direct, draw: Random) -> list[tuple[str, Words]]:
    """Each kind of request where another one is due, made of what the coordinator knows."""
    digest = run.manifest.digest()
    asked = [request for _, request, _ in at.transport.asked]
    accepted = next((one.accepted for one in reversed(asked) if isinstance(one, Asked)), {})
    latest: dict[type, Any] = {type(request): request for request in asked}
    sums = [one for one in asked if isinstance(one, SurvivorsNotice)]
    context = draw.choice(sums).context if sums else bytes(32)
    survivors = draw.choice(sums).survivors if sums else tuple(run.manifest.directory)
    votes = draw.choice([one.votes for one in asked if isinstance(one, RevealRequest)] or [{}])
    whole = run.manifest.to_bytes()
    number = draw.choice((0, 1, 2, 3, 99))
    fits: list[Any] = [
        StatisticsRequest(run=digest, accepted=accepted, stage=number),
        InitialModelRequest(run=digest, accepted=accepted),
        TrainRequest(run=digest, accepted=accepted, round=number),
        EvaluateRequest(
            run=digest,
            accepted=accepted,
            round=number,
            part=draw.choice(("watch", "test", "personal", "train")),
        ),
        FinishNotice(run=digest, accepted=accepted),
        ReleaseRequest(run=digest, context=context, survivors=survivors, votes=votes),
        RevealRequest(
            run=digest,
            context=context,
            survivors=survivors,
            votes=votes,
            cosignatures={},
            boxes={},
        ),
        PairRequest(run=digest),
        PairNotice(run=digest, keys={}),
        RosterNotice(run=digest, offers=()),
        KeyNotice(
            run=digest,
            fingerprint=bytes(32),
            public=b"",
            carrier=b"",
            secret=b"",
            signature=bytes(64),
        ),
        SumNotice(run=digest, step="update", round=number, parts=()),
        Invite(manifest=whole, signature=bytes(64)),
        CountersignRequest(manifest=whole, signature=bytes(64)),
        StopNotice(run=draw.choice((digest, bytes(32)))),
    ]
    if SurvivorsNotice in latest:
        one = latest[SurvivorsNotice]
        fits.append(one)
        state = one.record.state
        fits.append(StateNotice(origin=run.manifest.ledger["origin"], state=state))
    return [
        (f"{type(one).__name__} where {type(at.request).__name__} is due", (one, b""))
        for one in fits
        if type(one) is not type(at.request)
    ]


def other_answers(reply: Reply) -> list[tuple[str, Words]]:
    """What a node says in place of that, of another kind."""
    member = reply.member
    kind = type(reply).__name__
    found: list[Any] = [
        Ready(member=member),
        Pending(member=member, reason="a person decides"),
        Refused(member=member, reason="no\x1b[2J\nand never\u202e" * 50),
        Refused(member="nobody", reason=""),
    ]
    return [
        (f"{type(one).__name__} in place of {kind}", (one, b""))
        for one in found
        if type(one) is not type(reply)
    ]
