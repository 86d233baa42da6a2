"""Scenario packs: readings -> indicators -> a federated model -> terms, in one folder.

<out>/makers/<bank>/readings.csv   generated
<out>/banks/<bank>/leases.csv      indicators computed from them, what lessees state, labels
<out>/home/                        the run and its ledger
<out>/scores.csv                   each lease's score
<out>/days.csv, terms.jsonl        daily signals of some machines, and the log of their terms
<out>/report.json                  what came out
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd

from clients.contract import load_contract
from clients.indicators.compute import compute_indicators
from clients.indicators.plan import make_plan
from clients.terms.log import Day, add_days, new_log, signed_by, write_log
from clients.terms.rule import load_terms
from federation.config import load_project
from federation.home import Home, write_json
from federation.launch import LaunchOptions, launch_local
from federation.scenarios.batteries import draw_batteries
from federation.scenarios.cnc import draw_workshop
from federation.scenarios.construction import Leases, draw_leases
from federation.scenarios.dairy import draw_herds
from federation.scenarios.pv import draw_plants
from federation.scenarios.scored import TableModel, read_table_model
from federation.scenarios.vehicles import draw_vehicles
from federation.scenarios.wind import draw_turbines
from federation.terms_memory import home_identity
from privacy.errors import InputError
from privacy.randomness import system_bytes

BANKS: Final = ("corvane-bank", "lindmark-leasing", "pellworth-credit", "tarn-leasing")


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
    """

    about: str
    draw: Callable[..., Book]
    table: tuple[str, str]
    hold: str


