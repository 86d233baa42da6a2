"""`tacit node leave`: one run is named, a reason is kept, and whoever looks first leaves it."""

import stat
from pathlib import Path

import pytest

from clients.session_file import SessionFile, leave_run, read_pointer
from federation.leaving import (
    FOLDER,
    UnderWay,
    ask_to_leave,
    checked_reason,
    find_under_way,
    take_leaves,
    under_way,
)
from privacy.errors import InputError
from privacy.ledger.sqlite import SqliteLedger

FIRST, SECOND = bytes([1] * 32), bytes([2] * 32)


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    """A node's, with two runs under way and one that is over."""
    made = SqliteLedger(tmp_path / "ledger.db")
    for digest, name in ((FIRST, "run-first"), (SECOND, "run-second"), (bytes(32), "run-over")):
        one = SessionFile(home=tmp_path, ledger=made, run=digest, name=name, contract="c" * 64)
        one.save(b"state", {})
        if name == "run-over":
            one.finish()
    return made


def test_a_run_is_named_by_its_id_a_part_of_it_or_its_digest(ledger: SqliteLedger) -> None:
    first = UnderWay(FIRST, "run-first")
    assert set(under_way(ledger)) == {first, UnderWay(SECOND, "run-second")}
    for words in ("run-first", "first", FIRST.hex(), "0101"):
        assert find_under_way(ledger, words) == first
    for words in ("run", "", "run-over", "third"):
        with pytest.raises(InputError, match="see tacit node status"):
            find_under_way(ledger, words)
    # what is damaged has keys all the same, and a digest
    ledger.keep_note(f"session/{FIRST.hex()}", b"{}")
    assert find_under_way(ledger, FIRST.hex()[:8]) == UnderWay(FIRST, "")


def test_what_is_asked_for_is_done_once_with_its_reason(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    one = find_under_way(ledger, "first")
    path = ask_to_leave(tmp_path, one, checked_reason("  the contract\nended. "))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    (tmp_path / FOLDER / "notes.json").write_text("{}")
    left: list[tuple[bytes, str]] = []
    for _ in range(2):
        take_leaves(tmp_path, lambda digest, why: left.append((digest, why)))
    assert left == [(FIRST, "the contract ended")]
    assert not path.exists()
    take_leaves(tmp_path / "nowhere", lambda *_: pytest.fail("nothing was asked for"))


def test_half_of_a_file_is_enough(tmp_path: Path, ledger: SqliteLedger) -> None:
    ask_to_leave(tmp_path, find_under_way(ledger, "first"), "because").write_text('{"rea')
    take_leaves(tmp_path, lambda digest, why: leave_run(tmp_path, ledger, digest, why))
    pointer = read_pointer(ledger, FIRST)
    assert pointer is not None
    assert (pointer.state, pointer.left) == ("", "a person here said so")
    assert [one.run for one in under_way(ledger)] == ["run-second"]


@pytest.mark.parametrize("reason", ["", " . ", "x" * 301, "a\0b"])
def test_a_reason_is_one_line_that_can_be_read(reason: str) -> None:
    with pytest.raises(InputError, match="--reason"):
        checked_reason(reason)
