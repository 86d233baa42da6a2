"""Any acts in any order: what the coordinator's check lets in, everybody's fold lets in, and the
second verifier says the same; and nothing that was signed can be changed afterwards."""

from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.membership import FOUNDER, Acts, digest, public

from privacy import verify_alone
from privacy.errors import NotVerifiedError, RefusedError
from privacy.ledger.entry import KINDS, Entry, make_entry
from privacy.membership import Membership, after, check_next, fold

NAMES = ("amber", "birch", "cedar")
ROLES = ("operator", "bank", "manufacturer", "regulator")
Move = tuple[str, str, str, str, int]

SLOW = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def _keyed(name: str, number: int) -> str:
    return name if number == 0 else f"{name} {number}"


def _body(acts: Acts, move: Move) -> Mapping[str, Any]:
    kind, name, role, by, number = move
    key = _keyed(name, number)
    body: Mapping[str, Any]
    match kind:
        case "federation.begun":
            body = acts.begun(approvals=number + 1)
        case "member.invited":
            expires_ms = acts.now_ms + 4000 * (number + 1)
            body = acts.invited(name, role, ticket=key, by=by, expires_ms=expires_ms)
        case "member.requested":
            body = acts.requested(name, role, ticket=key, key=key)
        case "member.approved":
            body = acts.approved(name, by)
        case "member.certified":
            body = acts.certified(name, number=number)
        case "member.renewed":
            body = acts.renewed(name, _keyed(name, number + 1))
        case _:
            body = acts.revoked(name, by=by)
    return body


KINDS_MOVED = (
    "federation.begun",
    "member.invited",
    "member.requested",
    "member.approved",
    "member.approved",
    "member.certified",
    "member.certified",
    "member.renewed",
    "member.revoked",
    "member.revoked",
    "join",
    "join",
    "join",
)
MOVES = st.tuples(
    st.sampled_from(KINDS_MOVED),
    st.sampled_from([*NAMES, FOUNDER]),
    st.sampled_from(ROLES),
    st.sampled_from([FOUNDER, FOUNDER, FOUNDER, *NAMES, "mallory"]),
    st.integers(0, 2),
)


def _bodies(acts: Acts, move: Move) -> list[tuple[str, Mapping[str, Any]]]:
    kind, name, role, _, number = move
    if kind != "join":
        return [(kind, _body(acts, move))]
    # a whole way in, so that there is often somebody who takes part
    key = _keyed(name, number)
    told = (name, public(key))
    approvals = [
        ("member.approved", acts.approved(name, other, key=told[1]))
        for other in (FOUNDER, *NAMES)
        if other != name
    ]
    tls = digest("tls", key)
    return [
        ("member.invited", acts.invited(name, role, ticket=key)),
        ("member.requested", acts.requested(name, role, ticket=key, key=key)),
        *approvals,
        ("member.certified", acts.certified(name, number=number, key=told[1], tls=tls)),
    ]


def _learn(acts: Acts, kind: str, body: Mapping[str, Any]) -> None:
    """Keep by which key everybody signs now."""
    if kind in {"member.requested", "member.renewed"}:
        key = body["new" if kind == "member.renewed" else "key"]
        names = [_keyed(name, number) for name in (*NAMES, FOUNDER) for number in range(4)]
        acts.keys[body["name"]] = next(name for name in names if public(name) == key)


def _played(moves: list[Move]) -> tuple[Acts, list[Entry]]:
    """The ledger of a coordinator that checks, and the acts that it turned away."""
    acts = Acts().begin()
    membership: Membership | None = acts.membership
    refused: list[Entry] = []
    for move in moves:
        for kind, body in _bodies(acts, move):
            time_ms = acts.now_ms + 1000
            entry = make_entry(
                index=len(acts.entries), time_ms=time_ms, epoch=1, kind=kind, body=body
            )
            try:
                check_next(membership, kind, body, time_ms)
            except RefusedError:
                refused.append(entry)
                try:
                    after(membership, entry)
                except NotVerifiedError:
                    continue
                raise AssertionError("the fold takes what the check refuses") from None
            acts.forced(kind, body)
            membership = after(membership, acts.entries[-1])
            _learn(acts, kind, body)
    assert fold(acts.entries) == membership
    return acts, refused


