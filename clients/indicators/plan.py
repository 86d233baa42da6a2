"""What to compute, from which columns, over which time: decided before a row is read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from clients.contract import Column, DataContract
from clients.frozen import nearest
from clients.indicators.indicator import Indicator
from clients.indicators.quantity import QUANTITIES
from clients.indicators.registry import INDICATORS, find_indicator
from clients.indicators.units import UNITS, convert
from privacy.errors import InputError

READABLE: Final = frozenset({"sensor", "setting", "event", "feature", "gate"})
ALL: Final = "all"
DEFAULT_HOLD_H: Final = 1.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is computed.

    Attributes:
        contract: What the rows mean; its unit key names the device.
        given: The contract as it was given: reviews are about its units, whatever the device key.
        indicators: In the order of the registry, one version of each name.
        inputs: Quantity -> the column that holds it.
        step_h: Hours of one unit of the time column.
        hold_h: For how long a reading stands at most.
        window_h: Length of the window that ends at `as_of`; None: the whole record.
        as_of: End of the window, in units of the time column; None: of each device, the end of
            what its last reading stands for.
        zone_h: What is added to times, so that 0 is a midnight.
    """

    contract: DataContract
    given: DataContract
    indicators: tuple[Indicator, ...]
    inputs: Mapping[str, Column]
    step_h: float
    hold_h: float
    window_h: float | None = None
    as_of: float | None = None
    zone_h: float = 0.0

    @property
    def digest(self) -> str:
        """Of the contract as it was given."""
        return self.given.digest

    @property
    def time(self) -> Column:
        """The time column.

        Raises:
            ValueError: The contract has none; `make_plan` sees to it.
        """
        time = self.contract.time_column
        if time is None:
            raise ValueError("a plan's contract has a time column")
        return time

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that hold inputs, sorted, each once."""
        return tuple(sorted({column.name for column in self.inputs.values()}))


def make_plan(
    contract: DataContract,
    choose: Sequence[str],
    *,
    inputs: Mapping[str, str] | None = None,
    device_key: Sequence[str] = (),
    step: str | None = None,
    hold: str | None = None,
    window: str | None = None,
    as_of: float | None = None,
    zone_h: float = 0.0,
) -> Plan:
    """Hold a wish against a contract.

    Args:
        contract: Telemetry, or any contract with an id and a time column.
        choose: Names or keys of indicators; `all`: those whose inputs are there.
        inputs: Quantity -> column; a column that is called like a quantity needs no mention.
        device_key: Columns that name a device together; default: the contract's unit.
        step: How long one unit of the time column lasts, such as 8h; needed where that unit is
            none of clocks (a shift, a flight).
        hold: For how long a reading stands at most; default: one unit of a time column that needs
            `step`, else an hour.
        window: Such as 30d; default: the whole record.
        as_of: End of the window, in units of the time column; default: each device's own.
        zone_h: Hours from the time column's zero point's clock to local time.

    Raises:
        InputError: An indicator, quantity, column or duration is none, or does not fit.
    """
    given, contract = contract, _with_device(contract, device_key)
    time = contract.time_column
    if time is None:
        raise InputError(
            f"{contract.name}: has no column of role time; indicators are made of readings over "
            f"time."
        )
    if not contract.unit_columns:
        raise InputError(f"{contract.name}: has no id; name the device with --device-key.")
    if as_of is not None and window is None:
        raise InputError("--as-of needs --window; say how long the window is, such as 30d.")
    columns = _columns(contract, inputs or {})
    indicators = _chosen(contract, choose, columns)
    needed = {name for one in indicators for name in one.inputs}
    step_h, hold_h = _times(contract, time, step, hold)
    return Plan(
        contract=contract,
        given=given,
        indicators=indicators,
        inputs={name: columns[name] for name in QUANTITIES if name in needed},
        step_h=step_h,
        hold_h=hold_h,
        window_h=None if window is None else duration_h(window, "--window"),
        as_of=as_of,
        zone_h=zone_h,
    )


def duration_h(text: str, where: str) -> float:
    """Hours of a duration such as 30d, 8h, 90s.

    Raises:
        InputError: It is none.
    """
    match = _DURATION.fullmatch(text.strip())
    unit = UNITS.get(match[2]) if match else None
    if match is None or unit is None or unit.dimension != "time" or float(match[1]) <= 0:
        raise InputError(f"{where} {text}: expected a duration such as 30d, 8h, 15min or 90s.")
    return float(match[1]) * unit.factor


def _with_device(contract: DataContract, device_key: Sequence[str]) -> DataContract:
    if not device_key:
        return contract
    known = [c.name for c in contract.columns if c.role != "ignore"]
    for name in device_key:
        if name not in known:
            guess = nearest(name, known)
            advice = f"did you mean {guess}?" if guess else "see the contract."
            raise InputError(f"--device-key: {contract.name} has no column {name}; {advice}")
    return contract.model_copy(update={"unit_key": tuple(device_key)})


def _columns(contract: DataContract, inputs: Mapping[str, str]) -> dict[str, Column]:
    """Quantity -> column, as far as there is one, with its unit held against the quantity's."""
    readable = {
        c.name: c
        for c in contract.columns
        if c.role in READABLE and c.is_numeric and c.indicator is None
    }
    for name, column in inputs.items():
        if name not in QUANTITIES:
            guess = nearest(name, QUANTITIES)
            advice = f"did you mean {guess}?" if guess else f"known are {', '.join(QUANTITIES)}."
            raise InputError(f"--input: there is no quantity {name}; {advice}")
        if column not in readable:
            guess = nearest(column, readable)
            advice = f"did you mean {guess}?" if guess else "columns of role ignore are not read."
            raise InputError(
                f"--input {name}: {contract.name} has no column of numbers {column}; {advice}"
            )
    found = {name: readable[name] for name in QUANTITIES if name in readable}
    return found | {name: readable[column] for name, column in inputs.items()}


