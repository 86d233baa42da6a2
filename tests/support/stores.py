"""Places of ledgers for tests that run over every store, and other processes at them."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from support import ledger_writers
from support.postgres import Server

from federation import postgres_ledger
from federation.postgres_ledger import PostgresLedger
from privacy.ledger import sqlite
from privacy.ledger.sqlite import SqliteLedger

ROOT = Path(__file__).parents[2]
Store = SqliteLedger | PostgresLedger


class Place(Protocol):
    """An empty place, where a test makes a ledger."""

    @property
    def target(self) -> str:
        """For `open_store`."""
        ...

    def open(self) -> Store:
        """One more store over this place."""
        ...

    def run(self, *statements: str) -> None:
        """Change the tables behind the store's back; `{entry}`, `{node}` .. are their names."""
        ...

    def unguard(self) -> None:
        """Take the triggers away."""
        ...

    def blob(self, data: bytes) -> str:
        """Bytes as the database's SQL has them."""
        ...

    def set_format(self, number: int) -> None:
        """Let the ledger say that it is of another format."""
        ...

    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wait for another writer for a short time only."""
        ...


@dataclass(frozen=True)
class SqlitePlace:
    path: Path

    @property
    def target(self) -> str:
        return str(self.path)

    def open(self) -> SqliteLedger:
        return SqliteLedger(self.path)

    def run(self, *statements: str) -> None:
        names = {name: name for name in ("ledger", "entry", "node", "checkpoint")}
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement.format(**names))

    def unguard(self) -> None:
        self.run(
            "DROP TRIGGER entry_stays",
            "DROP TRIGGER entry_is_kept",
            "DROP TRIGGER node_stays",
            "DROP TRIGGER node_is_kept",
        )

    def blob(self, data: bytes) -> str:
        return f"x'{data.hex()}'"

    def set_format(self, number: int) -> None:
        self.run(f"PRAGMA user_version = {number}")

    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.2)


@dataclass(frozen=True)
class PostgresPlace:
    server: Server
    database: str

    @property
    def target(self) -> str:
        return self.server.url(self.database)

    def open(self, *, name: str = "coordinator", writer: str = "w") -> PostgresLedger:
        return PostgresLedger(self.target, name=name, writer=writer)

    def run(self, *statements: str) -> None:
        names = {name: f"tacit.{name}" for name in ("ledger", "entry", "node", "checkpoint")}
        with psycopg.connect(self.target, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.format(**names).encode())

    def unguard(self) -> None:
        tables = ("{ledger}", "{entry}", "{node}")
        self.run(*(f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in tables))

    def blob(self, data: bytes) -> str:
        return f"'\\x{data.hex()}'::bytea"

    def set_format(self, number: int) -> None:
        self.unguard()
        self.run(f"UPDATE {{ledger}} SET format = {number}")  # noqa: S608 - a number of ours

    def hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(postgres_ledger, "LOCK_TIMEOUT_S", 1)


class Process:
    """Another process at a ledger; see `ledger_writers`."""

    def __init__(self, target: str, verb: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                ledger_writers.__file__,
                target,
                verb,
                *(str(argument) for argument in arguments),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        )
        self._expect("ready")

    def _expect(self, word: str) -> None:
        heard = self.hear()
        assert heard == word, heard

    def go(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """What it says next."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        """End it where it is, as by kill -9."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Wait for its end."""
        self._process.communicate(timeout=240)


@contextmanager
def process(target: str, verb: str, *arguments: object) -> Iterator[Process]:
    """One process, which has ended after the context."""
    one = Process(target, verb, *arguments)
    try:
        yield one
    except BaseException:
        one.kill()
        raise
    finally:
        one.close()


def together(target: str, verb: str, writers: Sequence[str], *arguments: object) -> list[str]:
    """What processes say that do the same at the same time."""
    processes = [Process(target, verb, writer, *arguments) for writer in writers]
    for each in processes:
        each.go()
    try:
        return [each.hear() for each in processes]
    finally:
        for each in processes:
            each.close()
