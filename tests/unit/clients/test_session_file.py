"""A run on disk: whole or not at all, one line of states, and nothing left of it afterwards."""

import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from clients.kept_session import read_kept
from clients.run_past import RunPast, run_past
from clients.session_file import (
    SessionFile,
    kept_file,
    kept_runs,
    leave_run,
    read_pointer,
    sweep,
)
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append, head_of

RUN = bytes(range(32))
BIG = b"large" * 100


def ledger_of(home: Path) -> SqliteLedger:
    home.mkdir(parents=True, exist_ok=True)
    return SqliteLedger(home / "ledger.db")


def file(home: Path) -> SessionFile:
    return SessionFile(home=home, ledger=ledger_of(home), run=RUN, name="run-1", contract="c" * 64)


def parts(*data: bytes) -> dict[bytes, bytes]:
    return {hashlib.sha256(one).digest(): one for one in data}


def opened(home: Path) -> SessionFile:
    found = kept_file(home, ledger_of(home), RUN)
    assert found is not None
    return found[1]


def grown(home: Path) -> None:
    """One entry more in the node's ledger."""
    ledger = ledger_of(home)
    append(ledger, "policy.applied", {"policy": f"{ledger.size():064x}"}, time_ms=0)
    ledger.close()


def ledger_copied(home: Path, to: Path) -> None:
    to.mkdir()
    for path in home.glob("ledger.db*"):
        shutil.copy(path, to / path.name)


def ledger_put_back(home: Path, copy: Path) -> None:
    for path in home.glob("ledger.db*"):
        path.unlink()
    for path in copy.iterdir():
        shutil.copy(path, home / path.name)


def test_what_was_saved_last_is_what_is_read_and_parts_are_shared(tmp_path: Path) -> None:
    first = file(tmp_path)
    first.save(b"one", parts(BIG, b"old"))
    before = (first.folder / hashlib.sha256(BIG).hexdigest()).stat().st_ino
    first.save(b"two", parts(BIG, b"new"))
    again = opened(tmp_path)
    assert again.load() == b"two"
    assert again.part(hashlib.sha256(b"new").digest()) == b"new"
    # what is not named any more is gone, and what is was not written again
    assert {path.name for path in first.folder.iterdir()} == {
        "state",
        *(digest.hex() for digest in parts(BIG, b"new")),
    }
    assert (first.folder / hashlib.sha256(BIG).hexdigest()).stat().st_ino == before
    again.save(b"three", {})
    assert opened(tmp_path).load() == b"three"
    assert kept_runs(ledger_of(tmp_path)) == (RUN,)


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        file(tmp_path).save(b"one", parts(BIG))
    finally:
        os.umask(old)
    kept = [path for path in (tmp_path / "sessions").rglob("*") if path.is_file()]
    assert len(kept) == 3  # a part, the state, the lock
    for path in kept:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name in (f"sessions/{RUN.hex()}", "sessions"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


@pytest.mark.parametrize("at", range(12))
def test_a_stop_at_any_write_leaves_the_state_before_or_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    made = file(tmp_path)
    made.save(b"one", parts(b"a"))
    real, count = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal count
        if count == at:
            raise KeyboardInterrupt
        count += 1
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    stopped = False
    try:
        made.save(b"two", parts(b"b", b"c"))
    except KeyboardInterrupt:
        stopped = True
    monkeypatch.undo()
    assert stopped == (at < 7)  # the ledger, two parts and the state with their folders
    again = opened(tmp_path)
    body = again.load()
    assert body in {b"one", b"two"}
    for one in {b"one": (b"a",), b"two": (b"b", b"c")}[body]:
        assert again.part(hashlib.sha256(one).digest()) == one
    again.save(b"three", {})
    assert opened(tmp_path).load() == b"three"
    assert {path.name for path in made.folder.iterdir()} == {"state"}


def test_a_disk_that_is_full_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = file(tmp_path)
    made.save(b"one", {})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RefusedError, match=r"cannot keep its run.*No space left on device"):
        made.save(b"two", {})
    monkeypatch.undo()
    assert opened(tmp_path).load() in {b"one", b"two"}


def test_two_writers_are_one_line(tmp_path: Path) -> None:
    first = file(tmp_path)
    first.save(b"one", {})
    second = opened(tmp_path)
    assert second.load() == b"one"
    first.save(b"two", {})
    with pytest.raises(NotVerifiedError, match="another process went on"):
        second.save(b"other", {})
    with pytest.raises(NotVerifiedError, match="another process went on"):
        file(tmp_path).save(b"begun again", {})
    assert opened(tmp_path).load() == b"two"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [_cut, _longer, _empty, _flipped, Path.unlink])
