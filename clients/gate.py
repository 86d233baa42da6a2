"""The quality gate's rules over one device's readings; pure, and blind to how readings came in.

The rules are written in docs/quality-gate.md. What holds here: all but the counts of rows, repeats,
contradictions and late rows follows from the *set* of a device's rows. So it is the same in
whatever order, in how many files and how often they arrive, and whenever a node was restarted
between (tests/property/test_gate_readings.py).
"""

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import DataContract, GateRules
from clients.members import MemberRows
from clients.source import ROW, UNIT
from clients.unit_guess import looks_like
from privacy.canonical import framed

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
IN_A_ROW: Final = 3
"""So many readings of a device in a row outside a threshold put it under review."""
FEWEST_STEPS: Final = 3
"""Times between readings from which on a clock is judged."""
_TEST: Final = "test:"


@dataclass(frozen=True, slots=True, order=True)
class Device:
    """A device of one member and one contract.

    Attributes:
        unit: Its name in the rows.
        test: Whether it is of the test part, where the data says the parts: the same name in the
            training part is another device then.
    """

    unit: str
    test: bool = False

    @property
    def name(self) -> str:
        """What people call it here."""
        return _TEST * self.test + self.unit


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """One device's readings of the columns that have a threshold: one for each time that says any.

    Attributes:
        times: (n,) Rising.
        out: (n,) Whether any cell of any row of that time lies outside its threshold.
        words: What was read, for each reading that is out, in order of time: two readings with the
            same words are the same reading.
    """

    times: Floats
    out: Flags
    words: tuple[bytes, ...]

    def runs(self) -> Iterator[tuple[int, ...]]:
        """Places in `words` of each unbroken row of readings that are out, short ones too."""
        place = 0
        for start, stop in _stretches(self.out):
            if self.out[start]:
                yield tuple(range(place, place + stop - start))
                place += stop - start

    def puts_under_review(self, settled: Collection[int] = ()) -> tuple[int, ...]:
        """Places in `words` of the readings that put the device under review; empty: none do.

        They are those of each unbroken row in which `IN_A_ROW` or more were not settled before.

        Args:
            settled: Places of readings that a person has seen and released.
        """
        known = frozenset(settled)
        return tuple(
            place
            for run in self.runs()
            if sum(one not in known for one in run) >= IN_A_ROW
            for place in run
            if place not in known
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFindings:
    """What was found of one device. It stays on the node.

    Attributes:
        device: Which.
        rows: Its rows.
        readings: Different times among them.
        repeats: Rows that say again what another row of that time says.
        conflicts: Rows that say something else than another row of that time.
        late: Rows that stand in the files after one of a later time.
        out_of_range: Cells that no such column can hold.
        out_of_threshold: Readings outside a threshold.
        longest_run: Most of them in a row.
        gaps: Times between two readings that were too long.
        longest_gap: The longest time between two readings; None of fewer than two.
        stuck: Sensors with too many equal readings in a row.
        drift: Share by which its clock runs fast (above 0) or slow; None where nobody knows.
        drifts: Whether that is too much.
        clock_off: How far its clock is ahead, in units of time; None where nobody knows.
        is_off: Whether that is too far.
        looks_like: Column -> the unit in which its numbers seem to be instead.
    """

    device: Device
    rows: int
    readings: int
    repeats: int
    conflicts: int
    late: int
    out_of_range: int
    out_of_threshold: int
    longest_run: int
    gaps: int
    longest_gap: float | None
    stuck: tuple[str, ...]
    drift: float | None
    drifts: bool
    clock_off: float | None
    is_off: bool
    looks_like: Mapping[str, str]

    @property
    def is_clean(self) -> bool:
        """Whether nobody needs to look at it."""
        counts = self.repeats + self.conflicts + self.late + self.out_of_range + self.gaps
        found = self.stuck or self.drifts or self.is_off or self.looks_like
        return not counts and not found and self.longest_run < IN_A_ROW


def devices(rows: MemberRows, contract: DataContract) -> dict[Device, pd.DataFrame]:
    """Deal a member's rows out to its devices, by name; a device's rows are in order of time."""
    if contract.parts_are_told:
        parts = [(rows.train, False), (rows.test, True)]
    else:
        parts = [(pd.concat([rows.train, rows.test]), False)]
    time = _time(contract)
    found = {
        Device(str(unit), test): frame.sort_values([time, ROW], kind="stable")
        for part, test in parts
        for unit, frame in part.groupby(UNIT, sort=False)
    }
    return dict(sorted(found.items()))


def watch(frame: pd.DataFrame, contract: DataContract) -> Watched:
    """Return one device's watched readings.

    Args:
        frame: All its rows, in any order.
        contract: What they mean.
    """
    columns = contract.watched
    values = frame[[column.name for column in columns]].to_numpy(dtype=np.float64)
    times = frame[_time(contract)].to_numpy(dtype=np.float64)
    bounds = np.array([column.threshold for column in columns]).reshape(len(columns), 2)
    return watched(times, values, bounds)


def watched(times: Floats, values: Floats, bounds: Floats) -> Watched:
    """Join a device's rows to readings, one for each time.

    A time at which no watched cell is known says nothing: it neither makes nor breaks a row. Where
    several rows have one time, the reading is out if any of them is.

    Args:
        times: (rows,)
        values: (rows, columns). NaN = missing.
        bounds: (columns, 2). Low and high of each threshold.
    """
    outside = (values < bounds[:, 0]) | (values > bounds[:, 1])  # NaN is neither
    out_rows = np.asarray(outside.any(axis=1))
    says = np.asarray(np.isfinite(values).any(axis=1))
    known, where = np.unique(times[says], return_inverse=True)
    out = np.zeros(known.size, dtype=bool)
    np.logical_or.at(out, where, out_rows[says])
    words: dict[float, set[bytes]] = {}
    for place in np.flatnonzero(out_rows):
        words.setdefault(float(times[place]), set()).add(_bytes(values[place]))
    return Watched(
        known,
        out,
        tuple(
            framed(struct.pack(">d", float(time) + 0.0), *sorted(words[float(time)]))
            for time in known[out]
        ),
    )


def findings(device: Device, frame: pd.DataFrame, contract: DataContract) -> DeviceFindings:
    """Look at one device's rows.

    Args:
        device: Which.
        frame: Its rows, as `devices` gives them.
        contract: What they mean.
    """
    rules = contract.gate or GateRules.model_construct()
    time = frame[_time(contract)].to_numpy(dtype=np.float64)
    moments = np.unique(time)
    steps = np.diff(moments)
    seen = watch(frame, contract)
    # a row that is said again is no other
    once = frame[~frame.duplicated(subset=[c.name for c in contract.columns if c.name in frame])]
    drift = _drift(steps, rules)
    off = _clock_off(once, contract, rules)
    return DeviceFindings(
        device=device,
        rows=len(frame),
        readings=moments.size,
        repeats=len(frame) - len(once),
        conflicts=len(once) - moments.size,
        late=_late(frame, time),
        out_of_range=_out_of_range(once, contract),
        out_of_threshold=int(seen.out.sum()),
        longest_run=max((len(run) for run in seen.runs()), default=0),
        gaps=0 if rules.longest_gap is None else int((steps > rules.longest_gap).sum()),
        longest_gap=float(steps.max()) if steps.size else None,
        stuck=_stuck(once, contract, rules),
        drift=drift,
        drifts=drift is not None and rules.drift is not None and abs(drift) > rules.drift,
        clock_off=off,
        is_off=off is not None and rules.clock_off is not None and abs(off) > rules.clock_off,
        looks_like=_other_units(once, contract),
    )


def _time(contract: DataContract) -> str:
    if contract.time_column is None:
        raise ValueError("a gated contract has a time column")
    return contract.time_column.name


def _bytes(row: Floats) -> bytes:
    # one NaN and one zero: what a file spells otherwise is the same reading
    return np.where(np.isnan(row), np.nan, row + 0.0).astype(">f8").tobytes()


def _stretches(flags: NDArray[np.generic]) -> Iterator[tuple[int, int]]:
    """(start, stop) of each unbroken row of equal values."""
    if not flags.size:
        return
    edges = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    yield from zip([0, *edges.tolist()], [*edges.tolist(), flags.size], strict=True)


def _late(frame: pd.DataFrame, time: Floats) -> int:
    arrived = time[np.argsort(frame[ROW].to_numpy(), kind="stable")]
    return int((arrived < np.maximum.accumulate(arrived)).sum())


def _out_of_range(frame: pd.DataFrame, contract: DataContract) -> int:
    count = 0
    for column in contract.columns:
        if column.range is not None and column.name in frame:
            values = frame[column.name].to_numpy(dtype=np.float64)
            count += int(((values < column.range[0]) | (values > column.range[1])).sum())
    return count


def _stuck(frame: pd.DataFrame, contract: DataContract, rules: GateRules) -> tuple[str, ...]:
    if rules.stuck_after is None:
        return ()
    times = frame[_time(contract)].to_numpy(dtype=np.float64)
    return tuple(
        column.name
        for column in contract.by_role("sensor")
        if column.name not in (rules.may_rest or ())
        and _longest_rest(times, frame[column.name].to_numpy(dtype=np.float64)) >= rules.stuck_after
    )


def _longest_rest(times: Floats, values: Floats) -> int:
    """Most moments in a row that all say one value; those that say none are passed over.

    A moment may say several, where its rows contradict each other: what it says besides hides no
    sensor that stands still.
    """
    known = np.isfinite(values)
    place = np.unique(times[known], return_inverse=True)[1]
    said = np.unique(np.stack([values[known] + 0.0, place], axis=1), axis=0)
    if not len(said):
        return 0
    ends = np.flatnonzero((np.diff(said[:, 0]) != 0) | (np.diff(said[:, 1]) != 1)) + 1
    return int(np.diff(np.concatenate([[0], ends, [len(said)]])).max())


def _drift(steps: Floats, rules: GateRules) -> float | None:
    if rules.interval is None or steps.size < FEWEST_STEPS:
        return None
    return float(np.median(steps)) / rules.interval - 1.0


def _clock_off(frame: pd.DataFrame, contract: DataContract, rules: GateRules) -> float | None:
    """The median over moments; one that arrived several times counts as it arrived first."""
    if rules.received is None:
        return None
    time = frame[_time(contract)]
    first = frame.groupby(time)[rules.received].min()
    ahead = first.index.to_numpy(dtype=np.float64) - first.to_numpy(dtype=np.float64)
    known = ahead[np.isfinite(ahead)]
    return float(np.median(known)) if known.size else None


def _other_units(frame: pd.DataFrame, contract: DataContract) -> dict[str, str]:
    found = {}
    for column in contract.by_role("sensor", "setting"):
        values = frame[column.name].to_numpy(dtype=np.float64)
        other = looks_like(values, unit=column.unit, bounds=column.bounds)
        if other:
            found[column.name] = other
    return found


def totals(found: Sequence[DeviceFindings]) -> dict[str, int]:
    """Sum up what was found, for a member's own people."""
    return {
        "devices": len(found),
        "rows": sum(one.rows for one in found),
        "readings": sum(one.readings for one in found),
        "repeats": sum(one.repeats for one in found),
        "conflicts": sum(one.conflicts for one in found),
        "late": sum(one.late for one in found),
        "out_of_range": sum(one.out_of_range for one in found),
        "out_of_threshold": sum(one.out_of_threshold for one in found),
        "gaps": sum(one.gaps for one in found),
        "stuck": sum(len(one.stuck) for one in found),
        "clocks": sum(one.drifts or one.is_off for one in found),
        "other_units": sum(len(one.looks_like) for one in found),
    }
