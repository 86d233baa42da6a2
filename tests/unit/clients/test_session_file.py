"""A run on disk: whole or not at all, one line of states, and nothing left of it afterwards."""

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from clients.kept_session import read_kept
from clients.run_past import RunPast, run_past
from clients.session_file import SessionFile, kept_file, kept_runs
from privacy.errors import NotVerifiedError, RefusedError

RUN = bytes(range(32))
BIG = b"large" * 100


def file(home: Path) -> SessionFile:
    return SessionFile(home=home, run=RUN, name="run-1", contract="c" * 64)


def parts(*data: bytes) -> dict[bytes, bytes]:
    return {hashlib.sha256(one).digest(): one for one in data}


def opened(home: Path) -> SessionFile:
    found = kept_file(home, RUN)
    assert found is not None
    return found[1]


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
    assert kept_runs(tmp_path) == (RUN,)


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        file(tmp_path).save(b"one", parts(BIG))
    finally:
        os.umask(old)
    for path in [*tmp_path.rglob("session/*"), *tmp_path.rglob("sessions/*")]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name in ("runs/run-1/session", "sessions"):
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
    assert stopped == (at < 8)  # two parts, the state and the pointer, with their folders
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
    with pytest.raises(RefusedError, match=r"cannot keep its run \(No space left on device\)"):
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
    pointer = tmp_path / "sessions" / RUN.hex()
    said = pointer.read_bytes()
    for wrong in (b"", b"{}", said + b" ", said.replace(b"run-1", b"../..")):
        pointer.write_bytes(wrong)
        with pytest.raises(NotVerifiedError, match="damaged"):
            kept_file(tmp_path, RUN)


def test_nothing_is_left_of_a_run_that_was_left_and_only_that_of_one_that_was_finished(
    tmp_path: Path,
) -> None:
    made = file(tmp_path)
    made.save(b"one", parts(BIG))
    made.finish()
    found = kept_file(tmp_path, RUN)
    assert found is not None
    assert not found[0].state
    assert not made.folder.exists()
    with pytest.raises(NotVerifiedError):
        found[1].load()
    with pytest.raises(NotVerifiedError, match="another process went on"):
        file(tmp_path).save(b"begun again", {})
    other = SessionFile(home=tmp_path / "other", run=RUN, name="run-1", contract="c" * 64)
    other.save(b"one", parts(BIG))
    other.leave()
    assert kept_file(tmp_path / "other", RUN) is None
    assert not other.folder.exists()
    assert kept_runs(tmp_path / "other") == ()


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
