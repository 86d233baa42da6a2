"""For any honest history the ledger holds, and for any change of it, it does not."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.ledgers import WATCH, Line, Script, chained, data_of, small_run

from privacy.errors import NotVerifiedError
from privacy.ledger import Entry, parse_line
from privacy.ledger.chain import head_of
from privacy.ledger.entry import UPDATE
from privacy.ledger.store import LedgerStore
from privacy.verify import verify_ledger

# A busy machine is no failure.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ROOT = Path(__file__).parents[2]
MEMBERS = ["bank", "insurer", "maker", "mill"]
SMALL = chained(small_run().lines)
DATA = data_of(SMALL)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Entry], dict[str, int], set[str]]:
    """Some runs, their entries interleaved, each at its own point of life."""
    names = draw(st.lists(st.sampled_from("pqrst"), max_size=4, unique=True))
    scripts = {name: Script(name, MEMBERS) for name in names}
    rounds = dict.fromkeys(names, 0)
    live: set[str] = set()
    lines: list[Line] = []
    for _ in range(draw(st.integers(0, 12)) if names else 0):
        name = draw(st.sampled_from(names))
        script, begun = scripts[name], len(scripts[name].lines)
        if not begun:
            live.add(name)
            script.begin()
        elif name in live:
            match draw(st.integers(0, 9)):
                case 0:
                    script.finish()
                    live.remove(name)
                case 1:
                    script.stop()
                    live.remove(name)
                case turn:
                    before, rest = script.model, MEMBERS[turn % 2 :]
                    rounds[name] += 1
                    script.release(UPDATE, rounds[name], signers=MEMBERS[1:])
                    script.accept(signers=rest).commit().release(WATCH, rounds[name])
                    if turn == 9:
                        script.accept(model=before, kept=False)
                    else:
                        script.accept()
        lines += script.lines[begun:]
    return chained(lines), rounds, live


@UNHURRIED
@given(histories())
def test_every_honest_history_holds(case: tuple[list[Entry], dict[str, int], set[str]]) -> None:
    entries, rounds, live = case
    heads = [head_of(None), *(head_of(entry) for entry in entries)]
    verdict = verify_ledger(data_of(entries), heads=heads)
    assert (verdict.leaves, verdict.root) == (heads[-1].leaves, heads[-1].root)
    assert verdict.rounds == sum(rounds.values())
    assert set(verdict.unfinished) == live
    assert verdict.without_receipt == ()
    started = sum(entry.kind == "run.started" for entry in entries)
    assert verdict.runs == started
    assert verdict.receipts == 2 * started + 2 * sum(rounds.values())
    signed = [entry.body["signatures"] for entry in entries if "signatures" in entry.body]
    assert verdict.signatures == sum(len(table) for table in signed if isinstance(table, dict))


@UNHURRIED
@given(histories(), st.data())
def test_a_line_taken_out_doubled_or_moved_is_caught(
    case: tuple[list[Entry], dict[str, int], set[str]], data: st.DataObject
) -> None:
    entries, _, _ = case
    lines = [entry.line() for entry in entries]
    if len(lines) < 2:
        return
    heads = [head_of(entries[-1])]
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


@UNHURRIED
@given(histories(), st.data())
def test_a_line_cannot_be_left_out_of_a_history_that_is_written_anew(
    case: tuple[list[Entry], dict[str, int], set[str]], data: st.DataObject
) -> None:
    """No head is remembered, and the chain is made to fit: what is left is grammar and signatures.

    Only the end of a run can go unnoticed, as nothing was built upon it.
    """
    entries, _, _ = case
    if len(entries) < 2:
        return
    index = data.draw(st.integers(0, len(entries) - 2))
    gone = entries[index]
    later = [entry for entry in entries[index + 1 :] if entry.body["run"] == gone.body["run"]]
    kept = [(entry.kind, dict(entry.body)) for entry in entries if entry.index != index]
    started = gone.kind == "run.started" and later
    if not started and all(entry.kind == "run.stopped" for entry in later):
        verify_ledger(data_of(chained(kept)))
    else:
        with pytest.raises(NotVerifiedError, match="steps 5 and 6"):
            verify_ledger(data_of(chained(kept)))


def test_every_flipped_bit_is_caught() -> None:
    verify_ledger(DATA)
    for place in range(len(DATA)):
        for bit in range(8) if place % 8 == 0 else (place % 8,):
            changed = bytearray(DATA)
            changed[place] ^= 1 << bit
            with pytest.raises(NotVerifiedError, match=r"^step"):
                verify_ledger(bytes(changed))


@UNHURRIED
@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_hold_or_be_refused(data: bytes) -> None:
    for changed in (data, data + b"\n", DATA + data, DATA + data + b"\n"):
        try:
            assert verify_ledger(changed).leaves in (0, len(SMALL))
        except NotVerifiedError:
            continue


def test_a_cut_off_tail_is_caught_by_a_remembered_head_only() -> None:
    lines = [entry.line() for entry in SMALL]
    head = head_of(SMALL[-1])
    for kept in range(len(lines)):
        cut = b"".join(lines[:kept])
        assert verify_ledger(cut).leaves == kept  # a chain alone cannot know
        with pytest.raises(NotVerifiedError, match="cut off"):
            verify_ledger(cut, heads=[head])


def test_a_history_written_anew_by_all_members_is_caught_by_a_remembered_head() -> None:
    """If every member signs anew, nothing but a head that somebody kept can tell."""
    honest = chained(Script("r", MEMBERS).begin().train().finish().lines)
    longer = chained(Script("r", MEMBERS).begin().train().evaluate(WATCH).finish().lines)
    verify_ledger(data_of(longer), heads=[head_of(entry) for entry in honest[:-1]])
    with pytest.raises(NotVerifiedError, match="somebody remembers another"):
        verify_ledger(data_of(longer), heads=[head_of(honest[-1])])
    begun_anew = Script("r", MEMBERS, minimum=3).begin().train().finish()
    verify_ledger(data_of(chained(begun_anew.lines)))
    for entry in honest:
        with pytest.raises(NotVerifiedError, match="somebody remembers another"):
            verify_ledger(data_of(chained(begun_anew.lines)), heads=[head_of(entry)])


def test_a_crash_at_any_byte_of_the_last_line_loses_nothing_else() -> None:
    lines = [entry.line() for entry in SMALL]
    before, last = b"".join(lines[:-1]), lines[-1]
    finished = SMALL[-1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger"
        for cut in range(len(last)):
            path.write_bytes(before + last[:cut])
            store = LedgerStore(path)
            assert store.head() == head_of(SMALL[-2])
            assert store.read() == before
            again = store.append(finished.kind, finished.body, time_ms=finished.time_ms)
            assert again == finished
            assert path.read_bytes() == DATA


def test_a_crash_in_the_first_line_of_all_starts_anew(tmp_path: Path) -> None:
    first = SMALL[0]
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
    with pytest.raises(NotVerifiedError, match=r"steps 5 and 6 .* entry 0"):
        verify_ledger(path.read_bytes())  # the chain holds; that no run was started does not
