"""What a node keeps of its reviews: under which names, in which form, sealed, and for whom."""

import hmac
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from clients.gate import Device, Watched, watched
from clients.review import HELD, State
from clients.review_store import Remembered, Reviews
from clients.vault import KnownVault, MasterKey, Vault, is_sealed
from privacy.canonical import framed
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.ledger.entry import parse_leaf
from privacy.ledger.memory import MemoryLedger, MemoryTurn
from privacy.randomness import system_bytes

PUMP, FAN, TESTED = Device("pump-1"), Device("fan-1"), Device("pump-1", test=True)
BOUNDS = np.array([[20.0, 90.0]])
ROWS_KEY = b"\x07" * 32


def read(*heat: float) -> Watched:
    return watched(np.arange(float(len(heat))), np.array(heat).reshape(-1, 1), BOUNDS)


HOT = read(50, 95, 95, 95, 50)
ONCE = read(50, 95, 50)
FINE = read(50, 50, 50)
SEALS = Vault(MasterKey(b"\x01" * 32, system_bytes), "L3", system_bytes)


def name_of(*parts: bytes) -> str:
    """A name under the node's key, put together by hand."""
    key = hmac.digest(ROWS_KEY, b"tacit/review/v1", "sha256")
    return hmac.digest(key, framed(b"pumps", *parts), "sha256").hex()


def device_name(unit: bytes, part: bytes = b"") -> str:
    return name_of(b"device", b"pumps", part, unit)


class Meddled(MemoryLedger):
    """A ledger before whose turn somebody else does something, once."""

    before: Callable[[], object] | None = None

    @contextmanager
    def turn(self, *, durable: bool = True) -> Iterator[MemoryTurn]:
        before, self.before = self.before, None
        if before is not None:
            before()
        with super().turn(durable=durable) as turn:
            yield turn


