"""For any honest history the ledger holds, and for any change of it, it does not."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import NotVerifiedError
from privacy.ledger import Entry, next_entry, parse_line
from privacy.ledger.chain import head_of
from privacy.ledger.store import LedgerStore
from privacy.verify import verify_ledger

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
ROOT = Path(__file__).parents[2]
MEMBERS = ["bank", "insurer", "mill"]


@dataclass
class History:
    """Writes honest runs in memory."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, kind: str, **body: object) -> None:
        last = self.entries[-1] if self.entries else None
        self.entries.append(next_entry(last, kind, body, time_ms=len(self.entries)))

    def start(self, run: str) -> None:
        self.add(
            "run.started",
            run=run,
            name="demo",
            task="failure",
            members=MEMBERS,
            manifest="a" * 64,
            protection="masked",
        )

    def release(self, run: str, step: str, number: int) -> None:
        place = {"run": run, "step": step, "round": number}
        self.add(
            "sum.opened", **place, context="b" * 64, members=MEMBERS, aggregate=f"{number:064x}"
        )
        self.add(
            "receipt",
            **place,
            unit="device",
            mechanism="none",
            protection="masked",
            values=10,
            members=MEMBERS,
        )

    def commit(self, run: str, number: int) -> None:
        before, after = f"{number - 1:064x}", f"{number:064x}"
        self.add("round.committed", run=run, round=number, model_before=before, model_after=after)

    def data(self) -> bytes:
        return b"".join(entry.line() for entry in self.entries)


def small() -> History:
    history = History()
    history.start("r")
    history.release("r", "update", 1)
    history.commit("r", 1)
    history.add("run.finished", run="r", rounds=1, model="c" * 64)
    return history


@st.composite
def histories(draw: st.DrawFn) -> tuple[History, dict[str, int], set[str]]:
    """Some runs, their entries interleaved, each at its own point of life."""
    history = History()
    runs = draw(st.lists(st.sampled_from("pqrst"), max_size=4, unique=True))
    rounds = dict.fromkeys(runs, 0)
    live: set[str] = set()
    waiting = list(runs)
    for _ in range(draw(st.integers(0, 25)) if runs else 0):
        run = draw(st.sampled_from(runs))
        if run in waiting:
            waiting.remove(run)
            live.add(run)
            history.start(run)
            history.release(run, "statistics", 0)
        elif run in live:
            match draw(st.integers(0, 9)):
                case 0:
                    history.add("run.finished", run=run, rounds=rounds[run], model="c" * 64)
                    live.remove(run)
                case 1:
                    history.add("run.stopped", run=run, reason="by hand")
                    live.remove(run)
                case _:
                    rounds[run] += 1
                    history.release(run, "update", rounds[run])
                    history.commit(run, rounds[run])
                    history.release(run, "evaluate watch", rounds[run])
    return history, rounds, live


@UNHURRIED
@given(histories())
def test_every_honest_history_holds(case: tuple[History, dict[str, int], set[str]]) -> None:
    history, rounds, live = case
    heads = [head_of(None), *(head_of(entry) for entry in history.entries)]
    verdict = verify_ledger(history.data(), heads=heads)
    assert (verdict.leaves, verdict.root) == (heads[-1].leaves, heads[-1].root)
    assert verdict.rounds == sum(rounds.values())
    assert set(verdict.unfinished) == live
    assert verdict.without_receipt == ()
    started = sum(entry.kind == "run.started" for entry in history.entries)
    assert verdict.runs == started
    assert verdict.receipts == started + 2 * sum(rounds.values())


