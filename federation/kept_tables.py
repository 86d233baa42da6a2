"""Tables of indicators that a home keeps for itself: sealed, where their rows are confidential.

    <home>/tables/<name>.csv                 a row a device
    <home>/tables/<name>.csv.lineage.json    where each value came from
    <home>/tables/<name>.csv.contract.yaml   the draft of a contract

A row is one device's, so such a table is as confidential as the columns behind it. Sealed is with
the vault of the home's node (`clients.vault_folder`), which gets a key file where it has none.
"""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from clients.contract import DataContract
from clients.durable_file import make_folder
from clients.indicators.compute import IndicatorTable
from clients.indicators.lineage import lineage_path
from clients.indicators.table_file import Written, table_files, write_file
from clients.policy import highest_class
from clients.sealed_files import TABLES
from clients.vault import Label, is_sealed, unseal
from clients.vault_folder import (
    SEALED_CLASSES,
    ensure_vault,
    folder_vault,
    open_keys,
    vault_lock,
)
from federation.home import Home
from privacy.errors import InputError, NotVerifiedError
from privacy.randomness import Entropy

KEPT: Final = "kept:"
"""Before the name of a table that is kept, where a file's path may stand too."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KIND: Final = "table"


def keep_table(
    home: Home, name: str, table: IndicatorTable, contract: DataContract, entropy: Entropy
) -> Written:
    """Keep a table under a name; one of that name is written over.

    Raises:
        InputError: The name is none, the vault's key cannot be had, or the disk refuses.
    """
    path = _path(home, name)
    files, lineage = table_files(table, path)
    data_class, node = highest_class(contract), home.own_node
    seals = data_class in SEALED_CLASSES
    if seals:
        make_folder(node, mode=0o700)
    make_folder(path.parent, mode=0o700)
    with vault_lock(node) if seals else nullcontext():
        if seals:
            ensure_vault(node, entropy)
        vault = folder_vault(node, data_class, entropy)
        for one, data in files.items():
            write_file(one, data if vault is None else vault.seal(_KIND, one.name, data))
    path, beside, draft = files
    return Written(table=path, lineage_path=beside, draft=draft, lineage=lineage)


def kept_table(home: Home, name: str) -> Path:
    """Where a kept table lies.

    Raises:
        InputError: There is none of that name.
    """
    path = _path(home, name)
    if not path.exists():
        found = sorted(one.stem for one in path.parent.glob("*.csv"))
        raise InputError(f"{name}: is no kept table; this home has {', '.join(found) or 'none'}.")
    return path


def opener(home: Home, entropy: Entropy) -> Callable[[Path], bytes]:
    """Return what reads a kept file, and opens it where it is sealed.

    It raises OSError as a read does, NotVerifiedError where the file is damaged or was moved, and
    InputError where the vault's key cannot be had.
    """

    def read(path: Path) -> bytes:
        data = path.read_bytes()
        if not is_sealed(data):
            return data
        keys = open_keys(home.own_node, entropy)
        if keys is None:
            raise NotVerifiedError(f"{path}: is sealed, and this home's key is gone.")
        for one in SEALED_CLASSES:
            try:
                return unseal(data, Label(_KIND, path.name, one), keys)
            except NotVerifiedError:
                continue
        raise NotVerifiedError(
            f"{path}: is damaged, or sealed with another key than this home's; compute it again."
        )

    return read


def export_table(home: Home, name: str, out: Path, entropy: Entropy) -> None:
    """Write a kept table and its lineage, open, where a person names the place.

    Raises:
        InputError: There is no such table, it cannot be opened, or the disk refuses.
        NotVerifiedError: It is damaged.
    """
    path, read = kept_table(home, name), opener(home, entropy)
    if out.suffix.lower() != ".csv":
        raise InputError(f"{out}: kept tables are CSV; end the name in .csv.")
    try:
        found = read(path), read(lineage_path(path))
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}).") from None
    write_file(out, found[0])
    write_file(lineage_path(out), found[1])


def _path(home: Home, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise InputError(f"{name}: is no name of a table; use letters, digits, - and _.")
    return home.root / TABLES / f"{name}.csv"
