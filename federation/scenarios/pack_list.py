"""The scenario packs there are, apart from what runs one: naming them loads no model framework."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import pandas as pd

from federation.scenarios.batteries import draw_batteries
from federation.scenarios.cnc import draw_workshop
from federation.scenarios.construction import draw_leases
from federation.scenarios.dairy import draw_herds
from federation.scenarios.pv import draw_plants
from federation.scenarios.vehicles import draw_vehicles
from federation.scenarios.wind import draw_turbines
from privacy.errors import InputError


class Book(Protocol):
    """What a generator draws for one member; tables have a row a machine, in one order."""

    @property
    def readings(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def stated(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def labels(self) -> pd.DataFrame: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Pack:
    """A scenario.

    Attributes:
        about: One line.
        draw: Draws a member's book.
        table: The folder and file of members' tables, as in the contract.
        hold: For how long a reading stands.
        memory: Days of readings that a day's score looks back on.
    """

    about: str
    draw: Callable[..., Book]
    table: tuple[str, str]
    hold: str
    memory: int = 3


PACKS: Final[Mapping[str, Pack]] = {
    "construction_lease": Pack(
        "downtime lowers repayment: leased construction machines",
        draw_leases,
        ("banks", "leases.csv"),
        "8h",
        14,
    ),
    "wind_farm": Pack(
        "wind, pitch and icing: loans on turbines", draw_turbines, ("banks", "leases.csv"), "1h"
    ),
    "cnc_workshop": Pack(
        "spindle load, tool wear and scrap: loans on CNC machines",
        draw_workshop,
        ("banks", "leases.csv"),
        "1h",
    ),
    "pv_plant": Pack(
        "sun, soiling and inverter trips: loans on PV plants",
        draw_plants,
        ("banks", "leases.csv"),
        "1h",
    ),
    "dairy_herd": Pack(
        "rumination, mastitis and milk: loans on herds", draw_herds, ("banks", "leases.csv"), "1h"
    ),
    "battery_residual_value": Pack(
        "cycles, fast charging and heat: what batteries are worth",
        draw_batteries,
        ("banks", "leases.csv"),
        "1h",
    ),
    "ev_fleet_insurance": Pack(
        "braking, night and distance: claims of electric fleets",
        draw_vehicles,
        ("insurers", "policies.csv"),
        "1h",
    ),
}
_FEDERATION = Path(__file__).parents[1]
_FOLDERS = (_FEDERATION / "scenarios_data", _FEDERATION.parent / "configs" / "scenarios")


def pack_folder(name: str) -> Path:
    """Where a pack lies.

    Raises:
        InputError: There is none.
    """
    for folder in _FOLDERS:
        if name in PACKS and (folder / name / "run.yaml").is_file():
            return folder / name
    raise InputError(f"there is no scenario {name}; choose {', '.join(PACKS)}.")