@pytest.mark.parametrize("what", ["state", "part"])
def test_what_is_damaged_is_not_read(
    tmp_path: Path, harm: Callable[[Path], None], what: str
) -> None:
    made = file(tmp_path)
    made.save(b"one", parts(BIG))
    digest = hashlib.sha256(BIG).digest()
    harm(made.folder / ("state" if what == "state" else digest.hex()))
    with pytest.raises(NotVerifiedError):
        _read(opened(tmp_path), digest)


def _read(kept: SessionFile, digest: bytes) -> None:
    kept.load()
    kept.part(digest)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_older_state_than_the_pointer_says_is_not_read(tmp_path: Path, count: int) -> None:
    made = file(tmp_path)
    made.save(b"old", {})
    old = (made.folder / "state").read_bytes()
    for place in range(count):
        made.save(b"%d" % place, {})
    (made.folder / "state").write_bytes(old)
    with pytest.raises(NotVerifiedError, match="not the newest"):
        opened(tmp_path).load()


def test_a_pointer_is_of_one_form_and_names_a_folder(tmp_path: Path) -> None:
    made = file(tmp_path)
    made.save(b"one", {})
    name = f"session/{RUN.hex()}"
    said = made.ledger.note(name)
    assert said is not None
    for wrong in (b"", b"{}", said + b" ", said.replace(b"run-1", b"../..")):
        made.ledger.keep_note(name, wrong)
        with pytest.raises(NotVerifiedError, match="damaged"):
            kept_file(tmp_path, made.ledger, RUN)
    # its keys go all the same
    leave_run(tmp_path, made.ledger, RUN, "because")
    assert not made.folder.exists()
    assert kept_runs(made.ledger) == ()


def test_the_pointer_is_no_part_of_the_ledger(tmp_path: Path) -> None:
    grown(tmp_path)
    made = file(tmp_path)
    before = head_of(made.ledger)
    made.save(b"one", {})
    made.leave("because")
    assert head_of(ledger_of(tmp_path)) == before
    assert len(list(ledger_of(tmp_path).leaves())) == 1


@pytest.mark.parametrize("between", [0, 1])
def test_a_state_that_was_put_back_without_its_ledger_is_not_read(
    tmp_path: Path, between: int
) -> None:
    made = file(tmp_path)
    made.save(b"old", {})
    shutil.copytree(tmp_path / "sessions", tmp_path / "copy")
    for _ in range(between):
        made.save(b"meanwhile", {})
    made.save(b"new", {})
    shutil.rmtree(tmp_path / "sessions")
    shutil.copytree(tmp_path / "copy", tmp_path / "sessions")
    with pytest.raises(NotVerifiedError, match="not the newest"):
        opened(tmp_path).load()


def test_a_ledger_that_was_put_back_without_its_states_is_not_gone_on_with(tmp_path: Path) -> None:
    home = tmp_path / "home"
    grown(home)
    made = file(home)
    made.save(b"sealed here", {})
    made.ledger.close()
    ledger_copied(home, tmp_path / "copy")
    grown(home)  # what it costs
    made.save(b"the vector", {})
    made.ledger.close()
    assert opened(home).load() == b"the vector"
    ledger_put_back(home, tmp_path / "copy")
    # one step behind, so by its pointer this could be a state that was written and not pointed at
    with pytest.raises(NotVerifiedError, match="own ledger is older than what it kept"):
        opened(home).load()
    # nor with as many entries of another ledger
    append(ledger_of(home), "policy.applied", {"policy": "f" * 64}, time_ms=9)
    with pytest.raises(NotVerifiedError, match="or another one"):
        opened(home).load()


def test_a_stop_between_state_and_pointer_goes_on_from_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = file(tmp_path)
    made.save(b"one", {})

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "keep_note", stop)
        with pytest.raises(KeyboardInterrupt):
            made.save(b"two", {})
    assert opened(tmp_path).load() == b"two"
    # who stopped there wrote nothing that counts any more
    with pytest.raises(NotVerifiedError, match="another process went on"):
        made.save(b"three", {})


def test_a_ledger_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = file(tmp_path)

    def full(*_: object) -> None:
        raise InputError("cannot use the ledger: database or disk is full; check its disk")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "keep_note", full)
        with pytest.raises(RefusedError, match="cannot keep its run: cannot use the ledger"):
            made.save(b"one", {})
    # nobody was told, and nothing says that there is a run
    sweep(tmp_path, made.ledger)
    assert not made.folder.exists()


