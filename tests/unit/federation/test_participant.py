"""New keys take the place of the old ones once, whoever else is at it."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from federation import participant
from federation.certificates import NEXT
from federation.participant import IDENTITY, TLS, TLS_KEY, settle
from privacy.errors import InputError

NAMES = (IDENTITY, TLS_KEY, TLS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place whose new keys are certified, and were not moved yet."""
    for name in NAMES:
        (tmp_path / name).write_text("old")
        (tmp_path / (NEXT + name)).write_text("new")
    return tmp_path


def held(folder: Path) -> list[str]:
    return [(folder / name).read_text() for name in NAMES]


def test_new_keys_take_their_place_durably(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = list[tuple[Path, list[str]]](), os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), held(folder)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    settle(folder)
    settle(folder)
    assert held(folder) == ["new"] * 3
    # the keys first: a certificate without them would be one of other keys
    assert synced == [(folder, ["new", "new", "old"]), (folder, ["new"] * 3)]
    assert not list(folder.glob(f"{NEXT}*"))


def test_keys_of_the_next_renewal_stay_where_another_settled_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.exists

    def exists(path: Path) -> bool:
        found = real(path)
        if path.name == NEXT + TLS:
            # another process settles between the look and what follows, and renews once more
            monkeypatch.setattr(Path, "exists", real)
            settle(folder)
            (folder / (NEXT + TLS_KEY)).write_text("not certified")
        return found

    monkeypatch.setattr(Path, "exists", exists)
    settle(folder)
    assert held(folder) == ["new"] * 3
    assert (folder / (NEXT + TLS_KEY)).read_text() == "not certified"


def test_who_settles_at_the_same_time_waits_and_finds_it_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, failed = threading.Event(), list[BaseException]()
    real, thread = Path.replace, list[threading.Thread]()

    class Asked(FileLock):
        def acquire(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401
            if thread:
                asked.set()
            return super().acquire(*given, **named)

    def second() -> None:
        try:
            settle(folder)
        except BaseException as failure:  # noqa: BLE001
            failed.append(failure)

    def replace(path: Path, target: Path) -> Path:
        if not thread:
            thread.append(threading.Thread(target=second))
            thread[0].start()
            assert asked.wait(60)
        return real(path, target)

    monkeypatch.setattr(participant, "FileLock", Asked)
    monkeypatch.setattr(Path, "replace", replace)
    settle(folder)
    thread[0].join(60)
    assert not failed
    assert held(folder) == ["new"] * 3


def test_a_place_that_cannot_be_written_is_a_sentence(folder: Path) -> None:
    (folder / participant.LOCK).mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        settle(folder)
