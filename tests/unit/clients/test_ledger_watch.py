"""What a node holds a record of a sum against, and whom it counts under it; without runs."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.records import Hand
from support.sums import Group, group

from clients.ledger_watch import LedgerWatch, require_cosigned, require_on_record
from privacy.errors import CohortError, NotVerifiedError, ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.checkpoint import cosign, open_checkpoint, verify_cosignature
from privacy.ledger.entry import KINDS
from privacy.ledger.keys import cosigner_key, log_key, log_origin
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.note import NoteSignature
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append, entries_of
from privacy.ledger.witness import StaleError
from privacy.messages import RecordedSum
from privacy.plan import receipt_of
from privacy.randomness import system_bytes
from privacy.secure_sum import graph as graphs

SIX = ("bank", "east", "mill", "north", "south", "west")
HEAD = {"leaves": 4, "root": "cd" * 32, "signature": "ef" * 64}
BODY: Mapping[str, Any] = {
    "run": "run-1",
    "step": "update",
    "round": 1,
    "asked": list(SIX),
    "schema": "01" * 32,
    "model": "02" * 32,
    "context": "03" * 32,
    "protection": "masked",
    "receipt": receipt_of(
        None,
        run="run-1",
        unit="device",
        protection="masked",
        step="update",
        round_index=1,
        fewest=3,
        values=9,
    ).to_json(),
    "nodes": dict.fromkeys(SIX, HEAD),
}
EXPECTED: Mapping[str, Any] = {**BODY, "nodes": HEAD}


def hand(origin: str = "") -> Hand:
    """A ledger with three entries."""
    identity = Identity.create(system_bytes)
    store = MemoryLedger()
    for place in range(3):
        append(store, "writer.began", {"writer": f"w{place}"}, time_ms=0)
    return Hand(store, identity, origin or log_origin("coordinator", identity.public))


@dataclass
class Watched:
    """A node and its own ledger."""

    folder: Path
    member: str = "bank"
    identity: Identity = field(default_factory=lambda: Identity.create(system_bytes))
    now_ms: int = 5000

    def open(self) -> LedgerWatch:
        """What the node remembers when it was started anew."""
        store = SqliteLedger(self.folder / "ledger.db")
        begin_ledger(store, self.identity, owner=self.member, role="node", time_ms=0)
        return LedgerWatch(
            store, member=self.member, identity=self.identity, now_ms=lambda: self.now_ms
        )

    @property
    def acts(self) -> list[tuple[str, dict[str, Any]]]:
        """What its own ledger holds, after its beginning."""
        store = SqliteLedger(self.folder / "ledger.db")
        return [(one.kind, dict(one.body)) for one in entries_of(store.leaves(1))]


# -- which ledger ------------------------------------------------------------------------------


def test_the_first_ledger_is_followed_and_another_only_where_the_policy_allows_it(
    tmp_path: Path,
) -> None:
    node = Watched(tmp_path)
    first, second, third = hand(), hand(), hand()
    keys = [log_key(one.origin, one.identity.public) for one in (first, second, third)]
    node.open().trust(keys[0], allowed=())
    for watch in (node.open(), node.open()):  # also after a restart
        with pytest.raises(RefusedError, match=f"follows the ledger {first.origin}, and the run"):
            watch.trust(keys[1], allowed=())
        with pytest.raises(RefusedError, match="add it to ledgers in the node's policy"):
            watch.trust(keys[1], allowed=(third.origin,))
        watch.trust(keys[0], allowed=())
    node.open().trust(keys[1], allowed=(second.origin,))
    # what was followed once needs no leave again
    node.open().trust(keys[1], allowed=())
    node.open().trust(keys[0], allowed=())
    with pytest.raises(RefusedError):
        node.open().trust(keys[2], allowed=(second.origin,))
    assert node.acts == [
        ("ledger.followed", {"origin": one.origin, "key": one.identity.public.hex()})
        for one in (first, second)
    ]


def test_a_ledger_keeps_the_key_under_which_it_was_first_seen(tmp_path: Path) -> None:
    node, made = Watched(tmp_path), hand()
    node.open().trust(log_key(made.origin, made.identity.public), allowed=())
    other = log_key(made.origin, Identity.create(system_bytes).public)
    for allowed in ((), (made.origin,)):
        with pytest.raises(RefusedError, match="another key than the one that this node follows"):
            node.open().trust(other, allowed=allowed)


def test_two_runs_that_begin_at_once_follow_one_ledger(tmp_path: Path) -> None:
    """Each has looked before the other wrote; the node's own ledger lets one of them through."""
    node = Watched(tmp_path)
    one, two = node.open(), node.open()
    first, second = hand(), hand()
    one.trust(log_key(first.origin, first.identity.public), allowed=())
    with pytest.raises(RefusedError, match=f"follows the ledger {first.origin}"):
        two.trust(log_key(second.origin, second.identity.public), allowed=())


