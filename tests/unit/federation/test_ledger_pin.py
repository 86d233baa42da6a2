"""What a participant's machine takes for the coordinator's ledger when its key has changed."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from filelock import FileLock, Timeout
from rich.console import Console
from support.federations import Federated
from support.rotations import rotate as rotated_in

from federation.coordinator_key import rotate_key
from federation.home import write_json
from federation.ledger_pin import FILE, LOCK, Pin, newest_state, read_pin
from federation.ledger_recorder import LedgerRecorder, now_ms
from federation.participant import Place
from federation.registry.client import RegistryClient
from federation.registry.status import read_status, status_facts, status_table
from federation.runs.reach import reached
from privacy.errors import InputError, NotVerifiedError
from privacy.identity import Identity
from privacy.ledger.checkpoint import Checkpoint, sign_checkpoint
from privacy.ledger.keys import log_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append, head_of, prove_consistency, prove_inclusion
from privacy.randomness import system_bytes


@pytest.fixture
def federated(tmp_path: Path) -> Federated:
    made = Federated(tmp_path)
    made.add("Bank")
    made.sign()
    return made


@pytest.fixture
def place(federated: Federated) -> Iterator[Place]:
    """The bank's, with a registry that answers."""
    with federated.serving() as serving:
        yield serving.place("Bank")


def rotate(federated: Federated) -> bytes:
    return rotate_key(federated.home, entropy=system_bytes, now_ms=now_ms).new


def looked(place: Place) -> tuple[bytes, int]:
    """The key and the size, as after a restart."""
    with RegistryClient(place.registry, place.credentials()) as client:
        pin, state = newest_state(place, client)
    assert read_pin(place) == pin
    return pin.key.public, state.size


def test_a_participant_follows_by_itself(federated: Federated, place: Place) -> None:
    first = place.ledger_key
    assert looked(place) == (first, SqliteLedger(federated.home.ledger).size())
    second = rotate(federated)
    assert looked(place)[0] == second
    keys = [second]
    for name in ("Mill", "Insurer"):
        federated.add(name)
        keys.append(rotate(federated))
    assert looked(place)[0] == keys[-1]
    assert [key for _, key in read_pin(place).keys] == [first, *keys]
    # who joined later pins the first key too, and is led to the newest one
    with federated.serving() as serving:
        assert looked(serving.place("Mill"))[0] == keys[-1]


def test_what_asks_for_the_ledger_goes_on(federated: Federated, place: Place) -> None:
    key = rotate(federated)
    with reached(place.home) as reach:
        assert reach.ledger_key() == key
        copy = reach.ledger()
        assert head_of(copy) == head_of(SqliteLedger(federated.home.ledger))
        assert reach.membership().members().keys() == {"Bank"}
    with RegistryClient(place.registry, place.credentials()) as client:
        (status,) = read_status(client, {}, pins=(place.log_key,))
    assert (status.signed, status.pinned, status.reason) == (copy.size(), True, "")


def test_whose_key_signed_is_told_as_it_is(federated: Federated, place: Place) -> None:
    """The first key, or a newer one that it led to: who holds the first one could not have."""
    said: list[str] = []
    for newer in range(3):
        with RegistryClient(place.registry, place.credentials()) as client:
            (status,) = told = read_status(client, {}, pins=(place.log_key,))
        assert status.newer == status_facts(told)["ledgers"][0]["newer_keys"] == newer
        out = StringIO()
        Console(file=out, width=200).print(status_table(told))
        said += re.findall("of them, by (.*)", out.getvalue())
        rotate(federated)
    first = "the key that your invitation names"
    assert said == [first, *[f"a newer key, which {first} led to"] * 2]


def test_a_ledger_of_which_nothing_is_signed_yet_has_the_pinned_key(tmp_path: Path) -> None:
    federated = Federated(tmp_path)
    federated.add("Bank")
    with federated.serving() as serving:
        place = serving.place("Bank")
        with reached(place.home) as reach:
            assert reach.ledger_key() == place.ledger_key


# -- two that ask at once --------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["checkpoint", "consistency"])
def test_who_asks_slowly_takes_back_nothing_that_another_saw(
    federated: Federated, place: Place, moment: str
) -> None:
    old, first = Identity.load(federated.home.coordinator), leaves_of(federated)
    Shown(place, first[:-1], old).look()  # a pin that both begin with
    key = rotate(federated)
    slow = Shown(place, leaves_of(federated), old)
    newest, slow.size = slow.size, len(first)
    slow.between = moment, lambda: looked(place)
    pin, state = slow.look()
    assert slow.is_late
    # it is shown what was newest when it asked, and knows what the other saw
    assert state.size == len(first) < newest
    assert pin == read_pin(place)
    assert (pin.key.public, pin.seen.size) == (key, newest)


@pytest.mark.parametrize("moment", ["checkpoint", "consistency"])
@pytest.mark.parametrize("more", [0, 1, 3])
def test_two_that_are_shown_two_histories_do_not_both_believe(
    federated: Federated, place: Place, moment: str, more: int
) -> None:
    signer, leaves = Identity.load(federated.home.coordinator), leaves_of(federated)
    Shown(place, leaves[:-2], signer).look()
    fork = MemoryLedger(leaves[:-1])
    for number in range(1 + more):
        append(fork, "writer.began", {"writer": f"{number}"}, time_ms=now_ms())
    slow = Shown(place, list(fork.leaves()), signer)
    slow.between = moment, lambda: looked(place)
    with pytest.raises(NotVerifiedError, match="does not begin with the"):
        slow.look()
    assert slow.is_late
    assert read_pin(place).seen.size == len(leaves)
    looked(place)