def _chosen(
    contract: DataContract, choose: Sequence[str], columns: Mapping[str, Column]
) -> tuple[Indicator, ...]:
    if list(choose) == [ALL]:
        wanted = [one for one in newest() if all(name in columns for name in one.inputs)]
    else:
        try:
            wanted = [find_indicator(text) for text in choose]
        except ValueError as failure:
            raise InputError(f"--choose: {failure}.") from None
    names = [one.name for one in wanted]
    if not names:
        raise InputError("--choose: names no indicator; tacit data indicators list has all.")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--choose: {name} is there twice; keep one.")
    for one in wanted:
        for name in one.inputs:
            if name not in columns:
                raise InputError(
                    f"{one.name} needs {name} ({QUANTITIES[name].sentence}); say which column of "
                    f"{contract.name} holds it with --input {name}=COLUMN."
                )
            _require_unit(columns[name], name)
    order = list(INDICATORS)
    return tuple(sorted(wanted, key=lambda one: order.index(one.key)))


def newest() -> tuple[Indicator, ...]:
    """The newest version of each indicator, in the order of the registry."""
    return tuple(one for one in INDICATORS.values() if find_indicator(one.name) is one)


def _require_unit(column: Column, name: str) -> None:
    wanted = QUANTITIES[name].unit
    if wanted is not None:
        convert(np.zeros(0), column.unit, wanted, f"Column {column.name}")


def _times(
    contract: DataContract, time: Column, step: str | None, hold: str | None
) -> tuple[float, float]:
    unit = UNITS.get(time.unit or "")
    clock = unit is not None and unit.dimension == "time"
    if step is not None:
        step_h = duration_h(step, "--step")
    elif unit is not None and clock:
        step_h = unit.factor
    else:
        raise InputError(
            f"{contract.name}: column {time.name} is in {time.unit or 'no unit'}, which is no "
            f"clock's; say how long one lasts with --step, such as --step 8h."
        )
    if hold is not None:
        return step_h, duration_h(hold, "--hold")
    return step_h, DEFAULT_HOLD_H if clock else step_h