# -- what it remembers -------------------------------------------------------------------------


def test_a_state_is_remembered_before_it_is_cosigned_and_after_a_restart(tmp_path: Path) -> None:
    node, made = Watched(tmp_path), hand()
    key = log_key(made.origin, made.identity.public)
    watch = node.open()
    watch.trust(key, allowed=())
    assert watch.seen(made.origin) == 0
    state = made.state()
    signature = watch.cosign(state, time_s=5)
    own = cosigner_key(node.member, node.identity.public)
    checkpoint = open_checkpoint(state.checkpoint, key)
    line = NoteSignature(own.name, own.key_id, signature)
    assert verify_cosignature(checkpoint, own, line) == 5
    said = {"origin": made.origin, "leaves": 3, "root": checkpoint.root.hex()}
    assert node.acts[1:] == [("ledger.cosigned", said)]
    assert node.open().seen(made.origin) == watch.seen(made.origin) == 3
    assert node.open().seen("another") == 0
    with pytest.raises(StaleError):
        node.open().cosign(state, time_s=6)
    # the same again is the same memory, and more of the same is another
    node.open().cosign(made.state(old=3), time_s=6)
    assert len(node.acts) == 2
    append(made.store, "writer.began", {"writer": "more"}, time_ms=0)
    node.open().cosign(made.state(old=3), time_s=7)
    assert node.open().seen(made.origin) == watch.seen(made.origin) == 4
    assert len(node.acts) == 3
    assert all(kind in KINDS for kind, _ in node.acts)


@pytest.mark.parametrize("restarted", [False, True])
def test_what_does_not_follow_is_neither_remembered_nor_cosigned(
    tmp_path: Path, *, restarted: bool
) -> None:
    node, made = Watched(tmp_path), hand()
    watch = node.open()
    watch.trust(log_key(made.origin, made.identity.public), allowed=())
    watch.cosign(made.state(), time_s=5)
    before = node.acts
    fork = Hand(MemoryLedger(list(made.store.leaves(0, 2))), made.identity, made.origin)
    append(fork.store, "writer.began", {"writer": "other"}, time_ms=0)
    stranger = Hand(made.store, Identity.create(system_bytes), made.origin)
    for state in (
        made.state(2),
        made.state(2, old=3),
        made.state(0),
        fork.state(old=3),
        stranger.state(old=3),
        msgspec.structs.replace(made.state(old=3), growth=(bytes(32),)),
        msgspec.structs.replace(made.state(old=3), growth=(bytes(32),) * 64),
        msgspec.structs.replace(made.state(old=3), checkpoint=b"state"),
    ):
        with pytest.raises(NotVerifiedError):
            (node.open() if restarted else watch).cosign(state, time_s=6)
        assert node.acts == before
    append(fork.store, "writer.began", {"writer": "longer"}, time_ms=0)
    with pytest.raises(NotVerifiedError, match="nothing shows"):
        (node.open() if restarted else watch).cosign(fork.state(old=3), time_s=6)
    assert watch.seen(made.origin) == 3


def test_nothing_is_cosigned_of_a_ledger_that_is_not_followed(tmp_path: Path) -> None:
    node, made = Watched(tmp_path), hand()
    watch = node.open()
    for _ in range(2):
        with pytest.raises(NotVerifiedError, match="does not follow the ledger"):
            watch.cosign(made.state(), time_s=5)
        assert watch.seen(made.origin) == 0
        other = hand()
        watch.trust(log_key(other.origin, other.identity.public), allowed=(other.origin,))