@SLOW
@given(st.lists(MOVES, max_size=16))
def test_what_may_be_written_can_be_read(moves: list[Move]) -> None:
    acts, _ = _played(moves)
    membership = acts.membership
    names = [one.key for one in membership.active().values()]
    assert len(set(names)) == len(names)
    tls = [one.tls for one in membership.active().values()]
    assert len(set(tls)) == len(tls)
    assert membership.active().keys().isdisjoint(membership.candidates)
    for candidate in membership.candidates.values():
        assert candidate.approvals <= membership.approvers().keys()
        assert 1 <= candidate.needed <= membership.approvals
    assert {one.by for one in membership.invitations.values()} <= membership.active(
        "operator"
    ).keys()


def _alone(entries: list[Entry]) -> Any:  # noqa: ANN401 - the second verifier's own
    federation = verify_alone._Federation(verify_alone._Signatures(slow=False))
    for entry in entries:
        federation.take(verify_alone._Entry(entry.leaf()))
    return federation


@SLOW
@given(st.lists(MOVES, max_size=16))
def test_the_second_verifier_finds_the_same_participants(moves: list[Move]) -> None:
    acts, refused = _played(moves)
    membership, other = acts.membership, _alone(acts.entries)
    assert other.members() == {name: key.hex() for name, key in membership.members().items()}
    assert other.asking.keys() == membership.candidates.keys()
    assert other.open.keys() == membership.invitations.keys()
    for entry in refused:
        before = acts.entries[: entry.index]
        if entry.act in {one.act for one in before}:
            continue  # found in step 3 by that verifier
        try:
            _alone([*before, entry])
        except verify_alone._Fault:
            continue
        raise AssertionError(f"the second verifier takes {entry}")


@SLOW
@given(st.lists(MOVES, min_size=1, max_size=8), st.data())
def test_nothing_that_was_signed_may_change(moves: list[Move], data: st.DataObject) -> None:
    acts, _ = _played(moves)
    signed = [entry for entry in acts.entries if "signature" in entry.body]
    entry = data.draw(st.sampled_from(signed))
    name = data.draw(st.sampled_from(sorted(entry.body)))
    body = {**entry.body, name: _other(entry, name)}
    changed = list(acts.entries)
    changed[entry.index] = make_entry(
        index=entry.index, time_ms=entry.time_ms, epoch=1, kind=entry.kind, body=body
    )
    try:
        fold(changed)
    except NotVerifiedError:
        return
    raise AssertionError(f"{name} of {entry.kind} may change")


def _other(entry: Entry, name: str) -> object:
    """Another value that the field may have."""
    value = entry.body[name]
    candidates: tuple[object, ...] = (
        "bank" if value != "bank" else "insurer",
        f"{value}.",
        7,
        {"region": "south"},
        "ab" * 32,
        "ab" * 64,
    )
    check = KINDS[entry.kind].fields[name]
    return next(one for one in candidates if one != value and check(one))


@SLOW
@given(st.lists(MOVES, min_size=1, max_size=8), st.data())
def test_no_certificate_moves_to_another_key(moves: list[Move], data: st.DataObject) -> None:
    """The coordinator alone says which certificates there are, and never for whom."""
    acts, _ = _played(moves)
    given = [entry for entry in acts.entries if entry.kind == "member.certified"][1:]
    if not given:
        return
    entry = data.draw(st.sampled_from(given))
    name = data.draw(st.sampled_from(["name", "key", "tls"]))
    changed = list(acts.entries)
    changed[entry.index] = make_entry(
        index=entry.index,
        time_ms=entry.time_ms,
        epoch=1,
        kind=entry.kind,
        body={**entry.body, name: "mallory" if name == "name" else digest("mallory")},
    )
    try:
        fold(changed)
    except NotVerifiedError:
        return
    raise AssertionError(f"{name} of a certificate may change")
