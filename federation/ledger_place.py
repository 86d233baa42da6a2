"""Where a ledger is, as a person writes it: a file's path or the address of a database."""

import os
import re
import socket
from pathlib import Path

from privacy.errors import InputError
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import LedgerStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_DATABASES = ("postgresql", "postgres")


def open_store(target: str | Path, *, name: str = "coordinator") -> LedgerStore:
    """Return the ledger at a place; nothing is read or made yet.

    Args:
        target: A path, or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
        name: Which of a database's ledgers.

    Raises:
        InputError: it is neither, or what a database needs is not installed. Nothing of an address
            is in the sentence, as it may hold a password.
    """
    text = str(target)
    scheme = _SCHEME.match(text)
    if scheme is None:
        if not text or "\0" in text:
            raise InputError("a ledger needs a place: give a file or a postgresql:// address")
        return SqliteLedger(Path(target))
    if scheme[1] not in _DATABASES or not text.startswith(f"{scheme[1]}://"):
        raise InputError(
            "a ledger is a file or at a postgresql:// address; write ./ before a file's name that "
            "has a colon"
        )
    try:
        from federation.postgres_ledger import PostgresLedger
    except ImportError:
        raise InputError(
            "a ledger in PostgreSQL needs one more package: pip install 'tacit-fl[postgres]'"
        ) from None
    return PostgresLedger(text, name=name, writer=f"{socket.gethostname()}:{os.getpid()}")