def test_nothing_is_cosigned_that_cannot_be_remembered(tmp_path: Path) -> None:
    node, made = Watched(tmp_path), hand()
    watch = node.open()
    watch.trust(log_key(made.origin, made.identity.public), allowed=())
    store = watch._ledger
    assert isinstance(store, SqliteLedger)
    assert store._connection is not None
    store._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(RefusedError, match="nothing was cosigned"):
        watch.cosign(made.state(), time_s=5)
    other = hand()
    with pytest.raises(RefusedError, match="follows no ledger then"):
        watch.trust(log_key(other.origin, other.identity.public), allowed=(other.origin,))
    store._connection.execute("PRAGMA query_only = OFF")
    assert watch.seen(made.origin) == 0
    watch.cosign(made.state(), time_s=5)
    assert watch.seen(made.origin) == 3


def test_a_clock_that_was_set_back_sets_no_cosignature_back(tmp_path: Path) -> None:
    node, made = Watched(tmp_path, now_ms=9_000_000), hand()
    key = log_key(made.origin, made.identity.public)
    own = cosigner_key(node.member, node.identity.public)
    node.open().trust(key, allowed=())
    times = []
    for time_s in (9000, 5):
        state = made.state(old=node.open().seen(made.origin))
        line = NoteSignature(own.name, own.key_id, node.open().cosign(state, time_s=time_s))
        times.append(verify_cosignature(open_checkpoint(state.checkpoint, key), own, line))
        append(made.store, "writer.began", {"writer": f"{time_s}"}, time_ms=0)
    assert times == [9000, 9000]


def test_one_memory_serves_all_threads_of_a_node(tmp_path: Path) -> None:
    """Many states at once: each is cosigned once or refused as stale, and the memory only grows."""
    node, made = Watched(tmp_path), hand()
    watch = node.open()
    watch.trust(log_key(made.origin, made.identity.public), allowed=())
    for place in range(20):
        append(made.store, "writer.began", {"writer": f"more {place}"}, time_ms=0)

    def cosign_one(size: int) -> bool:
        try:
            watch.cosign(made.state(size, old=watch.seen(made.origin)), time_s=5)
        except NotVerifiedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(cosign_one, range(1, 24)))
    assert any(done)
    sizes = [body["leaves"] for kind, body in node.acts if kind == "ledger.cosigned"]
    assert sizes == sorted(set(sizes))
    assert watch.seen(made.origin) == sizes[-1]


# -- what is on record -------------------------------------------------------------------------


def recorded(**changes: object) -> tuple[Hand, RecordedSum]:
    made = hand()
    return made, made.recorded({**BODY, **changes}, old=0)


def check(made: Hand, record: RecordedSum, *, survivors: tuple[str, ...] = SIX) -> None:
    key = log_key(made.origin, made.identity.public)
    require_on_record(record, key, EXPECTED, member="bank", survivors=survivors)


def test_a_sum_that_is_on_record_passes() -> None:
    made, record = recorded()
    check(made, record)
    # what is said of others' ledgers is theirs to check; each survivor has to be there
    others = {name: HEAD if name == "bank" else {**HEAD, "leaves": 1} for name in SIX}
    check(*recorded(nodes=others))
    part = dict.fromkeys(SIX[:4], HEAD)
    check(*recorded(nodes=part), survivors=SIX[:4])


OTHER: Mapping[str, object] = {
    "run": "run-2",
    "step": "evaluate test",
    "round": 2,
    "asked": list(SIX[:5]),
    "schema": "ff" * 32,
    "model": "ff" * 32,
    "context": "ff" * 32,
    "protection": "sealed",
    "receipt": {**BODY["receipt"], "values": 8},
    "nodes": {name: HEAD for name in SIX if name != "bank"},
}


@pytest.mark.parametrize("name", OTHER)
def test_each_word_of_the_record_is_held_against_the_nodes_own(name: str) -> None:
    assert OTHER.keys() == BODY.keys()
    with pytest.raises(ProtocolError, match=f"says something else of this sum: {name}\\.$"):
        check(*recorded(**{name: OTHER[name]}))


def test_all_that_is_wrong_is_named() -> None:
    with pytest.raises(ProtocolError, match="sum: round, model, nodes"):
        check(*recorded(round=2, model="ff" * 32, nodes={"bank": {**HEAD, "root": "00" * 32}}))


