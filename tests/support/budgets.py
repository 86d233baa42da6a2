"""A member's loans, what its policy allows, one release about them, and its ledger. For tests only.

`raw` and `forged` are what whoever owns the file can do to it.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from privacy.budget_record import BudgetTerms
from privacy.identity import Identity
from privacy.ledger.entry import Entry, parse_leaf
from privacy.ledger.head import next_entry
from privacy.ledger.merkle import leaf_hash, new_nodes
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append
from privacy.receipt import Receipt

TERMS = BudgetTerms(
    member="bank",
    dataset="loans",
    unit="borrower",
    epsilon=8.0,
    delta=1e-5,
    order=5,
    colluders=2,
    period_days=None,
    solo_epsilon=None,
)
# The noise of six members, two of whom collude: a multiplier of 2 against the coordinator, 1 alone.
RECEIPT = Receipt(
    kind="update",
    unit="borrower",
    cohort="training",
    mechanism="gaussian",
    share=1.0,
    clip=1.0,
    sampling="none",
    rate=1.0,
    steps=1,
    shares=6,
    values=10,
    grid=0.0,
    purpose="run r, update",
)
IDENTITY = Identity.create(lambda size: b"\x07" * size)
OTHER_IDENTITY = Identity.create(lambda size: b"\x08" * size)


def begin(path: Path, identity: Identity = IDENTITY) -> None:
    """Note the node's key as the first entry of its ledger."""
    body = {"origin": "bank", "key": identity.public.hex(), "owner": "bank", "role": "node"}
    with closing(SqliteLedger(path)) as store:
        append(store, "ledger.begun", body, time_ms=0)


def entries_of(path: Path) -> list[Entry]:
    """All entries as they stand in the file, read by nothing of ours."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = connection.execute("SELECT leaf FROM entry ORDER BY place").fetchall()
    return [parse_leaf(leaf) for (leaf,) in rows]


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """The rows of a ledger, without the triggers that guard them; each statement counts at once."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        named = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        for (name,) in named.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        yield connection


def put(connection: sqlite3.Connection, entry: Entry, leaf: bytes | None = None) -> None:
    """Write an entry, or other bytes in its place, with the tree's hashes that belong to them."""
    written = entry.leaf() if leaf is None else leaf
    connection.execute("INSERT INTO entry VALUES (?, ?, NULL)", (entry.index, written))
    nodes = new_nodes(entry.index, leaf_hash(written), lambda *place: _node(connection, *place))
    connection.executemany("INSERT INTO node VALUES (?, ?, ?)", nodes)


def rewrite(connection: sqlite3.Connection, leaves: list[bytes]) -> None:
    """Put these leaves in place of all, with every hash, as if nothing else had ever been there."""
    connection.execute("DELETE FROM entry")
    connection.execute("DELETE FROM node")
    for index, leaf in enumerate(leaves):
        put(connection, Entry(index, 0, 1, "", {}), leaf)


def forged(path: Path, *acts: tuple[str, Mapping[str, object]], time_ms: int = 5) -> None:
    """Append entries that follow and hash well, as a program that is no `Budget` might."""
    known = entries_of(path)
    last = known[-1] if known else None
    with raw(path) as connection:
        for kind, body in acts:
            last = next_entry(last, kind, body, time_ms=time_ms, epoch=1)
            put(connection, last)


def _node(connection: sqlite3.Connection, level: int, index: int) -> bytes:
    (digest,) = connection.execute(
        "SELECT hash FROM node WHERE level = ? AND place = ?", (level, index)
    ).fetchone()
    return bytes(digest)
