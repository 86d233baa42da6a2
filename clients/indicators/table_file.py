"""A table of indicators on disk: values, their lineage, and the draft of a contract for them."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clients.durable_file import write_whole
from clients.indicators.compute import IndicatorTable
from clients.indicators.indicator import Floats, Indicator
from clients.indicators.lineage import DEVICE, Lineage, TableFacts, lineage_of, lineage_path
from privacy.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written, and where."""

    table: Path
    lineage_path: Path
    draft: Path
    lineage: Lineage


def write_table(table: IndicatorTable, path: Path) -> Written:
    """Write `path`, `path.lineage.json` and `path.contract.yaml`, each whole or not at all.

    An indicator that is absent is an empty cell. Equal tables give equal bytes.

    Raises:
        InputError: The name ends neither in .csv nor in .parquet, or the disk refuses.
    """
    files, lineage = table_files(table, path)
    for one, data in files.items():
        write_file(one, data)
    path, beside, draft = files
    return Written(table=path, lineage_path=beside, draft=draft, lineage=lineage)


def table_files(table: IndicatorTable, path: Path) -> tuple[dict[Path, bytes], Lineage]:
    """What `write_table` writes: the table, its lineage, the draft of a contract, in this order.

    Raises:
        InputError: The name ends neither in .csv nor in .parquet.
    """
    form = table_format(path)
    data = _csv(table) if form == "csv" else _parquet(table)
    facts = TableFacts(
        file=path.name,
        format=form,
        digest=hashlib.sha256(data).hexdigest(),
    )
    lineage = lineage_of(table, facts)
    draft = path.with_name(f"{path.name}.contract.yaml")
    files = {
        path: data,
        lineage_path(path): lineage.bytes + b"\n",
        draft: draft_contract(table, lineage, path).encode(),
    }
    return files, lineage


def table_format(path: Path) -> Literal["csv", "parquet"]:
    """Which form a table of that name has.

    Raises:
        InputError: None that is known.
    """
    ending = path.suffix.lower()
    if ending == ".csv":
        return "csv"
    if ending in {".parquet", ".pq"}:
        return "parquet"
    raise InputError(f"{path}: is no name for a table; end it in .csv or .parquet.")


def draft_contract(table: IndicatorTable, lineage: Lineage, path: Path) -> str:
    """A contract's YAML for the table: every input an indicator, the label still to be chosen.

    Ranges are those of the indicator, and where it has none of the values, rounded outward.
    """
    name = "".join(c if c.isalnum() or c in "_-" else "_" for c in path.name.split(".")[0])[:60]
    form = lineage.table.format
    lines = [
        "# Drafted from computed indicators. REVIEW and CHOOSE mark what a person has to decide.",
        f"# lineage: {lineage.digest}",
        "contract: 1",
        f"name: {_quoted(name.lstrip('_-') or 'indicators')}",
        f"title: {_quoted(f'Indicators of {lineage.contract.name}')}",
        "unit: device  # REVIEW whom privacy protects",
        "accepts: indicators",
        "sources:",
        f"  - {{path: {_quoted(path.name)}, format: {form}}}",
        "columns:  # REVIEW each class: L1 public, L2 internal, L3 confidential, L4 secret",
        f"  - {{name: {DEVICE}, type: text, role: id, class: L3}}",
        *(_column(one, table.columns[one.key]) for one in table.plan.indicators),
        "  # CHOOSE add what else is known of a device, each with `declared: true`, and the label:",
        "  # - {name: default, type: integer, role: label, class: L3, range: [0, 1]}",
        "split: {kind: units, seed: 0, test_share: 0.25}",
        "# CHOOSE what to learn:",
        "# label: {kind: binary, column: default, positive: 1}",
    ]
    return "\n".join(lines) + "\n"


def _column(one: Indicator, values: Floats) -> str:
    low, high = _range(one, values)
    return (
        f"  - {{name: {one.name}, type: number, class: L2, unit: {_quoted(one.unit)}, "
        f"range: [{low}, {high}], indicator: {one.key}}}"
    )


def _range(one: Indicator, values: Floats) -> tuple[str, str]:
    seen = values[~np.isnan(values)]
    low = one.low if not seen.size else min(one.low, float(seen.min()))
    if one.low < 0 and seen.size:  # a bound that no device comes near would flatten the rest
        low = float(seen.min())
    high = one.high
    if high is None:
        high = float(seen.max()) if seen.size else low + 1
    if not low < high:
        high = low + 1
    return _outward(low, ROUND_FLOOR), _outward(high, ROUND_CEILING)


def _outward(value: float, rounding: str) -> str:
    """Two digits: a range tells little of the devices behind it."""
    exact = Decimal(repr(value))
    if not exact:
        return "0.0"
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), rounding=rounding)
    return repr(float(rounded))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _columns(table: IndicatorTable) -> Sequence[tuple[str, Floats]]:
    return [(one.name, table.columns[one.key]) for one in table.plan.indicators]


def _csv(table: IndicatorTable) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = _columns(table)
    writer.writerow([DEVICE, *(name for name, _ in columns)])
    for place, device in enumerate(table.devices):
        cells = (float(values[place]) for _, values in columns)
        writer.writerow([device, *("" if np.isnan(cell) else repr(cell) for cell in cells)])
    return text.getvalue().encode()


def _parquet(table: IndicatorTable) -> bytes:
    columns = {
        DEVICE: pa.array(list(table.devices), pa.string()),
        **{
            name: pa.array(values, pa.float64(), from_pandas=True)
            for name, values in _columns(table)
        },
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: The disk refuses.
    """
    try:
        write_whole(path, data)
    except OSError as failure:
        raise InputError(
            f"{path}: cannot be written ({failure.strerror}); free some space or choose another "
            f"folder."
        ) from None