@UNHURRIED
@given(histories(), st.data())
def test_a_line_taken_out_doubled_or_moved_is_caught(
    case: tuple[History, dict[str, int], set[str]], data: st.DataObject
) -> None:
    history, _, _ = case
    lines = history.data().splitlines(keepends=True)
    if len(lines) < 2:
        return
    heads = [head_of(history.entries[-1])]
    index = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.integers(0, len(lines) - 1).filter(lambda place: place != index))
    moved = list(lines)
    moved[index], moved[other] = moved[other], moved[index]
    for changed in (
        lines[:index] + lines[index + 1 :],
        [*lines[:index], lines[index], *lines[index:]],
        moved,
        lines[:index],
    ):
        with pytest.raises(NotVerifiedError):
            verify_ledger(b"".join(changed), heads=heads)


def test_every_flipped_bit_is_caught() -> None:
    data = small().data()
    verify_ledger(data)
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with pytest.raises(NotVerifiedError, match=r"^step"):
                verify_ledger(bytes(changed))


@UNHURRIED
@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_hold_or_be_refused(data: bytes) -> None:
    start = small().data()
    for changed in (data, data + b"\n", start + data, start + data + b"\n"):
        try:
            assert verify_ledger(changed).leaves in (0, 5)
        except NotVerifiedError:
            continue


def test_a_cut_off_tail_is_caught_by_a_remembered_head_only() -> None:
    history = small()
    lines = history.data().splitlines(keepends=True)
    head = head_of(history.entries[-1])
    for kept in range(len(lines)):
        cut = b"".join(lines[:kept])
        assert verify_ledger(cut).leaves == kept  # a chain alone cannot know
        with pytest.raises(NotVerifiedError, match="cut off"):
            verify_ledger(cut, heads=[head])


def test_a_history_written_anew_is_caught_by_a_remembered_head() -> None:
    honest, forged = small(), small()
    forged.entries.clear()
    forged.start("r")
    forged.release("r", "statistics", 0)
    forged.release("r", "update", 1)
    forged.commit("r", 1)
    forged.add("run.finished", run="r", rounds=1, model="c" * 64)
    verify_ledger(forged.data())
    verify_ledger(forged.data(), heads=[head_of(honest.entries[0])])
    for entry in honest.entries[1:]:
        with pytest.raises(NotVerifiedError, match="somebody remembers another"):
            verify_ledger(forged.data(), heads=[head_of(entry)])


def test_a_crash_at_any_byte_of_the_last_line_loses_nothing_else() -> None:
    history = small()
    lines = history.data().splitlines(keepends=True)
    before, last = b"".join(lines[:-1]), lines[-1]
    finished = history.entries[-1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger"
        for cut in range(len(last)):
            path.write_bytes(before + last[:cut])
            store = LedgerStore(path)
            assert store.head() == head_of(history.entries[-2])
            assert store.read() == before
            again = store.append(finished.kind, finished.body, time_ms=4)
            assert again == finished
            assert path.read_bytes() == history.data()


def test_a_crash_in_the_first_line_of_all_starts_anew(tmp_path: Path) -> None:
    first = small().entries[0]
    path = tmp_path / "ledger"
    for cut in range(0, len(first.line()), 7):
        path.write_bytes(first.line()[:cut])
        assert LedgerStore(path).append(first.kind, first.body, time_ms=0) == first
        assert path.read_bytes() == first.line()


_APPENDING = """
import sys
from pathlib import Path
from privacy.ledger.store import LedgerStore
store = LedgerStore(Path(sys.argv[1]))
for index in range(25):
    store.append("run.stopped", {"run": sys.argv[2], "reason": str(index)}, time_ms=index)
"""


def test_what_four_processes_append_is_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    workers = [
        subprocess.Popen([sys.executable, "-c", _APPENDING, str(path), name], cwd=ROOT)
        for name in "pqrs"
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0] * 4
    entries = [parse_line(line) for line in path.read_bytes().splitlines(keepends=True)]
    assert [entry.index for entry in entries] == list(range(100))
    for name in "pqrs":
        said = [entry.body["reason"] for entry in entries if entry.body["run"] == name]
        assert said == [str(index) for index in range(25)]
    with pytest.raises(NotVerifiedError, match=r"step 5 .* entry 0"):
        verify_ledger(path.read_bytes())  # the chain holds; that no run was started does not
