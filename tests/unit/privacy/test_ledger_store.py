import os
from pathlib import Path

import pytest
from filelock import FileLock

from privacy.errors import InputError, NotVerifiedError
from privacy.ledger import EMPTY_ROOT, LedgerHead
from privacy.ledger import store as store_module
from privacy.ledger.store import LedgerStore

BODY = {"run": "r", "reason": "by hand"}


def test_an_empty_ledger_has_a_head(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "ledger")
    assert store.head() == LedgerHead(0, EMPTY_ROOT)
    assert store.read() == b""
    assert list(tmp_path.iterdir()) == []  # looking makes nothing


def test_reading_needs_neither_a_lock_nor_a_place_to_write(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "ledger")
    entry = store.append("run.stopped", BODY, time_ms=0)
    with FileLock(tmp_path / "ledger.lock"):
        assert store.head() == LedgerHead(1, entry.digest)
        assert store.read() == entry.line()


def test_entries_follow_each_other_across_stores(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    first = LedgerStore(path).append("run.stopped", BODY, time_ms=10)
    second = LedgerStore(path).append("run.stopped", BODY, time_ms=5)
    assert second.previous == first.digest
    assert second.time_ms == 10
    assert LedgerStore(path).head() == LedgerHead(2, second.digest)
    assert LedgerStore(path).read() == first.line() + second.line()


def test_a_refused_entry_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "ledger")
    store.append("run.stopped", BODY, time_ms=0)
    before = store.read()
    with pytest.raises(ValueError, match="unknown"):
        store.append("run.paused", BODY, time_ms=0)
    assert store.read() == before


def test_an_entry_longer_than_one_reading_of_the_tail_is_found(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "ledger")
    started = {
        "run": "r",
        "name": "demo",
        "task": "credit",
        "minimum": 2,
        "group_size": 0,
        "manifest": "a" * 64,
        "document": "{}",
        "protection": "masked",
    }
    for size in (1, 10, 300, 10_000):
        members = {f"member {index}": f"{index:064x}" for index in range(size)}
        entry = store.append("run.started", {**started, "members": members}, time_ms=0)
        assert store.head().root == entry.digest
    assert store.append("run.stopped", BODY, time_ms=0).index == 4


@pytest.mark.parametrize("end", [b"\n", b"{}\n", b"\0" * 5000 + b"\n", b"\xff\xfe\n"])
def test_a_broken_end_is_left_for_a_person(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "ledger"
    store = LedgerStore(path)
    store.append("run.stopped", BODY, time_ms=0)
    data = path.read_bytes() + end
    path.write_bytes(data)
    for act in (lambda: store.append("run.stopped", BODY, time_ms=0), store.head):
        with pytest.raises(NotVerifiedError, match=r"last entry .* is broken"):
            act()
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "data",
    [
        b"x" * (1 << 24) + b"\n",
        b"x" * (1 << 24),
        b"a letter without an end",
        b"#!/bin/sh\nexit",
        b'{"body":{' + b"x" * (1 << 20),
    ],
)
def test_a_file_that_is_no_ledger_is_not_swallowed(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(data)
    store = LedgerStore(path)
    for act in (lambda: store.append("run.stopped", BODY, time_ms=0), store.head):
        with pytest.raises(NotVerifiedError, match=r"no ledger|broken"):
            act()
    assert path.read_bytes() == data


@pytest.mark.parametrize("torn", [b"\0" * 100, b'{"body":{"rea\0\0\0'])
def test_room_that_a_crash_left_without_a_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "ledger"
    store = LedgerStore(path)
    first = store.append("run.stopped", BODY, time_ms=0)
    path.write_bytes(first.line() + torn)
    assert store.head() == LedgerHead(1, first.digest)
    second = store.append("run.stopped", BODY, time_ms=1)
    assert path.read_bytes() == first.line() + second.line()


def test_an_edited_last_line_is_not_built_upon(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    store = LedgerStore(path)
    store.append("run.stopped", BODY, time_ms=0)
    path.write_bytes(path.read_bytes().replace(b"by hand", b"by Hand"))
    with pytest.raises(NotVerifiedError, match="changed"):
        store.append("run.stopped", BODY, time_ms=0)


def test_a_disk_that_fails_gives_a_sentence_and_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger"
    store = LedgerStore(path)
    store.append("run.stopped", BODY, time_ms=0)
    before = path.read_bytes()
    write = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if len(data) > 60:
            return write(descriptor, data[:50])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(InputError, match="No space left") as caught:
            store.append("run.stopped", BODY, time_ms=0)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert store.append("run.stopped", BODY, time_ms=0).index == 1


def test_an_entry_that_may_not_be_durable_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger"
    store = LedgerStore(path)
    store.append("run.stopped", BODY, time_ms=0)
    before = path.read_bytes()

    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(InputError, match="Input/output"):
            store.append("run.stopped", BODY, time_ms=0)
    assert path.read_bytes() == before


def test_each_entry_is_synced_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LedgerStore(tmp_path / "ledger")
    synced: list[int] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    store.append("run.stopped", BODY, time_ms=0)
    assert len(synced) == 2  # the new folder entry, then the line
    store.append("run.stopped", BODY, time_ms=0)
    assert synced[2:] == [(tmp_path / "ledger").stat().st_size]


def test_a_place_that_cannot_hold_a_ledger_gives_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "ledger", tmp_path):
        with pytest.raises(InputError, match="ledger"):
            LedgerStore(path).append("run.stopped", BODY, time_ms=0)
    assert not (tmp_path / "none").exists()
    for look in (LedgerStore(tmp_path).head, LedgerStore(tmp_path).read):
        with pytest.raises(InputError, match="cannot use the ledger"):
            look()


def test_a_lock_that_stays_taken_gives_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LOCK_TIMEOUT_S", 0.05)
    path = tmp_path / "ledger"
    with (
        FileLock(tmp_path / "ledger.lock"),
        pytest.raises(InputError, match="another process keeps"),
    ):
        LedgerStore(path).append("run.stopped", BODY, time_ms=0)


def test_the_cost_of_an_append_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger"
    store = LedgerStore(path)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    read: list[int] = []
    pread = os.pread

    def counting(descriptor: int, count: int, offset: int) -> bytes:
        read.append(count)
        return pread(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", counting)
    for index in range(2000):
        store.append("run.stopped", BODY, time_ms=index)
    assert max(read) <= 4096
    assert len(read) <= 2000