def test_nobody_comes_between_the_second_look_and_the_writing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Path] = []

    def write(path: Path, value: Mapping[str, Any]) -> None:
        with pytest.raises(Timeout), FileLock(place.folder / LOCK, timeout=0):
            pass
        held.append(path)
        write_json(path, value)

    monkeypatch.setattr("federation.ledger_pin.write_json", write)
    looked(place)
    assert held == [place.folder / FILE]
    looked(place)  # nothing is new, so nothing is written
    assert len(held) == 1


# -- what is not followed --------------------------------------------------------------------------


class Shown:
    """A registry with a ledger of its own making.

    Attributes:
        between: What happens meanwhile, once: the call that is slow to answer, and the act.
        is_late: Whether that happened.
    """

    def __init__(self, place: Place, leaves: Sequence[bytes], signer: Identity) -> None:
        self.store = MemoryLedger(leaves)
        self.place, self.signer = place, signer
        self.size = self.store.size()
        self.between: tuple[str, Callable[[], object]] | None = None
        self.is_late = False

    def _meanwhile(self, call: str) -> None:
        if self.between is not None and self.between[0] == call:
            (_, act), self.between = self.between, None
            act()
            self.is_late = True

    def checkpoint(self, origin: str) -> bytes:
        self._meanwhile("checkpoint")
        head = head_of(self.store, self.size)
        return sign_checkpoint(
            Checkpoint(origin, head.leaves, bytes.fromhex(head.root)),
            key=log_key(origin, self.signer.public),
            sign=self.signer.sign_note,
        )

    def entries(self, origin: str, start: int, count: int) -> Iterator[bytes]:
        del origin
        yield from self.store.leaves(start, start + count)

    def inclusion(self, origin: str, index: int, size: int) -> tuple[bytes, ...]:
        del origin
        return prove_inclusion(self.store, index, size)

    def consistency(self, origin: str, old: int, new: int) -> tuple[bytes, ...]:
        del origin
        self._meanwhile("consistency")
        return prove_consistency(self.store, old, new)

    def look(self) -> tuple[Pin, Checkpoint]:
        return newest_state(self.place, cast("RegistryClient", self))


def leaves_of(federated: Federated) -> list[bytes]:
    return list(SqliteLedger(federated.home.ledger).leaves())


def test_no_key_is_taken_on_the_registrys_word(federated: Federated, place: Place) -> None:
    old, thief = Identity.load(federated.home.coordinator), Identity.create(system_bytes)
    leaves = leaves_of(federated)
    looked(place)
    kept = (place.folder / FILE).read_bytes()
    # nothing of it is in the ledger
    with pytest.raises(NotVerifiedError, match="has not signed"):
        Shown(place, leaves, thief).look()
    # it is, and the thief signed it itself
    forged = MemoryLedger(leaves)
    rotated_in(forged, thief, thief)
    with pytest.raises(NotVerifiedError, match="did not sign the new one"):
        Shown(place, list(forged.leaves()), thief).look()
    # the old key signed it, in a ledger that does not begin with what was seen
    forked = MemoryLedger(leaves[:-1])
    append(forked, "writer.began", {"writer": "x"}, time_ms=now_ms())
    rotated_in(forked, old, thief)
    with pytest.raises(NotVerifiedError, match="does not begin with the"):
        Shown(place, list(forked.leaves()), thief).look()
    # or in one that was cut off
    cut = MemoryLedger(leaves[:-3])
    rotated_in(cut, old, thief)
    with pytest.raises(NotVerifiedError, match="has not signed"):
        Shown(place, list(cut.leaves()), thief).look()
    # where the old key itself signs less than it did
    with pytest.raises(NotVerifiedError, match="does not begin with the"):
        Shown(place, leaves[:-3], old).look()
    assert (place.folder / FILE).read_bytes() == kept


def test_the_old_key_is_not_taken_back(federated: Federated, place: Place) -> None:
    old = Identity.load(federated.home.coordinator)
    leaves = leaves_of(federated)
    rotate(federated)
    newest = looked(place)
    for more in (1, 2, 5):
        store = MemoryLedger(leaves)
        for number in range(more):
            append(store, "writer.began", {"writer": f"{number}"}, time_ms=now_ms())
        with pytest.raises(NotVerifiedError, match="has not signed"):
            Shown(place, list(store.leaves()), old).look()
    assert looked(place) == newest


def test_a_registry_that_lost_its_newest_state_is_no_forger(
    federated: Federated, place: Place
) -> None:
    old = Identity.load(federated.home.coordinator)
    before = SqliteLedger(federated.home.ledger).size()
    key = rotate(federated)
    newest = looked(place)
    shown = Shown(place, leaves_of(federated), old)
    shown.size = before  # the state before the rotation, which the old key signed
    pin, state = shown.look()
    assert (pin.key.public, state.size) == (key, before)
    assert looked(place) == newest


def test_a_damaged_memory_is_told(place: Place) -> None:
    looked(place)
    for damaged in ('{"origin": "x"}', "[]", "{", '{"keys": []}'):
        (place.folder / FILE).write_text(damaged)
        with pytest.raises(InputError):
            read_pin(place)
    (place.folder / FILE).unlink()
    assert read_pin(place).key == place.log_key
    assert read_pin(replace(place, ledger_key=bytes(32))).key.public == bytes(32)
    looked(place)
    with pytest.raises(InputError, match="is damaged"):
        read_pin(replace(place, ledger_key=bytes(32)))


def test_a_restarted_coordinator_signs_on_under_the_newest_key(
    federated: Federated, place: Place
) -> None:
    key = rotate(federated)
    federated.add("Mill")
    recorder = LedgerRecorder(
        SqliteLedger(federated.home.ledger), Identity.load(federated.home.coordinator)
    )
    recorder.cosigned("", recorder.state(), {})
    assert looked(place) == (key, recorder.store.size())
