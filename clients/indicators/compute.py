"""Indicators of a contract's devices, in one pass over the rows.

Rows are streamed chunk by chunk; what is kept is a few figures a device. A window whose end is not
given takes a pass of its own before, over ids and times alone, to find each device's last reading.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from clients.contract import Column
from clients.indicators.dealt import dealt_chunks
from clients.indicators.figures import Figures, quantity_values
from clients.indicators.indicator import Floats
from clients.indicators.plan import Plan
from clients.indicators.readings import Codes, TimeGoesBackError
from clients.left_out import LeftOut, LeftOutFacts, Sieve
from clients.source import CHUNK_ROWS
from privacy.canonical import canonical_json, framed
from privacy.errors import DataError

_HASH_DOMAIN: Final = b"tacit/indicator-rows/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRows:
    """What a device's values were made of.

    Attributes:
        rows: Rows within the window, as they lie in the files.
        digest: HMAC-SHA256, hex, over them (`compute_indicators`).
        first: Time of the first of them, as in the file.
        last: Of the last.
        end: End of the window, in the same unit; None without one.
    """

    rows: int
    digest: str
    first: float
    last: float
    end: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndicatorTable:
    """Devices by indicators.

    Attributes:
        plan: What was computed.
        devices: Names, sorted; those with a row in their window.
        columns: Indicator's key -> one value a device, NaN where it is absent.
        rows: What each device's values were made of.
        left_out: Keyed digest of a device -> what was left out of it; None where nobody asked
            the gate.
    """

    plan: Plan
    devices: tuple[str, ...]
    columns: Mapping[str, Floats]
    rows: tuple[DeviceRows, ...]
    left_out: Mapping[str, LeftOutFacts] | None = None


def compute_indicators(
    plan: Plan,
    data_root: Path,
    *,
    key: bytes,
    member: str | None = None,
    left_out: LeftOut | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> IndicatorTable:
    """Compute a plan over a contract's rows. `docs/indicators.md` has every rule and formula.

    Rows of devices that share a name at several members, or in training and test parts that the
    data tells apart, are different devices: the member, or the part, leads the name.

    No row of a device that is left out is in any value, count, digest or window's end.

    Args:
        plan: What to compute.
        data_root: Where the contract's sources lie.
        key: The node's, for the digests of rows: they bind, and whoever has no key can test no
            guess of a row against them. Equal rows have equal digests under one key.
        member: Read this member's rows alone.
        left_out: Devices of a gated contract whose rows nobody uses; None: nobody asked the gate.
        chunk_rows: Rows in memory at once.

    Raises:
        TacitError: As `clients.source.read_chunks`.
        InputError: There is no such member.
        DataError: Rows of a device are not in order of time, no row is in a window or none is
            left, or the files changed between two passes over them.
    """

    def chunks(sieve: Sieve | None, *, inputs: bool) -> Iterator[tuple[Codes, pd.DataFrame]]:
        for names, chunk in dealt_chunks(
            plan, data_root, member=member, sieve=sieve, chunk_rows=chunk_rows, inputs=inputs
        ):
            if len(chunk):
                yield devices.codes(names), chunk

    devices = _Devices()
    last_h = None
    if plan.window_h is not None and plan.as_of is None:
        last_h = np.zeros(0)
        for codes, chunk in chunks(_sieve(left_out), inputs=False):
            last_h = _latest(plan, codes, chunk, last_h, len(devices))
    work = _Work(plan, key, last_h)
    sieve = _sieve(left_out)
    for codes, chunk in chunks(sieve, inputs=True):
        work.add(codes, chunk, devices)
    return work.finish(devices, sieve)


class _Devices:
    """Names of devices -> codes, in order of first appearance."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.names)

    def codes(self, names: "pd.Series[str]") -> Codes:
        local, unique = pd.factorize(names)
        own = [self.names.setdefault(str(name), len(self.names)) for name in unique]
        return np.asarray(own, dtype=np.int64)[local]


@dataclass(slots=True)
class _Source:
    """What is kept of a device's rows."""

    code: hmac.HMAC
    rows: int = 0
    first: float = np.nan
    last: float = np.nan