PACKS: Final[Mapping[str, Pack]] = {
    "construction_lease": Pack(
        "downtime lowers repayment: leased construction machines",
        draw_leases,
        ("banks", "leases.csv"),
        "8h",
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
LESS: Final = 0.06
LEASES: Final = 1500
_FEDERATION = Path(__file__).parents[1]
_FOLDERS = (_FEDERATION / "scenarios_data", _FEDERATION.parent / "configs" / "scenarios")
_FIRST_DAY = date(2026, 1, 1).toordinal()
_WATCHED: Final = 6


def pack_folder(name: str) -> Path:
    """Where a pack lies.

    Raises:
        InputError: There is none.
    """
    for folder in _FOLDERS:
        if name in PACKS and (folder / name / "run.yaml").is_file():
            return folder / name
    raise InputError(f"there is no scenario {name}; choose {', '.join(PACKS)}.")


def run_pack(
    name: str, out: Path, *, seed: int = 0, leases: int = LEASES, config: Path | None = None
) -> dict[str, Any]:
    """Run a pack end to end.

    Args:
        name: Of the pack.
        out: A folder that is not there yet, or is empty.
        seed: Of all that is drawn, and of the model.
        leases: At each bank.
        config: Another run config for the same leases; None: the pack's.

    Raises:
        InputError: There is no such pack, or the folder holds something.
    """
    folder = pack_folder(name)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: holds something already; choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    books = write_books(name, out, seed=seed, leases=leases)
    project = load_project(config or folder / "run.yaml")
    result = launch_local(project, Home(out / "home"), LaunchOptions(data_root=out, seed=seed))
    model = read_table_model(Path(str(result["model"])), project.contract)
    place, file = PACKS[name].table
    tables = [pd.read_csv(out / place / bank / file) for bank in BANKS]
    rows = pd.concat(tables, ignore_index=True)
    output = next(one.name for one in load_terms(folder / "terms.yaml").signals if one.output)
    scores = rows[["machine"]].assign(**{output: model.said(rows)})
    scores.to_csv(out / "scores.csv", index=False)
    leased = {bank: book for bank, book in books.items() if isinstance(book, Leases)}
    effect = None
    if leased:
        effect = {"model": counterfactual(model, rows, less=LESS), "true": true_effect(leased)}
    acts = _terms(name, out, books[BANKS[0]], tables[0], model)
    report = {
        "scenario": name,
        "seed": seed,
        "leases": len(rows),
        "events": int(rows[books[BANKS[0]].labels.columns[0]].sum()),
        "less_downtime": LESS,
        "effect": effect,
        "acts": acts,
        "run": result["run"],
    }
    write_json(out / "report.json", report)
    return report


def write_books(name: str, out: Path, *, seed: int, leases: int) -> dict[str, Book]:
    """Write readings, compute indicators of them, and write the banks' tables."""
    pack, folder = PACKS[name], pack_folder(name)
    contract = load_contract(folder / "readings.yaml")
    columns = load_project(folder / "run.yaml").contract.columns
    wanted = {one.indicator: one.name for one in columns if one.indicator is not None}
    plan = make_plan(contract, list(wanted), hold=pack.hold)
    books: dict[str, Book] = {}
    streams = np.random.SeedSequence([seed, 7]).spawn(len(BANKS))
    for bank, stream in zip(BANKS, streams, strict=True):
        book = pack.draw(bank, count=leases, rng=np.random.Generator(np.random.PCG64(stream)))
        books[bank] = book
        _write(out / "makers" / bank / "readings.csv", book.readings)
    for bank, book in books.items():
        # generated rows need no secret in their digests
        found = compute_indicators(plan, out, key=bytes(32), member=bank)
        own = pd.DataFrame(
            {"machine": found.devices} | {wanted[key]: x for key, x in found.columns.items()}
        )
        own["machine"] = own["machine"].str.split("|").str[-1]
        stated = pd.concat([book.stated, book.labels], axis=1)
        _write(out / pack.table[0] / bank / pack.table[1], own.merge(stated, on="machine"))
    return books


def counterfactual(model: TableModel, rows: pd.DataFrame, *, less: float) -> float:
    """By how much the mean chance of default moves with that much less downtime, by the model."""
    other = rows.assign(downtime_share=np.maximum(rows["downtime_share"] - less, 0.0))
    return float((model.said(other) - model.said(rows)).mean())


def true_effect(books: dict[str, Leases], *, less: float = LESS) -> float:
    """The same by the mechanism: do(downtime = what it is, less that much)."""
    moves = [
        book.default_probability(np.maximum(book.downtime - less, 0.0)) - book.default_probability()
        for book in books.values()
    ]
    return float(np.concatenate(moves).mean())


def _terms(
    name: str, out: Path, book: Book, table: pd.DataFrame, model: TableModel
) -> list[dict[str, Any]]:
    """Daily signals of the machines with the worst scores and the best, folded into terms."""
    folder = pack_folder(name)
    order = np.argsort(-model.said(table), kind="stable")
    names = table["machine"].to_numpy()[[*order[: _WATCHED // 2], *order[-_WATCHED // 2 :]]]
    watched = book.readings[book.readings["machine"].isin(names)]
    _write(out / "watched" / "makers" / "one" / "readings.csv", watched)
    contract = load_contract(folder / "readings.yaml")
    rules = load_terms(folder / "terms.yaml")
    asked = {one.indicator: one.name for one in rules.signals if one.indicator is not None}
    output = next(one.name for one in rules.signals if one.output)
    days: list[Day] = []
    for day in range(1, int(watched["time_h"].max()) // 24 + 2):
        plan = make_plan(
            contract,
            list(asked),
            hold=PACKS[name].hold,
            window="1d",
            as_of=float(24 * day),
        )
        found = compute_indicators(plan, out / "watched", key=bytes(32))
        now = pd.DataFrame(
            {"machine": [one.split("|")[-1] for one in found.devices]}
            | {asked[key]: x for key, x in found.columns.items()}
        )
        # the model knows a lease's whole record, so its score does not move with a single day
        own = table.set_index("machine").loc[now["machine"]].reset_index()
        now[output] = model.said(own)
        days += [
            Day(
                subject=str(row["machine"]),
                day=_FIRST_DAY + day - 1,
                values={
                    one.name: None if pd.isna(row[one.name]) else float(row[one.name])
                    for one in rules.signals
                },
            )
            for row in now.to_dict("records")
        ]
    identity = home_identity(Home(out / "home"), system_bytes)
    log = new_log(rules, signed_by(identity))
    acts = add_days(log, days)
    write_log(log, out / "terms.jsonl")
    rows = [
        {"subject": one.subject, "day": date.fromordinal(one.day).isoformat()} | dict(one.values)
        for one in days
    ]
    _write(out / "days.csv", pd.DataFrame(rows))
    counted = pd.Series([act.rule or act.kind for _, act in acts]).value_counts().to_dict()
    return [{"what": str(what), "times": int(times)} for what, times in counted.items()]


def _write(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n")