class Node:
    """A node's folder and ledger, in which reviews are opened anew each time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ledger = Meddled()
        self.entropy = lambda size: b"\x07" * size

    def reviews(self, vault: Vault | KnownVault | None = None) -> Reviews:
        return Reviews(
            home=self.home,
            ledger=self.ledger,
            dataset="pumps",
            entropy=self.entropy,
            now_ms=lambda: 7,
            vault=vault,
        )

    def files(self) -> dict[str, bytes]:
        return {one.stem: one.read_bytes() for one in (self.home / "review/pumps").iterdir()}

    def held(self) -> list[object]:
        entries = map(parse_leaf, self.ledger.leaves())
        return [one.body["device"] for one in entries if one.kind == HELD]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


# -- names and forms --


def test_names_are_keyed_digests_of_data_set_part_and_device(node: Node) -> None:
    reviews = node.reviews()
    assert reviews.device(PUMP) == device_name(b"pump-1")
    assert reviews.device(TESTED) == device_name(b"pump-1", b"test")
    # where a part ends and a name begins cannot move
    assert reviews.device(Device("testpump-1")) != reviews.device(TESTED)


def test_what_is_written_where(node: Node) -> None:
    reviews, digest = node.reviews(), device_name(b"pump-1", b"test")
    reviews.look({TESTED: HOT})
    words = [name_of(b"reading", digest.encode(), word) for word in HOT.words]
    readings = name_of(b"readings", digest.encode(), *(one.encode() for one in sorted(words)))
    assert reviews.shown(digest) == readings
    reviews.decide(digest, "release", reason="a test bench", by="ann")
    assert {name: json.loads(data) for name, data in node.files().items()} == {
        digest: {
            "format": 1,
            "unit": "pump-1",
            "test": True,
            "readings": [[float(time), word] for time, word in zip((1, 2, 3), words, strict=True)],
        },
        readings: {"format": 1, "device": digest, "readings": sorted(words)},
    }
    assert [entry.body["readings"] for entry in map(parse_leaf, node.ledger.leaves())] == [
        readings,
        readings,
    ]


def test_only_the_nodes_own_user_reads_it(node: Node) -> None:
    before = os.umask(0)
    try:
        node.reviews().look({PUMP: HOT})
    finally:
        os.umask(before)
    folder = node.home / "review" / "pumps"
    assert {one.stat().st_mode & 0o777 for one in (folder, folder.parent)} == {0o700}
    assert {one.stat().st_mode & 0o777 for one in folder.iterdir()} == {0o600}


def test_what_was_remembered_is_not_written_again(node: Node) -> None:
    node.reviews().look({TESTED: HOT})
    (path,) = (node.home / "review" / "pumps").iterdir()
    os.utime(path, ns=(0, 0))
    node.reviews().look({TESTED: HOT})
    assert path.stat().st_mtime_ns == 0
    node.reviews().look({TESTED: read(50, 95, 95, 95, 95)})
    assert path.stat().st_mtime_ns != 0


@pytest.mark.parametrize(
    ("words", "fault"), [(HOT.words[:2], IndexError), ((*HOT.words, b"more"), ValueError)]
)
def test_readings_without_a_word_each_are_an_error_of_the_programmer(
    node: Node, words: tuple[bytes, ...], fault: type[Exception]
) -> None:
    with pytest.raises(fault):
        node.reviews().look({PUMP: Watched(HOT.times, HOT.out, words)})
    assert not node.held()


def test_what_cannot_be_written_is_told_and_puts_nothing_in_the_ledger(node: Node) -> None:
    reviews = node.reviews()
    part = reviews.folder / f".{reviews.device(PUMP)}.{os.getpid()}.part"
    part.mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be written"):
        reviews.look({PUMP: HOT})
    assert not node.held()
    part.rmdir()
    assert reviews.look({PUMP: HOT}).new == (PUMP,)


# -- sealed --


def test_what_is_kept_is_sealed_for_its_own_place_and_read_again(node: Node) -> None:
    reviews = node.reviews(SEALS)
    reviews.look({PUMP: HOT})
    digest = reviews.device(PUMP)
    reviews.decide(digest, "release", reason="fine", by="ann")
    assert not node.reviews(SEALS).look({PUMP: HOT}).left_out
    before = node.files()
    assert len(before) == 2
    for name, data in before.items():
        assert is_sealed(data)
        assert json.loads(SEALS.unseal("review", f"pumps/{name}", data))["format"] == 1
    assert node.files() == before  # reading seals nothing anew
    (node.home / "review/pumps" / f"{digest}.json").write_bytes(before[reviews.shown(digest)])
    with pytest.raises(NotVerifiedError, match="belongs elsewhere"):
        node.reviews(SEALS).look({PUMP: HOT})


def test_what_lay_open_is_sealed_when_it_is_read(node: Node) -> None:
    node.reviews().look({PUMP: HOT})
    (name, opened), *_ = node.files().items()
    assert not is_sealed(opened)
    (known,) = node.reviews(SEALS).remembered()
    assert (known.device, known.out) == (PUMP, 3)
    sealed = node.files()[name]
    assert is_sealed(sealed)
    assert SEALS.unseal("review", f"pumps/{name}", sealed) == opened
    # and it is left alone from here on
    assert node.reviews(SEALS).remembered() == (known,)
    assert node.files()[name] == sealed
    # who has all keys only looks
    assert node.reviews(KnownVault([SEALS])).remembered() == (known,)
    assert node.files()[name] == sealed


def test_what_lies_open_stays_so_where_nothing_or_another_seals(node: Node) -> None:
    node.reviews().look({PUMP: HOT})
    (path,) = (node.home / "review" / "pumps").iterdir()
    os.utime(path, ns=(0, 0))
    for vault in (None, KnownVault([SEALS])):
        assert len(node.reviews(vault).remembered()) == 1
    assert path.stat().st_mtime_ns == 0


def test_what_cannot_be_sealed_now_is_read_as_it_is(node: Node) -> None:
    class Away(MasterKey):
        def wrap(self, _: bytes) -> bytes:
            raise InputError("the key service does not answer")

    node.reviews().look({PUMP: HOT})
    before = node.files()
    vault = Vault(Away(b"\x01" * 32, system_bytes), "L3", system_bytes)
    assert [one.device for one in node.reviews(vault).remembered()] == [PUMP]
    assert node.files() == before


# -- what is remembered --


def test_all_that_were_under_review_are_told_by_name(node: Node) -> None:
    reviews = node.reviews()
    looked = [
        reviews.look({Device(unit): HOT, Device(unit, test=True): HOT}) for unit in ("b", "a")
    ]
    digests = [reviews.device(Device(unit)) for unit in "ab"]
    gone = reviews.folder / f"{digests[1]}.json"
    reviews.look({Device("a"): FINE, Device("b"): read(95, 50, 95, 95, 95)})
    gone.unlink()
    found = node.reviews().remembered()
    standings = [looked[1].standings[Device("a")], looked[0].standings[Device("b")]]
    assert {one.state for one in standings} == {State.WAITING}
    known = {one.digest: one for one in found}
    a = Remembered(
        digest=digests[0], device=Device("a"), standing=standings[0], out=0, first=None, last=None
    )
    b = Remembered(
        digest=digests[1], device=None, standing=standings[1], out=0, first=None, last=None
    )
    tested = known[reviews.device(Device("a", test=True))]
    assert (tested.device, tested.out) == (Device("a", test=True), 3)
    assert (tested.first, tested.last) == (1.0, 3.0)
    assert (known[a.digest], known[b.digest]) == (a, b)
    # who has no name is told by the beginning of its digest
    assert (a.name, b.name, tested.name) == ("a", digests[1][:16], "test:a")
    assert [one.name for one in found] == sorted(["a", digests[1][:16], "test:a", "test:b"])


def test_those_of_one_name_are_told_by_their_digests(node: Node) -> None:
    reviews = node.reviews()
    # a part that the data tells apart, and a name that looks like it
    twins = [Device("x", test=True), Device("test:x")]
    twins.sort(key=reviews.device)
    for one in reversed(twins):
        reviews.look({one: HOT})
    found = [one.device for one in node.reviews().remembered()]
    assert found == twins
    assert found[0] is not None
    assert {one.name for one in twins} == {"test:x"}


def test_where_a_device_stands_is_clear_where_nothing_is_known(node: Node) -> None:
    look = node.reviews().look({PUMP: HOT, FAN: FINE})
    assert (look.state(PUMP), look.state(FAN)) == (State.WAITING, State.CLEAR)
    assert node.reviews().shown(node.reviews().device(FAN)) == ""


def test_nothing_is_remembered_of_a_device_that_no_reading_held(node: Node) -> None:
    node.reviews().look({PUMP: HOT, FAN: ONCE})
    assert set(node.files()) == {device_name(b"pump-1")}


def test_a_look_at_some_rows_leaves_what_a_person_is_to_decide_on(node: Node) -> None:
    reviews = node.reviews()
    reviews.look({PUMP: HOT})
    before = node.files()
    assert node.reviews().look({PUMP: ONCE}, whole=False).left_out == {PUMP}
    assert node.files() == before
    assert node.reviews().look({PUMP: ONCE, FAN: HOT}, whole=False).new == (FAN,)
    assert {**node.files(), **before} == node.files()
    assert len(node.files()) == 2


# -- what others do meanwhile --


def test_who_was_held_by_another_process_meanwhile_is_not_held_again(node: Node) -> None:
    node.ledger.before = lambda: node.reviews().look({FAN: HOT})
    look = node.reviews().look({PUMP: HOT, FAN: HOT})
    assert look.new == (PUMP,)
    assert look.left_out == {PUMP, FAN}
    assert node.held() == [device_name(b"fan-1"), device_name(b"pump-1")]


def test_nothing_is_decided_of_a_device_whose_review_was_never_written(node: Node) -> None:
    def dies() -> None:
        raise KeyboardInterrupt

    node.ledger.before = dies
    with pytest.raises(KeyboardInterrupt):
        node.reviews().look({PUMP: HOT})
    # its readings are remembered, and nobody put it under review
    assert list(node.files()) == [device_name(b"pump-1")]
    with pytest.raises(RefusedError, match="never under review"):
        node.reviews().decide(device_name(b"pump-1"), "reject", reason="no", by="ann")


def test_the_first_act_of_a_ledger_counts(node: Node) -> None:
    assert node.reviews().look({PUMP: HOT}).left_out == {PUMP}
    digest = device_name(b"pump-1")
    standing = node.reviews().decide(digest, "reject", reason="no", by="ann")
    assert (standing.state, len(standing.acts)) == (State.REJECTED, 2)
    assert node.reviews().look({PUMP: HOT}).standings == {PUMP: standing}


def test_a_later_release_holds_where_an_earlier_ones_readings_are_gone(node: Node) -> None:
    more = read(50, 95, 95, 95, 96, 96, 96)
    digest = device_name(b"pump-1")
    for seen in (HOT, more):
        assert node.reviews().look({PUMP: seen}).new == (PUMP,)
        node.reviews().decide(digest, "release", reason="fine", by="ann")
    first, _ = node.reviews().look({PUMP: more}).standings[PUMP].releases
    (node.home / "review/pumps" / f"{first}.json").unlink()
    assert not node.reviews().look({PUMP: more}).left_out


def test_a_text_is_kept_whole_up_to_its_bound_and_told_by_its_option(node: Node) -> None:
    reviews = node.reviews()
    reviews.look({PUMP: HOT})
    digest = reviews.device(PUMP)
    with pytest.raises(InputError, match=r"^--reason: is printable"):
        reviews.decide(digest, "reject", reason="x" * 301, by="ann")
    with pytest.raises(InputError, match=r"^--by: is printable"):
        reviews.decide(digest, "reject", reason="no", by="x" * 301)
    standing = reviews.decide(digest, "reject", reason="x" * 300, by="y" * 300)
    assert (standing.acts[-1].reason, standing.acts[-1].by) == ("x" * 300, "y" * 300)
