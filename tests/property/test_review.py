"""Three readings in a row, whatever the order in which they arrive and whenever a node restarts.

Held against a model that is written as docs/quality-gate.md is: plainly, one device after another.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.machines import contract as contract_of

from clients.contract import DataContract
from clients.frozen import parse_settings
from clients.gate import Device, watch, watched
from clients.members import MemberRows
from clients.review import HELD, REJECTED, RELEASED
from clients.review_store import Looked, Reviews
from clients.source import ROW, UNIT
from clients.usable_rows import usable
from privacy.errors import InputError, RefusedError
from privacy.ledger.entry import parse_leaf
from privacy.ledger.memory import MemoryLedger, MemoryTurn
from privacy.randomness import system_bytes

COLUMNS = [
    *(column for column in contract_of()["columns"] if column["name"] != "shake"),
    {
        "name": "shake",
        "type": "number",
        "role": "sensor",
        "class": "L3",
        "range": [0, 9],
        "threshold": [0, 5],
    },
]
CONTRACT = parse_settings(DataContract, contract_of(columns=COLUMNS), "contract")
MACHINES = ("a", "b")
Cell = float | None
Row = tuple[str, float, Cell, Cell]
Reading = tuple[float, frozenset[tuple[Cell, Cell]]]
BOUNDS = ((20, 90), (0, 5))

BAD = st.sampled_from([(95.0, 1.0), (95.0, 1.0), (50.0, 6.0), (50.0, None), (None, None)])
SELDOM = st.sampled_from([False, False, False, True])
cells = st.tuples(
    st.sampled_from([50.0, 95.0, 96.0, 10.0, None]), st.sampled_from([1.0, 6.0, None])
)
rows = st.tuples(st.sampled_from(MACHINES), st.integers(0, 9).map(float), cells).map(
    lambda row: (row[0], row[1], *row[2])
)


def is_out(cell: Cell, place: int) -> bool:
    low, high = BOUNDS[place]
    return cell is not None and not low <= cell <= high


def frame_of(given_rows: list[Row]) -> pd.DataFrame:
    frame = pd.DataFrame(given_rows, columns=["machine", "hour", "heat", "shake"])
    frame = frame.astype({"hour": float, "heat": float, "shake": float})
    frame[ROW], frame[UNIT], frame["member"] = np.arange(len(frame)), frame["machine"], "north"
    return frame


class Device1:
    """What the model knows of one device."""

    def __init__(self) -> None:
        self.rows: set[tuple[float, Cell, Cell]] = set()
        self.state = "clear"
        self.reviews = 0
        self.released: set[Reading] = set()
        self.seen: set[Reading] | None = None

    def readings(self) -> list[tuple[bool, Reading]]:
        """In order of time: whether it is out, and which it is. What says nothing is none."""
        found = []
        for time in sorted({row[0] for row in self.rows}):
            told = [row[1:] for row in self.rows if row[0] == time]
            if all(cell is None for row in told for cell in row):
                continue
            bad = [row for row in told if any(is_out(cell, i) for i, cell in enumerate(row))]
            found.append((bool(bad), (time, frozenset(bad))))
        return found

    def asks(self) -> bool:
        """Whether three readings in one unbroken row are out and were not released."""
        fresh = 0
        for out, reading in self.readings():
            fresh = fresh + (reading not in self.released) if out else 0
            if fresh == 3:
                return True
        return False

    def look(self, *, dies: bool = False) -> None:
        asks = self.asks() and self.state not in {"waiting", "rejected"}
        if asks or self.state != "clear" or self.reviews:
            self.seen = {reading for out, reading in self.readings() if out}
        if asks and not dies:
            self.state, self.reviews = "waiting", self.reviews + 1

    def decide(self, state: str) -> None:
        if self.state != "waiting":
            self.reviews += 1
        self.state = state
        if state == "released" and self.seen is not None:
            self.released |= self.seen


class DyingLedger(MemoryLedger):
    """A ledger whose machine loses power when it is about to be written."""

    dies = False

    @contextmanager
    def turn(self, *, durable: bool = True) -> Iterator[MemoryTurn]:
        if self.dies:
            raise KeyboardInterrupt
        with super().turn(durable=durable) as turn:
            yield turn


class Node(RuleBasedStateMachine):
    """A node whose rows arrive as they like, and which may stop at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.arrived: list[Row] = []
        self.model = {name: Device1() for name in MACHINES}

    @initialize(name=st.sampled_from(MACHINES))
    def begin(self, name: str) -> None:
        self.ledger = DyingLedger()
        self.restart()
        self.overheat(name, 2, [(95.0, 1.0)] * 3)
        self.look()

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    @rule(batch=st.lists(rows, min_size=1, max_size=8))
    def arrive(self, batch: list[Row]) -> None:
        self.arrived += batch
        for name, hour, heat, shake in batch:
            self.model[name].rows.add((hour, heat, shake))

    @rule(
        name=st.sampled_from(MACHINES),
        first=st.integers(0, 7),
        bad=st.lists(BAD, min_size=1, max_size=4),
    )
    def overheat(self, name: str, first: int, bad: list[tuple[Cell, Cell]]) -> None:
        """Readings in a row that are out: by chance alone there would be few."""
        self.arrive([(name, float(first + place), *cell) for place, cell in enumerate(bad)])

    @rule(data=st.data())
    def arrive_again(self, data: st.DataObject) -> None:
        """The same rows once more, and all of them in another order."""
        if self.arrived:
            again = data.draw(st.lists(st.sampled_from(self.arrived), max_size=4))
            self.arrived = data.draw(st.permutations(self.arrived + again))

    @rule()
    def restart(self) -> None:
        """Nothing but folder and ledger are left."""
        self.ledger = DyingLedger(self.ledger.leaves())
        self.reviews = Reviews(
            home=self.home,
            ledger=self.ledger,
            dataset=CONTRACT.name,
            entropy=system_bytes,
            now_ms=lambda: 1,
        )

    def looked(self) -> Looked | None:
        if not self.arrived:
            return None
        frame = frame_of(self.arrived)
        found = usable(MemberRows("north", frame, frame[:0]), CONTRACT, self.reviews)
        usable_ones = set(found.rows.train["machine"])
        for name in {row[0] for row in self.arrived}:
            assert (name in usable_ones) == (self.model[name].state not in {"waiting", "rejected"})
        assert found.left_out == len(frame) - len(found.rows.train)
        return found.looked

    @rule()
    def look(self) -> None:
        for one in self.model.values():
            one.look()
        self.looked()

    @rule()
    def lose_power_in_a_look(self) -> None:
        due = any(
            one.asks() and one.state not in {"waiting", "rejected"} for one in self.model.values()
        )
        if not due:
            return  # nothing is written, so there is nothing that could be cut off
        self.ledger.dies = True
        for one in self.model.values():
            one.look(dies=True)
        with pytest.raises(KeyboardInterrupt):
            self.looked()
        self.restart()

    @rule(name=st.sampled_from(MACHINES), dies=SELDOM)
    def release(self, name: str, dies: bool) -> None:
        self.decide(name, release=True, dies=dies)

    @rule(name=st.sampled_from(MACHINES), dies=SELDOM)
    def reject(self, name: str, dies: bool) -> None:
        self.decide(name, release=False, dies=dies)

    def decide(self, name: str, *, release: bool, dies: bool) -> None:
        one, digest = self.model[name], self.reviews.device(Device(name))
        state = "released" if release else "rejected"
        self.ledger.dies = dies
        try:
            self.reviews.decide(
                digest, "release" if release else "reject", reason="looked at it", by="ann"
            )
        except KeyboardInterrupt:
            assert dies
        except InputError:
            assert one.seen is None
        except RefusedError:
            assert one.state in {"clear", state}
        else:
            assert one.state not in {"clear", state}
            one.decide(state)
        self.restart()

    @invariant()
    def both_say_the_same(self) -> None:
        known = {one.name: one.standing for one in self.reviews.remembered()}
        for name, one in self.model.items():
            standing = known.get(name)
            assert (standing.state.value if standing else "clear") == one.state
            assert (standing.review if standing else 0) == one.reviews

    @invariant()
    def the_ledger_names_nobody(self) -> None:
        for leaf in self.ledger.leaves():
            entry = parse_leaf(leaf)
            assert entry.kind in {HELD, RELEASED, REJECTED}
            assert len(str(entry.body["device"])) == len(str(entry.body["readings"])) == 64


