"""Where a value came from: transform and version, window, contract, and the rows themselves.

Beside a table of indicators lies `TABLE.lineage.json`: canonical JSON, so that it has one digest.
It holds no value and no row; what it says of a device's rows is a digest under the node's key.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from pydantic import Field

from clients.contract import DataContract
from clients.frozen import Frozen, nearest, parse_settings
from clients.indicators.compute import IndicatorTable
from clients.indicators.plan import Plan, make_plan
from clients.indicators.registry import INDICATORS
from clients.left_out import LeftOutFacts
from clients.source import native_reader
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import InputError, NotVerifiedError, ProtocolError

DEVICE: Final = "device"
_MOST_DIGITS: Final = 12

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TableFacts(Frozen):
    """The file of values.

    Attributes:
        file: Its name.
        format: csv or parquet.
        digest: SHA-256 of its bytes.
    """

    file: str
    format: Literal["csv", "parquet"]
    digest: Hex


class ContractFacts(Frozen):
    """The contract of the rows, as the plan used it."""

    name: str
    digest: Hex
    device_key: tuple[str, ...]
    time: str


class InputFacts(Frozen):
    """The column that held a quantity, and its unit there."""

    column: str
    unit: str | None


class TransformFacts(Frozen):
    """One column of the table: which transform made it, from what."""

    indicator: str
    digest: Hex
    unit: str
    inputs: dict[str, InputFacts]


class TimeFacts(Frozen):
    """How readings stand for time; `as_of` is in units of the time column."""

    step_h: float
    hold_h: float
    window_h: float | None
    as_of: float | None
    zone_h: float


class DeviceFacts(Frozen):
    """A device's rows within its window; times are in units of the time column."""

    rows: int
    digest: Hex
    first: float
    last: float
    end: float | None


class Lineage(Frozen):
    """All that is known of where a table's values came from.

    Attributes:
        lineage: The form's version.
        table: The file.
        contract: What the rows mean.
        time: How readings stand for time.
        indicators: Column -> transform.
        devices: Name -> its rows.
        left_out: Keyed digest of a device -> why none of its rows was used; None, and not in the
            bytes, where the contract has no gate.
    """

    lineage: Literal[1]
    table: TableFacts
    contract: ContractFacts
    time: TimeFacts
    indicators: dict[str, TransformFacts]
    devices: dict[str, DeviceFacts]
    left_out: dict[Hex, LeftOutFacts] | None = None

    @property
    def bytes(self) -> bytes:
        """Canonical JSON."""
        value = self.model_dump(mode="json")
        if self.left_out is None:
            del value["left_out"]
        return canonical_json(_plain(value))

    @property
    def digest(self) -> str:
        """SHA-256, hex, over `bytes`."""
        return hashlib.sha256(b"tacit/lineage/v1\0" + self.bytes).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One value with all that it came from.

    Attributes:
        device: Whose.
        column: In which column of the table.
        value: None where the indicator is absent.
        transform: Which transform made it.
        known: Whether this version of tacit has that very transform.
        sentence: What it says; empty where it is not known.
        formula: How it is computed; empty where it is not known.
        contract: The rows' contract.
        time: How readings stand for time.
        rows: The rows.
    """

    device: str
    column: str
    value: float | None
    transform: TransformFacts
    known: bool
    sentence: str
    formula: str
    contract: ContractFacts
    time: TimeFacts
    rows: DeviceFacts


def lineage_of(table: IndicatorTable, facts: TableFacts) -> Lineage:
    """The lineage of a computed table that was written as `facts` say."""
    plan = table.plan
    return Lineage(
        lineage=1,
        table=facts,
        contract=ContractFacts(
            name=plan.contract.name,
            digest=plan.digest,
            device_key=tuple(column.name for column in plan.contract.unit_columns),
            time=plan.time.name,
        ),
        time=TimeFacts(
            step_h=plan.step_h,
            hold_h=plan.hold_h,
            window_h=plan.window_h,
            as_of=plan.as_of,
            zone_h=plan.zone_h,
        ),
        indicators={one.name: _transform(plan, one.key) for one in plan.indicators},
        devices={
            name: DeviceFacts(
                rows=rows.rows,
                digest=rows.digest,
                first=rows.first,
                last=rows.last,
                end=rows.end,
            )
            for name, rows in zip(table.devices, table.rows, strict=True)
        },
        left_out=None if table.left_out is None else dict(table.left_out),
    )


def plan_again(lineage: Lineage, contract: DataContract) -> Plan:
    """The plan that a lineage tells of, so that anybody who has the rows can compute it again.

    Raises:
        NotVerifiedError: The contract is another, or a transform is not the one that is known here.
    """
    if contract.digest != lineage.contract.digest:
        raise NotVerifiedError(
            f"{contract.name}: is not the contract that the lineage names "
            f"({lineage.contract.digest[:16]}...); give that one."
        )
    for said in lineage.indicators.values():
        known = INDICATORS.get(said.indicator)
        if known is None or known.digest != said.digest:
            raise NotVerifiedError(
                f"{said.indicator}: is another transform here than the lineage names; use the "
                f"version of tacit that computed the table."
            )
    time = lineage.time
    columns = {
        name: given.column
        for said in lineage.indicators.values()
        for name, given in said.inputs.items()
    }
    plan = make_plan(
        contract,
        [said.indicator for said in lineage.indicators.values()],
        inputs=columns,
        device_key=lineage.contract.device_key,
        step="1h",
        zone_h=time.zone_h,
    )
    return replace(
        plan, step_h=time.step_h, hold_h=time.hold_h, window_h=time.window_h, as_of=time.as_of
    )


def lineage_path(table: Path) -> Path:
    """Where a table's lineage lies."""
    return table.with_name(f"{table.name}.lineage.json")