@dataclass(slots=True)
class _Work:
    plan: Plan
    key: bytes
    last_h: Floats | None
    end_h: Floats = field(init=False)
    figures: Figures = field(init=False)
    sources: dict[int, _Source] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        plan = self.plan
        self.end_h = np.zeros(0) if self.last_h is None else self.last_h + plan.hold_h
        self.figures = Figures(
            list(plan.inputs), plan.indicators, hold_h=plan.hold_h, window_h=plan.window_h
        )

    def add(self, device: Codes, chunk: pd.DataFrame, devices: _Devices) -> None:
        plan = self.plan
        time = chunk[plan.time.name].to_numpy(dtype=np.float64)
        time_h = _hours(plan, time)
        if self.last_h is not None and (
            len(devices) > self.last_h.size or (time_h > self.last_h[device]).any()
        ):
            # a device or a reading that the first pass did not see has no window
            raise DataError(
                f"The files of {plan.contract.name} changed while they were read; start again."
            )
        self._grow(len(devices))
        if plan.window_h is not None:
            end = self.end_h[device]
            inside = (time_h >= end - plan.window_h) & (time_h < end)
            if not inside.all():
                device, time, time_h = device[inside], time[inside], time_h[inside]
                chunk = chunk[inside]
        if not device.size:
            return
        self._note(device, time, chunk, list(devices.names))
        values = np.array([_input(name, column, chunk) for name, column in plan.inputs.items()])
        values = values.reshape(len(plan.inputs), device.size)
        try:
            self.figures.add(device, time_h, values, end_h=self.end_h)
        except TimeGoesBackError:
            raise DataError(
                f"{plan.contract.name}: rows of a device are not in order of time; sort them by "
                f"{plan.time.name}."
            ) from None

    def finish(self, devices: _Devices, sieve: Sieve | None) -> IndicatorTable:
        found = self.figures.finish(end_h=self.end_h)
        names = {name: code for name, code in devices.names.items() if code in self.sources}
        if not len(devices) and sieve is not None:
            raise DataError(
                f"{self.plan.contract.name}: no row is left: its devices wait for a review, were "
                f"rejected, or are not trusted; see tacit data review list."
            )
        if not names:
            raise DataError(
                f"{self.plan.contract.name}: no row is within the window; check --as-of and "
                f"--window."
            )
        order = sorted(names)
        codes = [names[name] for name in order]
        return IndicatorTable(
            plan=self.plan,
            devices=tuple(order),
            columns={one.key: found[one.key][codes] for one in self.plan.indicators},
            rows=tuple(self._rows(code) for code in codes),
            left_out=None if sieve is None else sieve.facts(),
        )

    def _grow(self, devices: int) -> None:
        self.figures.grow(devices)
        if self.end_h.size < devices:
            end = np.inf
            if self.plan.as_of is not None:
                end = float(_hours(self.plan, np.array([self.plan.as_of]))[0])
            self.end_h = np.append(self.end_h, np.full(devices - self.end_h.size, end))

    def _note(self, device: Codes, time: Floats, chunk: pd.DataFrame, names: list[str]) -> None:
        """Digests of rows, device by device, in the order of the files."""
        cells = [time, *(chunk[name].to_numpy(dtype=np.float64) for name in self.plan.columns)]
        table = np.stack(cells, axis=1)
        table[np.isnan(table)] = np.nan  # one spelling for what is missing
        order = np.argsort(device, kind="stable")
        table, device = np.ascontiguousarray(table[order], dtype="<f8"), device[order]
        starts = np.flatnonzero(np.append(True, np.diff(device) != 0))
        for start, stop in zip(starts, np.append(starts[1:], device.size), strict=True):
            code = int(device[start])
            source = self.sources.get(code)
            if source is None:
                source = self.sources[code] = _Source(self._code(names[code]))
                source.first = source.last = float(table[start, 0])
            own = table[start:stop]
            source.code.update(own.tobytes())
            source.rows += len(own)
            source.first = min(source.first, float(own[:, 0].min()))
            source.last = max(source.last, float(own[:, 0].max()))

    def _code(self, device: str) -> hmac.HMAC:
        plan = self.plan
        head = {
            "contract": plan.digest,
            "device": device,
            "columns": [plan.time.name, *plan.columns],
        }
        return hmac.new(self.key, framed(_HASH_DOMAIN, canonical_json(head)), hashlib.sha256)

    def _rows(self, code: int) -> DeviceRows:
        source, plan = self.sources[code], self.plan
        end = None
        if plan.window_h is not None:
            end = (float(self.end_h[code]) - plan.zone_h) / plan.step_h
        return DeviceRows(
            rows=source.rows,
            digest=source.code.hexdigest(),
            first=source.first,
            last=source.last,
            end=end if plan.as_of is None else plan.as_of,
        )


def _sieve(left_out: LeftOut | None) -> Sieve | None:
    return None if left_out is None else Sieve(left_out)


def _hours(plan: Plan, time: Floats) -> Floats:
    return time * plan.step_h + plan.zone_h


def _latest(plan: Plan, device: Codes, chunk: pd.DataFrame, end_h: Floats, devices: int) -> Floats:
    end_h = np.append(end_h, np.full(devices - end_h.size, -np.inf))
    np.maximum.at(end_h, device, _hours(plan, chunk[plan.time.name].to_numpy(dtype=np.float64)))
    return end_h


def _input(name: str, column: Column, chunk: pd.DataFrame) -> Floats:
    """A quantity's values, as `quantity_values` reads a column's."""
    values = chunk[column.name].to_numpy(dtype=np.float64)
    return quantity_values(
        name, values, unit=column.unit, bounds=column.range, where=f"Column {column.name}"
    )
