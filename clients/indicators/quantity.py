"""What indicators are made of: quantities that a column of telemetry can hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Kind = Literal["state", "level", "amount", "event", "meter"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity.

    Attributes:
        kind: How a reading speaks for time. `state`: on where above 0, and it holds until the next
            reading; `level`: a number that holds until the next reading; `amount`: what came about
            since the reading before (energy used, pieces made); `event`: how often something
            happened since then; `meter`: a counter that only ever rises, or begins again.
        unit: In which indicators see it; a column in another unit of that dimension is converted.
            None: only whether it is above 0 matters, in whatever unit.
        sentence: What it is.
    """

    kind: Kind
    unit: str | None
    sentence: str


QUANTITIES: Final[Mapping[str, Quantity]] = MappingProxyType(
    {
        "running": Quantity("state", None, "whether it runs; a load or speed will do"),
        "down": Quantity("state", None, "whether it is out of order"),
        "load_share": Quantity("level", "1", "load, as a share of the rated one"),
        "vibration": Quantity("level", "mm/s", "velocity of vibration, RMS"),
        "hour_meter": Quantity("meter", "h", "running hours since it was built"),
        "energy": Quantity("amount", "kWh", "energy used since the reading before"),
        "output": Quantity("amount", "1", "pieces made since the reading before"),
        "good_output": Quantity("amount", "1", "those of them that passed inspection"),
        "failed": Quantity("event", None, "failures"),
        "alarm": Quantity("event", None, "alarms"),
        "response_time": Quantity("level", "h", "from an alarm to the first action"),
        "speed": Quantity("level", "km/h", "speed of a vehicle"),
        "speed_limit": Quantity("level", "km/h", "limit where it drives"),
        "acceleration": Quantity("level", "m/s2", "along the road, braking below 0"),
        "state_of_charge": Quantity("level", "1", "charge, as a share of the full one"),
        "charge_power": Quantity("level", "kW", "power into the battery, 0 when not charging"),
        "capacity": Quantity("level", "Ah", "charge that the full battery holds"),
        "resistance": Quantity("level", "mohm", "inner resistance"),
        "temperature": Quantity("level", "degC", "temperature of the machine"),
        "ambient_temperature": Quantity("level", "degC", "temperature around it"),
        "cell_temperature_max": Quantity("level", "degC", "the warmest cell's"),
        "cell_temperature_min": Quantity("level", "degC", "the coldest cell's"),
        "failure_risk": Quantity("level", "1", "chance of a failure that a model scored"),
    }
)
