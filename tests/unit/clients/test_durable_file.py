"""Files and folders: what was said to be there is on disk."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from clients.durable_file import append_whole, make_folder, write_whole
from privacy import whole_file
from privacy.whole_file import write_first


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made durable, in order."""
    found: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        found.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_a_file_is_durable_before_it_has_its_name_and_its_name_after(
    tmp_path: Path, synced: list[str]
) -> None:
    write_whole(tmp_path / "one", b"data", mode=0o600)
    part, folder = synced
    assert part.startswith(str(tmp_path / ".one."))
    assert part.endswith(".part")
    assert folder == str(tmp_path)
    assert (tmp_path / "one").read_bytes() == b"data"
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600


def test_of_two_that_make_a_key_at_once_one_stands_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def second(source: Path, target: Path) -> None:
        # another process is done between the look and the link
        target.write_bytes(b"theirs")
        real(source, target)

    monkeypatch.setattr(os, "link", second)
    write_first(tmp_path / "key", b"ours")
    assert (tmp_path / "key").read_bytes() == b"theirs"
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


def test_a_first_file_is_durable_and_its_owners_alone(tmp_path: Path, synced: list[str]) -> None:
    write_first(tmp_path / "key", b"ours")
    assert (tmp_path / "key").read_bytes() == b"ours"
    assert synced[-1] == str(tmp_path)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_file_that_could_not_be_written_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "one", b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "one", b"after")
    assert (tmp_path / "one").read_bytes() == b"before"


def test_what_is_appended_is_durable(tmp_path: Path, synced: list[str]) -> None:
    path = tmp_path / "lines"
    append_whole(path, b"one\n")
    append_whole(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert synced == [str(path), str(tmp_path), str(path)]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_what_could_not_be_appended_is_gone_and_the_next_line_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "lines"
    append_whole(path, b"one\n")
    real, calls = os.write, list[int]()

    def half(descriptor: int, data: bytes) -> int:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:2])

    def refused(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, half if call == "write" else refused)
        with pytest.raises(OSError, match=r"No space|output error"):
            append_whole(path, b"two\n")
    assert path.read_bytes() == b"one\n"
    append_whole(path, b"three\n")
    assert path.read_bytes() == b"one\nthree\n"


@pytest.mark.parametrize("before", [b"", b"one\n", b"x" * 200_000 + b"\n"])
def test_a_line_that_a_crash_cut_off_is_gone_before_the_next_one(
    tmp_path: Path, before: bytes
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(before + b"h" * 70_000)
    append_whole(path, b"two\n")
    assert path.read_bytes() == before + b"two\n"


def test_what_was_never_said_to_be_there_is_gone_before_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\nrefused, and not taken away\n")
    append_whole(path, b"two\n", after=4)
    assert path.read_bytes() == b"one\ntwo\n"
    append_whole(path, b"three\n", after=1_000)  # nothing is made up where lines are missing
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_a_file_whose_first_line_was_refused_has_its_name_on_disk_with_the_next(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refused)
        with pytest.raises(OSError, match="No space"):
            append_whole(tmp_path / "lines", b"one\n")
    append_whole(tmp_path / "lines", b"one\n")
    assert synced == [str(tmp_path / "lines"), str(tmp_path)]


def test_a_folder_and_what_it_is_in_are_durable(tmp_path: Path, synced: list[str]) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b", mode=0o700)
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_nothing_half_written_stays_where_it_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.mkdir()  # a file cannot take the place of a folder
    with pytest.raises(OSError, match="directory"):
        write_whole(path, b"all of it")
    assert [one.name for one in tmp_path.iterdir()] == ["one"]


def test_of_two_that_write_a_file_at_once_each_has_all_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "one", os.fsync
    seen: list[bytes] = []

    def second(descriptor: int) -> None:
        # another process writes it while this one's data goes to disk
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", real)
            write_whole(path, b"theirs")
        seen.append(path.read_bytes())
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: second(descriptor) if not seen else None)
        write_whole(path, b"ours")
    assert seen == [b"theirs"]
    assert path.read_bytes() == b"ours"
    assert [one.name for one in tmp_path.iterdir()] == ["one"]


def test_a_part_that_is_swept_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "one", whole_file._lock
    left: list[Path] = []

    def late(descriptor: int) -> None:
        if not left:
            left.extend(tmp_path.iterdir())
            whole_file._sweep(path)  # as another writer does
        real(descriptor)

    monkeypatch.setattr(whole_file, "_lock", late)
    write_whole(path, b"ours")
    assert len(left) == 1
    assert path.read_bytes() == b"ours"
    assert [one.name for one in tmp_path.iterdir()] == ["one"]


def test_a_part_that_another_writer_looks_at_just_now_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "one", whole_file._lock
    held: list[int] = []

    def late(descriptor: int) -> None:
        if not held:
            (part,) = tmp_path.iterdir()
            held.append(os.open(part, os.O_WRONLY))
            real(held[0])
        real(descriptor)

    monkeypatch.setattr(whole_file, "_lock", late)
    write_whole(path, b"ours")
    os.close(held[0])
    assert path.read_bytes() == b"ours"
    write_whole(path, b"again")
    assert [one.name for one in tmp_path.iterdir()] == ["one"]


def test_where_files_cannot_be_locked_they_are_written_and_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlockable(_: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(whole_file, "_lock", unlockable)
    (tmp_path / ".one.0.part").write_bytes(b"perhaps another's")
    write_whole(tmp_path / "one", b"ours")
    assert (tmp_path / "one").read_bytes() == b"ours"
    assert (tmp_path / ".one.0.part").exists()


@pytest.mark.parametrize("write", ["write_whole", "write_first"])
def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path, write: str) -> None:
    path = tmp_path / "one"
    (tmp_path / ".two.0.part").write_bytes(b"another file's")
    code = (
        "import os, sys; from pathlib import Path; from clients.durable_file import *; "
        "from privacy.whole_file import *; os.fsync = lambda _: os._exit(9); "
        f"{write}(Path(sys.argv[1]), b'half')"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 9
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 2
    (write_whole if write == "write_whole" else write_first)(path, b"all of it")
    assert path.read_bytes() == b"all of it"
    assert {one.name for one in tmp_path.iterdir()} == {"one", ".two.0.part"}


def test_what_a_crash_left_does_not_say_who_may_read_it(tmp_path: Path) -> None:
    left = tmp_path / ".one.part"
    left.write_bytes(b"half")
    left.chmod(0o644)
    write_whole(tmp_path / "one", b"all of it", mode=0o600)
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
    assert not left.exists()