@pytest.mark.parametrize(
    "head",
    [
        {**HEAD, "leaves": 5},
        {**HEAD, "leaves": 3},
        {**HEAD, "root": "dc" * 32},
        {**HEAD, "signature": "fe" * 64},
    ],
)
def test_another_head_of_the_nodes_own_ledger_is_found(head: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match=r"says something else of this sum: nodes\.$"):
        check(*recorded(nodes={**BODY["nodes"], "bank": head}))


def test_a_survivor_of_whom_nothing_is_on_record_is_found() -> None:
    part = dict.fromkeys(SIX[:5], HEAD)
    with pytest.raises(ProtocolError, match=r"says something else of this sum: nodes\.$"):
        check(*recorded(nodes=part))


def test_an_entry_of_another_kind_or_place_is_none() -> None:
    made, _ = recorded()
    with pytest.raises(ProtocolError, match="another entry than the sum's"):
        check(made, made.shown(1, old=0))
    made, record = recorded()
    for wrong in (
        {"leaf": b""},
        {"leaf": record.leaf.replace(b"run-1", b"run-2")},
        {"index": record.index - 1},
        {"index": record.index + 1},
        {"path": record.path[1:]},
        {"path": (*record.path, bytes(32))},
        {"state": made.state(record.index)},
        {"state": hand(made.origin).state()},
    ):
        with pytest.raises(ProtocolError, match="The sum is not in the coordinator's ledger"):
            check(made, msgspec.structs.replace(record, **wrong))


# -- who cosigned ------------------------------------------------------------------------------


@dataclass
class Signed:
    """A recorded sum, and members who cosign what they like."""

    group: Group
    made: Hand
    record: RecordedSum

    def by(self, *names: str) -> dict[str, bytes]:
        key = log_key(self.made.origin, self.made.identity.public)
        state = open_checkpoint(self.record.state.checkpoint, key)
        return {
            name: cosign(
                state,
                key=cosigner_key(name, self.group.directory[name]),
                sign=self.group.identities[name].sign_note,
                time_s=1,
            ).signature
            for name in names
        }

    def require(self, cosignatures: Mapping[str, bytes], member: str) -> None:
        key = log_key(self.made.origin, self.made.identity.public)
        require_cosigned(self.record, key, cosignatures, self.group.cohort, member=member)


def signed(names: tuple[str, ...]) -> Signed:
    made, record = recorded()
    return Signed(group(names), made, record)


@pytest.mark.parametrize("count", range(7))
def test_more_than_two_thirds_have_to_cosign(count: int) -> None:
    on = signed(SIX)
    if count >= 5:
        on.require(on.by(*SIX[:count]), "bank")
        return
    with pytest.raises(CohortError, match=f"^{count} members cosigned .* and 5 are needed"):
        on.require(on.by(*SIX[:count]), "bank")


@pytest.mark.usefixtures("sparse")
def test_in_a_large_cohort_those_count_who_hold_the_nodes_shares() -> None:
    names = tuple(f"m{index:02}" for index in range(40))
    on = signed(names)
    holders = on.group.cohort.holders(names[0])
    assert len(holders) == 9
    needed = on.group.cohort.threshold(names[0])
    on.require(on.by(*holders[:needed]), names[0])
    strangers = [name for name in names if name not in holders]
    with pytest.raises(CohortError, match=f"{needed - 1} members cosigned"):
        on.require(on.by(*holders[: needed - 1], *strangers), names[0])


@pytest.fixture(name="sparse")
def _sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "degree", lambda _: 8)


def test_one_wrong_cosignature_is_as_bad_as_any() -> None:
    """Who shows one shows that there were two ledgers, however many others there are."""
    on = signed(SIX)
    all_of_them = on.by(*SIX)
    other = signed(SIX)
    other.group = on.group
    for name, wrong in (
        ("west", bytes(72)),
        ("west", all_of_them["south"]),
        ("west", other.by("west")["west"]),
        ("west", all_of_them["west"][:8] + bytes(64)),
        ("west", bytes(8) + all_of_them["west"][8:]),
    ):
        with pytest.raises(ProtocolError, match="west did not cosign the ledger that this node"):
            on.require({**all_of_them, name: wrong}, "bank")
    with pytest.raises(ProtocolError, match="spy is not asked for this sum, and cosigns nothing"):
        on.require({**all_of_them, "spy": all_of_them["west"]}, "bank")
    on.require(all_of_them, "bank")