def test_what_looked_damaged_while_another_process_wrote_is_not_removed(tmp_path: Path) -> None:
    first = file(tmp_path)
    first.save(b"one", parts(b"a"))
    second = opened(tmp_path)
    second.load()
    first.save(b"two", parts(b"b"))
    with pytest.raises(NotVerifiedError, match="gone"):
        second.part(hashlib.sha256(b"a").digest())
    assert not second.abandon()
    assert opened(tmp_path).load() == b"two"
    third = opened(tmp_path)
    third.load()
    assert third.abandon()
    assert not first.folder.exists()
    assert kept_file(tmp_path, first.ledger, RUN) is None


def test_two_runs_of_one_name_share_nothing_on_disk(tmp_path: Path) -> None:
    one = file(tmp_path)
    two = SessionFile(
        home=tmp_path, ledger=one.ledger, run=bytes(32), name="run-1", contract="c" * 64
    )
    one.save(b"one", parts(b"a"))
    two.save(b"two", parts(b"b"))
    two.leave()
    assert opened(tmp_path).load() == b"one"
    assert opened(tmp_path).part(hashlib.sha256(b"a").digest()) == b"a"


def test_keys_go_where_no_lock_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = file(tmp_path)
    made.save(b"one", {})

    def refused(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("fcntl.flock", refused)
    made.leave()
    assert not made.folder.exists()


def test_what_a_stop_left_of_a_run_that_is_over_is_removed_and_its_pointer_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = file(tmp_path)
    made.save(b"one", {})
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        made.finish()
    assert made.folder.exists()
    before = read_pointer(made.ledger, RUN)
    sweep(tmp_path, made.ledger)
    assert not made.folder.exists()
    assert read_pointer(made.ledger, RUN) == before
    made.leave("the bank said so")
    after = read_pointer(made.ledger, RUN)
    assert after is not None
    assert (after.state, after.left) == ("", "the bank said so")


def test_nothing_is_left_of_a_run_that_was_left_and_only_that_of_one_that_was_finished(
    tmp_path: Path,
) -> None:
    made = file(tmp_path)
    made.save(b"one", parts(BIG))
    made.finish()
    found = kept_file(tmp_path, made.ledger, RUN)
    assert found is not None
    assert not found[0].state
    assert not made.folder.exists()
    with pytest.raises(NotVerifiedError):
        found[1].load()
    with pytest.raises(NotVerifiedError, match="another process went on"):
        file(tmp_path).save(b"begun again", {})
    other = file(tmp_path / "other")
    other.save(b"one", parts(BIG))
    other.leave()
    assert kept_file(tmp_path / "other", other.ledger, RUN) is None
    assert not other.folder.exists()
    assert kept_runs(other.ledger) == ()


def test_a_state_of_another_version_is_not_read() -> None:
    for wrong in (b"", b"\x80", msgspec.msgpack.encode({"format": 2})):
        with pytest.raises(NotVerifiedError, match="of another version"):
            read_kept(wrong)


def test_a_ledger_that_knows_more_than_what_was_kept_shows_an_old_copy() -> None:
    one, two = ("update", 1), ("update", 2)
    past = RunPast(
        joined=frozenset(),
        rows="",
        reserved=frozenset({one, two}),
        committed=frozenset({one}),
        aborted=frozenset(),
    )
    assert past.pending == {two}
    past.require_known(sealed={one, two}, settled={one})
    past.require_known(sealed={one, two}, settled={one, two})
    for sealed, settled in (({one}, {one}), ({one, two}, {two}), (set(), set())):
        with pytest.raises(NotVerifiedError, match="older than its own ledger"):
            past.require_known(sealed=sealed, settled=settled)
    assert run_past([], "run-1").joined == frozenset()


def test_a_vector_that_the_ledger_does_not_count_shows_an_old_ledger() -> None:
    one, two, three = ("update", 1), ("update", 2), ("update", 3)
    past = RunPast(
        joined=frozenset(),
        rows="",
        reserved=frozenset({one, two}),
        committed=frozenset({one}),
        aborted=frozenset({two}),
    )
    sealed = {one, two, three}
    past.require_known(sealed=sealed, settled={one}, under_way=one)
    past.require_known(sealed=sealed, settled={one}, under_way=None)
    for step in (two, three):
        with pytest.raises(NotVerifiedError, match="does not have what the vector under way cost"):
            past.require_known(sealed=sealed, settled={one}, under_way=step)
