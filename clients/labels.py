"""From columns to labels: what a model learns, by the contract's label kind."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import (
    Binary,
    Count,
    DataContract,
    RemainingLife,
    Value,
    WithinHorizon,
    level_text,
)
from clients.source import LIFE, UNIT, unit_names
from privacy.errors import DataError

Floats = NDArray[np.float64]
Y = "__y"
Y_RAW = "__y_raw"
EXPOSURE = "__exposure"
KNOWN = "__known"


def label_rows(frame: pd.DataFrame, contract: DataContract) -> pd.DataFrame:
    """Add labels to rows of one part.

    Adds `__y` (as trained on: capped), `__y_raw` (as recorded) and `__exposure` (1 where the
    contract has none), all float64 and finite. No row is dropped, and rows keep their order.

    `remaining_life`: the unit's last time in these rows, plus its `__life_at_end` where there is
    one, minus the row's time; so all of a unit's rows of a part must be in the frame.

    `within_horizon`: 1 if the unit fails within (t, t + horizon]. A failure is a row whose event
    column holds 1; without an event column it is the end of the record, or `__life_at_end` later.
    Where the record ends within the horizon and nothing happened, nobody knows (censoring): such
    rows stay, as later windows look back on them, but `__known` is False and `__y` means nothing.

    Raises:
        DataError: A label or exposure is missing, negative where it counts, or not above 0.
    """
    label = contract.label
    if isinstance(label, WithinHorizon):
        return _within_horizon(frame, contract, label.horizon)
    if isinstance(label, RemainingLife):
        raw = _failure_time(frame, contract) - _time(frame, contract)
        return _with(frame, raw, cap=label.cap)
    if isinstance(label, Count):
        return _count(frame, contract, label)
    if isinstance(label, Value):
        return _with(frame, _present(frame, label.column, contract))
    return _binary(frame, contract, label)


def _with(
    frame: pd.DataFrame, raw: Floats, *, cap: float | None = None, exposure: Floats | None = None
) -> pd.DataFrame:
    capped = raw if cap is None else np.minimum(raw, cap)
    one = np.ones(len(frame)) if exposure is None else exposure
    return frame.assign(**{Y: capped, Y_RAW: raw, EXPOSURE: one})


def _present(frame: pd.DataFrame, column: str, contract: DataContract) -> Floats:
    values = frame[column].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError(
            f"{contract.name}: column {column} has {int((~np.isfinite(values)).sum())} empty or "
            f"endless cells; every row needs one."
        )
    return values


def _binary(frame: pd.DataFrame, contract: DataContract, label: Binary) -> pd.DataFrame:
    column = contract.column(label.column)
    if column.is_numeric:
        values = _present(frame, label.column, contract)
        return _with(frame, np.asarray(values == float(label.positive), dtype=np.float64))
    texts = frame[label.column]
    if texts.isna().any():
        raise DataError(f"{contract.name}: column {label.column} has empty cells; fill them.")
    positive = texts.astype("str") == level_text(label.positive)
    return _with(frame, np.asarray(positive, dtype=np.float64))


def _count(frame: pd.DataFrame, contract: DataContract, label: Count) -> pd.DataFrame:
    counts = _present(frame, label.column, contract)
    if (counts < 0).any():
        raise DataError(
            f"{contract.name}: column {label.column} has {int((counts < 0).sum())} negative "
            f"counts; correct them."
        )
    exposure = None
    if label.exposure is not None:
        exposure = _present(frame, label.exposure, contract)
        if (exposure <= 0).any():
            raise DataError(
                f"{contract.name}: column {label.exposure} has {int((exposure <= 0).sum())} cells "
                f"that are not above 0; leave such rows out."
            )
        if label.exposure_cap is not None:
            exposure = np.minimum(exposure, label.exposure_cap)
    return _with(frame, counts, cap=label.cap, exposure=exposure)


def _time(frame: pd.DataFrame, contract: DataContract) -> Floats:
    column = contract.time_column
    if column is None:
        raise ValueError("a telemetry contract has a time column")
    return _present(frame, column.name, contract)


def _units(frame: pd.DataFrame, contract: DataContract) -> NDArray[np.int64]:
    names = frame[UNIT] if UNIT in frame else unit_names(frame, contract)
    return np.asarray(pd.factorize(names)[0], dtype=np.int64)


def _record_end(frame: pd.DataFrame, contract: DataContract) -> Floats:
    """Each row's unit's last time."""
    times = pd.Series(_time(frame, contract))
    last = times.groupby(_units(frame, contract)).transform("max")
    return np.asarray(last, dtype=np.float64)


def _failure_time(frame: pd.DataFrame, contract: DataContract) -> Floats:
    end = _record_end(frame, contract)
    if LIFE not in frame:
        return end
    return np.asarray(end + np.nan_to_num(frame[LIFE].to_numpy(dtype=np.float64)))


def _within_horizon(frame: pd.DataFrame, contract: DataContract, horizon: float) -> pd.DataFrame:
    time = _time(frame, contract)
    end = _record_end(frame, contract)
    events = contract.by_role("event")
    if events:
        happened = _present(frame, events[0].name, contract) == 1
        coming = _next_event(_units(frame, contract), time, happened)
    else:
        failure = _failure_time(frame, contract)
        coming = np.where(failure > time, failure, np.inf)
    label = coming <= time + horizon
    known = label | (time + horizon <= end)
    return _with(frame, label.astype(np.float64)).assign(**{KNOWN: known})


def _next_event(unit: NDArray[np.int64], time: Floats, happened: NDArray[np.bool_]) -> Floats:
    """Each row's unit's next event strictly after the row's time; inf for none."""
    coming = np.full(time.size, np.inf)
    order = np.lexsort((time, unit))
    for rows in np.split(order, np.flatnonzero(np.diff(unit[order])) + 1):
        at = time[rows][happened[rows]]
        place = np.searchsorted(at, time[rows], side="right")
        coming[rows] = np.append(at, np.inf)[place]
    return coming
