"""From columns to what is learnt: `__y`, `__y_raw` and `__exposure`."""

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
from privacy.errors import DataError

Floats = NDArray[np.float64]
LIFE_AT_END = "__life_at_end"


def label_rows(rows: pd.DataFrame, contract: DataContract) -> pd.DataFrame:
    """Add the label.

    Telemetry must be sorted by unit, then time, with each unit's rows together.

    Adds:
        `__y`: as trained on: remaining life held to the cap, 0 or 1, a count held to its cap.
        `__y_raw`: the uncapped remaining life, for remaining life only.
        `__exposure`: held to its cap; 1 where the label has none.

        `__known`: for a horizon label, whether it is known. Where the record ends within the
            horizon and nothing happened, nobody knows (censoring); no example ends there.

    Raises:
        DataError: A label is missing or impossible.
    """
    label = contract.label
    if isinstance(label, RemainingLife):
        return _remaining_life(rows, contract, label)
    if isinstance(label, WithinHorizon):
        return _within_horizon(rows, contract, label)
    column = rows[label.column]
    if isinstance(label, Binary):
        return rows.assign(__y=_is_positive(column, label), __exposure=1.0)
    values = column.to_numpy(dtype=np.float64)
    if np.isnan(values).any():
        raise DataError(f"{contract.name}: column {label.column}: a label is missing.")
    if isinstance(label, Value):
        return rows.assign(__y=values, __exposure=1.0)
    return _count(rows, contract, label, values)


def _is_positive(column: pd.Series, label: Binary) -> Floats:
    if isinstance(column.dtype, pd.CategoricalDtype) or column.dtype == object:
        return (column.astype(str) == level_text(label.positive)).to_numpy(dtype=np.float64)
    return np.asarray(column.to_numpy(dtype=np.float64) == float(label.positive), dtype=np.float64)


def _count(rows: pd.DataFrame, contract: DataContract, label: Count, values: Floats) -> pd.DataFrame:
    where = f"{contract.name}: column"
    if (values < 0).any():
        raise DataError(f"{where} {label.column}: a count is negative; correct it.")
    exposure = np.ones(len(rows))
    if label.exposure is not None:
        exposure = rows[label.exposure].to_numpy(dtype=np.float64)
        if np.isnan(exposure).any() or (exposure <= 0).any():
            raise DataError(f"{where} {label.exposure}: an exposure is missing or not above 0.")
        if label.exposure_cap is not None:
            exposure = np.minimum(exposure, label.exposure_cap)
    if label.cap is not None:
        values = np.minimum(values, label.cap)
    return rows.assign(__y=values, __exposure=exposure)


def _remaining_life(
    rows: pd.DataFrame, contract: DataContract, label: RemainingLife
) -> pd.DataFrame:
    time = _time(rows, contract)
    start, stop = _spans(rows)
    last = np.repeat(time[stop - 1], stop - start)
    life = last - time
    if LIFE_AT_END in rows:
        # training units were run to their end, so nothing was left there
        life = life + np.nan_to_num(rows[LIFE_AT_END].to_numpy(dtype=np.float64))
    return rows.assign(__y=np.minimum(life, label.cap), __y_raw=life, __exposure=1.0)


def _within_horizon(
    rows: pd.DataFrame, contract: DataContract, label: WithinHorizon
) -> pd.DataFrame:
    time = _time(rows, contract)
    events = contract.by_role("event")
    y = np.zeros(len(rows))
    known = np.ones(len(rows), dtype=bool)
    for begin, end in zip(*_spans(rows), strict=True):
        own = time[begin:end]
        if events:
            happened = own[rows[events[0].name].to_numpy(dtype=np.float64)[begin:end] > 0]
        else:
            happened = own[-1:]
        place = np.searchsorted(happened, own, side="right")
        following = np.append(happened, np.inf)[place]
        soon = following <= own + label.horizon
        y[begin:end] = soon
        if events:
            known[begin:end] = soon | (own + label.horizon <= own[-1])
        else:
            known[begin:end] = own < own[-1]  # at the end itself there is nothing to foretell
    return rows.assign(__y=y, __exposure=1.0, __known=known)


def _time(rows: pd.DataFrame, contract: DataContract) -> Floats:
    column = contract.time_column
    if column is None:
        raise ValueError("telemetry has a time column")
    return rows[column.name].to_numpy(dtype=np.float64)


def _spans(rows: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each unit's rows begin and end."""
    if rows.empty:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    unit = rows["__unit"].to_numpy()
    start = np.flatnonzero(np.r_[True, unit[1:] != unit[:-1]])
    return start, np.r_[start[1:], len(rows)]