TestNode = Node.TestCase
TestNode.settings = settings(deadline=None, max_examples=60, stateful_step_count=20)


@given(st.lists(rows, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_what_is_judged_does_not_depend_on_order_or_repetition(
    arrived: list[Row], order: "np.random.Generator"
) -> None:
    mine = [row for row in arrived if row[0] == "a"] or [("a", 0.0, 50.0, 1.0)]
    mixed = mine + mine[: len(mine) // 2]
    order.shuffle(mixed)
    one, other = watch(frame_of(mine), CONTRACT), watch(frame_of(mixed), CONTRACT)
    assert one.times.tolist() == other.times.tolist()
    assert one.out.tolist() == other.out.tolist()
    assert one.words == other.words


@given(st.lists(st.booleans(), max_size=30), st.sets(st.integers(0, 29)))
def test_only_what_was_not_settled_counts_and_rows_do_not_reach_over_a_good_reading(
    out: list[bool], settled: set[int]
) -> None:
    values = np.array([[95.0 if one else 50.0] for one in out]).reshape(len(out), 1)
    seen = watched(np.arange(len(out), dtype=float), values, np.array([[20.0, 90.0]]))
    places = [place for place, one in enumerate(out) if one]  # words' places in time
    known = {places.index(time) for time in settled if time < len(out) and out[time]}
    found = seen.puts_under_review(known)
    text = "".join("x" if one else "." for one in out)
    expected = []
    time = 0
    for piece in text.split("."):
        fresh = [t for t in range(time, time + len(piece)) if places.index(t) not in known]
        expected += [places.index(t) for t in fresh] if len(fresh) >= 3 else []
        time += len(piece) + 1
    assert list(found) == expected
