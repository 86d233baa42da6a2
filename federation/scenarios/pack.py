"""Scenario packs: readings -> indicators -> a federated model -> terms, in one folder.

<out>/makers/<bank>/readings.csv   generated
<out>/banks/<bank>/leases.csv      indicators computed from them, what lessees state, labels
<out>/home/                        the run and its ledger
<out>/scores.csv                   each lease's score
<out>/days.csv, terms.jsonl        daily signals of some machines, and the log of their terms
<out>/report.json                  what came out
"""

from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from clients.contract import load_contract
from clients.indicators.compute import compute_indicators
from clients.indicators.plan import make_plan
from clients.terms.log import Day, add_days, new_log, write_log
from clients.terms.rule import load_terms
from federation.config import load_project
from federation.home import Home, write_json
from federation.launch import LaunchOptions, launch_local
from federation.scenarios.construction import Leases, draw_leases
from federation.scenarios.scored import TableModel, read_table_model
from privacy.errors import InputError

BANKS: Final = ("corvane-bank", "lindmark-leasing", "pellworth-credit", "tarn-leasing")
PACKS: Final = {"construction_lease": "downtime lowers repayment: leased construction machines"}
LESS: Final = 0.06
LEASES: Final = 1500
_FEDERATION = Path(__file__).parents[1]
_FOLDERS = (_FEDERATION / "scenarios_data", _FEDERATION.parent / "configs" / "scenarios")
_FIRST_DAY = date(2026, 1, 1).toordinal()
_WATCHED: Final = 6
_SHIFTS_A_DAY: Final = 3


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
    books = write_books(folder, out, seed=seed, leases=leases)
    project = load_project(config or folder / "run.yaml")
    result = launch_local(project, Home(out / "home"), LaunchOptions(data_root=out, seed=seed))
    model = read_table_model(Path(str(result["model"])), project.contract)
    tables = [pd.read_csv(out / "banks" / bank / "leases.csv") for bank in BANKS]
    rows = pd.concat(tables, ignore_index=True)
    scores = rows[["machine"]].assign(default_probability=model.probability(rows))
    scores.to_csv(out / "scores.csv", index=False)
    effect = {"model": counterfactual(model, rows, less=LESS), "true": true_effect(books)}
    acts = _terms(folder, out, books[BANKS[0]], tables[0], model)
    report = {
        "scenario": name,
        "seed": seed,
        "leases": len(rows),
        "defaults": int(rows["default"].sum()),
        "less_downtime": LESS,
        "effect": effect,
        "acts": acts,
        "run": result["run"],
    }
    write_json(out / "report.json", report)
    return report


def write_books(folder: Path, out: Path, *, seed: int, leases: int) -> dict[str, Leases]:
    """Write readings, compute indicators of them, and write the banks' tables."""
    contract = load_contract(folder / "readings.yaml")
    plan = make_plan(contract, ["downtime_share"], hold="8h")
    books: dict[str, Leases] = {}
    streams = np.random.SeedSequence([seed, 7]).spawn(len(BANKS))
    for bank, stream in zip(BANKS, streams, strict=True):
        book = draw_leases(bank, count=leases, rng=np.random.Generator(np.random.PCG64(stream)))
        books[bank] = book
        _write(out / "makers" / bank / "readings.csv", book.readings)
    for bank, book in books.items():
        # generated rows need no secret in their digests
        found = compute_indicators(plan, out, key=bytes(32), member=bank)
        own = pd.DataFrame(
            {"machine": found.devices, "downtime_share": found.columns["downtime_share@1"]}
        )
        own["machine"] = own["machine"].str.split("|").str[-1]
        table = own.merge(book.stated.assign(default=book.defaults), on="machine")
        _write(out / "banks" / bank / "leases.csv", table)
    return books


def counterfactual(model: TableModel, rows: pd.DataFrame, *, less: float) -> float:
    """By how much the mean chance of default moves with that much less downtime, by the model."""
    other = rows.assign(downtime_share=np.maximum(rows["downtime_share"] - less, 0.0))
    return float((model.probability(other) - model.probability(rows)).mean())


def true_effect(books: dict[str, Leases], *, less: float = LESS) -> float:
    """The same by the mechanism: do(downtime = what it is, less that much)."""
    moves = [
        book.default_probability(np.maximum(book.downtime - less, 0.0)) - book.default_probability()
        for book in books.values()
    ]
    return float(np.concatenate(moves).mean())


def _terms(
    folder: Path, out: Path, book: Leases, table: pd.DataFrame, model: TableModel
) -> list[dict[str, Any]]:
    """Daily signals of the machines with most downtime and with least, folded into terms."""
    order = np.argsort(-book.downtime, kind="stable")
    names = book.stated["machine"].to_numpy()[[*order[: _WATCHED // 2], *order[-_WATCHED // 2 :]]]
    watched = book.readings[book.readings["machine"].isin(names)]
    _write(out / "watched" / "makers" / "one" / "readings.csv", watched)
    contract = load_contract(folder / "readings.yaml")
    rules = load_terms(folder / "terms.yaml")
    days: list[Day] = []
    for day in range(1, int(watched["time_h"].max()) // 24 + 2):
        plan = make_plan(
            contract,
            ["utilisation", "downtime_share"],
            hold="8h",
            window="1d",
            as_of=float(24 * day),
        )
        found = compute_indicators(plan, out / "watched", key=bytes(32))
        now = pd.DataFrame(
            {
                "machine": [one.split("|")[-1] for one in found.devices],
                "utilisation": found.columns["utilisation@1"],
                "downtime_share": found.columns["downtime_share@1"],
            }
        )
        # the model knows a lease's whole record, so its score does not move with a single day
        own = table.set_index("machine").loc[now["machine"]].reset_index()
        now["default_probability"] = model.probability(own)
        days += [
            Day(
                subject=str(row["machine"]),
                day=_FIRST_DAY + day - 1,
                values={one.name: float(row[one.name]) for one in rules.signals},
            )
            for row in now.to_dict("records")
        ]
    log = new_log(rules)
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
