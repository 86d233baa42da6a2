"""Members' rows with those columns alone that the quality gate reads; no label is needed.

So rows can pass the gate before anything is known of how they end, as scored rows do.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from clients.contract import DataContract, GateRules
from clients.members import MemberRows, Table, read_table, tables, told_owners
from clients.source import UNIT, unit_names
from privacy.errors import DataError


def gate_rows(
    contract: DataContract,
    data_root: Path,
    *,
    only: frozenset[str] | None = None,
    sole_member: str | None = None,
) -> dict[str, MemberRows]:
    """Read the rows of a gated contract for `clients.judgement.judged`.

    Devices, their readings and so what becomes of them are those of `read_members`, whatever the
    split: it deals out a device's rows, and the gate puts them together again.

    Args:
        contract: A gated one.
        data_root: Where its sources lie.
        only: Members to read; None = all.
        sole_member: The name where all rows belong to one member; default: the contract's name.

    Raises:
        TacitError: As `clients.members.read_members`; a member without rows is none here.
        DataError: A row has no time.
    """
    rules = contract.gate or GateRules.model_construct()
    read = (*contract.unit_columns, *contract.watched, *contract.by_role("time"))
    wanted = {column.name for column in read}
    wanted |= {name for name in (rules.restarts, rules.firmware_days) if name is not None}
    found: dict[str, MemberRows] = {}
    for table in tables(contract, data_root, sole_member):
        if only is None or table.member is None or table.member in only:
            found |= _of_table(contract, table, frozenset(wanted), only)
    return dict(sorted(found.items()))


def _of_table(
    contract: DataContract, table: Table, wanted: frozenset[str], only: frozenset[str] | None
) -> dict[str, MemberRows]:
    owners = told_owners(contract, table)
    frame = pd.concat(read_table(contract, table, columns=wanted), ignore_index=True)
    if len(frame) != owners.member.size:
        raise DataError(f"The files of {contract.name} changed while they were read; start again.")
    time = contract.time_column
    if time is not None and not np.isfinite(frame[time.name].to_numpy(dtype=np.float64)).all():
        raise DataError(
            f"{contract.name}: column {time.name} has empty cells; every row needs one."
        )
    frame[UNIT] = unit_names(frame, contract)
    return {
        name: MemberRows(
            name,
            frame[(owners.member == code) & ~owners.test],
            frame[(owners.member == code) & owners.test],
        )
        for code, name in enumerate(owners.names)
        if only is None or name in only
    }