def read_lineage(table: Path, *, read: Callable[[Path], bytes] = Path.read_bytes) -> Lineage:
    """Read a table's lineage, and hold the table against it.

    Args:
        table: Its file; the lineage lies beside it.
        read: Reads a file; opens it, where it is sealed.

    Raises:
        InputError: A file is missing or cannot be read.
        NotVerifiedError: The lineage is no canonical JSON of the form, or the table is another.
    """
    path = lineage_path(table)
    try:
        raw = read(path)
        digest = hashlib.sha256(read(table)).hexdigest()
    except OSError as failure:
        raise InputError(
            f"{failure.filename}: cannot be read ({failure.strerror}); give a table that tacit "
            f"data indicators compute wrote, with its lineage beside it."
        ) from None
    try:
        value = parse_canonical(raw.removesuffix(b"\n"))
    except ProtocolError:
        raise NotVerifiedError(
            f"{path}: is not as it was written; compute the table again."
        ) from None
    lineage = parse_settings(Lineage, value, str(path))
    if lineage.table.digest != digest:
        raise NotVerifiedError(
            f"{table}: is not the table that its lineage speaks of; compute it again."
        )
    return lineage


def trace(
    table: Path,
    which: str,
    *,
    indicator: str | None = None,
    read: Callable[[Path], bytes] = Path.read_bytes,
) -> tuple[Step, ...]:
    """Walk from a device's values back to transforms, contract and rows.

    Args:
        table: A file that `tacit data indicators compute` wrote.
        which: A device's name, or else the number of a row, from 1.
        indicator: Of this column alone.
        read: As of `read_lineage`.

    Raises:
        TacitError: As `read_lineage`.
        InputError: There is no such device or indicator.
    """
    lineage = read_lineage(table, read=read)
    if indicator is not None and indicator not in lineage.indicators:
        guess = nearest(indicator, lineage.indicators)
        advice = f"did you mean {guess}?" if guess else f"it has {', '.join(lineage.indicators)}."
        raise InputError(f"{table}: has no indicator {indicator}; {advice}")
    # canonical JSON keeps keys by name, a table has the registry's order
    order = {key: place for place, key in enumerate(INDICATORS)}
    names = sorted(
        lineage.indicators if indicator is None else [indicator],
        key=lambda name: order.get(lineage.indicators[name].indicator, len(order)),
    )
    device, values = _row(table, read(table), lineage, which, names)
    return tuple(_step(lineage, device, name, values[name]) for name in names)


def _transform(plan: Plan, key: str) -> TransformFacts:
    one = INDICATORS[key]
    return TransformFacts(
        indicator=key,
        digest=one.digest,
        unit=one.unit,
        inputs={
            name: InputFacts(column=plan.inputs[name].name, unit=plan.inputs[name].unit)
            for name in one.inputs
        },
    )


def _step(lineage: Lineage, device: str, name: str, value: float | None) -> Step:
    transform = lineage.indicators[name]
    here = INDICATORS.get(transform.indicator)
    known = here is not None and here.digest == transform.digest
    return Step(
        device=device,
        column=name,
        value=value,
        transform=transform,
        known=known,
        sentence=here.sentence if here is not None and known else "",
        formula=here.formula if here is not None and known else "",
        contract=lineage.contract,
        time=lineage.time,
        rows=lineage.devices[device],
    )


def _row(
    path: Path, data: bytes, lineage: Lineage, which: str, names: list[str]
) -> tuple[str, Mapping[str, float | None]]:
    """A row of a table that was held against its lineage, so it is as it was written."""
    columns = [DEVICE, *names]
    try:
        if lineage.table.format == "parquet":
            table = pq.read_table(native_reader(data), columns=columns)
        else:
            types = {DEVICE: pa.string()} | dict.fromkeys(names, pa.float64())
            options = pacsv.ConvertOptions(include_columns=columns, column_types=types)
            table = pacsv.read_csv(native_reader(data), convert_options=options)
        devices = table.column(DEVICE).to_pylist()
    except (pa.ArrowException, KeyError, OSError):
        # whoever wrote table and lineage wrote no table of these columns
        raise NotVerifiedError(
            f"{path}: is no table of the indicators that its lineage names; compute it again."
        ) from None
    counts = which.isdecimal() and len(which) < _MOST_DIGITS and which not in lineage.devices
    place = None
    if counts and 0 < int(which) <= len(devices):
        place = int(which) - 1
    elif which in devices:
        place = devices.index(which)
    if place is not None and devices[place] in lineage.devices:
        return devices[place], {name: table.column(name)[place].as_py() for name in names}
    guess = nearest(which, lineage.devices)
    advice = f"did you mean {guess}?" if guess else f"it has {len(lineage.devices)} others."
    raise InputError(f"{path}: has no device {which}; {advice}")


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Whole floats stay floats; numpy's become Python's."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a lineage holds finite numbers")
    return value
