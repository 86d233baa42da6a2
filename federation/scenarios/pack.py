"""Scenario packs: readings -> indicators -> a federated model -> terms, in one folder.

<out>/makers/<bank>/readings.csv   generated
<out>/banks/<bank>/leases.csv      indicators computed from them, what lessees state, labels
<out>/home/                        the run and its ledger
<out>/scores.csv                   each lease's score
<out>/days.csv, terms.jsonl        daily signals of some machines, and the log of their terms
<out>/standing.csv                 where they stand, day by day: grade, limit, premium
<out>/report.json                  what came out
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import load_contract
from clients.indicators.compute import compute_indicators
from clients.indicators.plan import make_plan
from clients.terms.fold import Act
from clients.terms.log import Day, add_days, new_log, signed_by, write_log
from clients.terms.rule import load_terms
from federation.budget_plot import format_of
from federation.config import load_project
from federation.home import Home, write_bytes, write_json
from federation.launch import LaunchOptions, launch_local
from federation.scenarios.construction import Leases
from federation.scenarios.pack_list import PACKS, Book, pack_folder
from federation.scenarios.picture import Effect, draw_scenario
from federation.scenarios.scored import TableModel, read_table_model
from federation.terms_memory import home_identity
from privacy.errors import InputError
from privacy.randomness import system_bytes

Floats = NDArray[np.float64]
BANKS: Final = ("corvane-bank", "lindmark-leasing", "pellworth-credit", "tarn-leasing")
LESS: Final = 0.06
LEASES: Final = 1500
_FIRST_DAY = date(2026, 1, 1).toordinal()
_WATCHED: Final = 6
_SIZES: Final = 9


def run_pack(
    name: str,
    out: Path,
    *,
    seed: int = 0,
    leases: int = LEASES,
    config: Path | None = None,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Run a pack end to end.

    Args:
        name: Of the pack.
        out: A folder that is not there yet, or is empty.
        seed: Of all that is drawn, and of the model.
        leases: At each bank.
        config: Another run config for the same leases; None: the pack's.
        plot: Where effect and terms are drawn (.png, .svg, .pdf); None: nowhere.

    Raises:
        InputError: There is no such pack, the folder holds something, or the picture's name has
            another end.
    """
    form = None if plot is None else format_of(plot)
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
        said, true = moves_of(model, rows, less=LESS), true_moves(leased)
        effect = {
            "model": float(said.mean()),
            "true": float(true.mean()),
            "model_interval": interval(said),
            "true_interval": interval(true),
        }
    acts, moved = _terms(name, out, books[BANKS[0]], tables[0], model)
    if plot is not None and form is not None:
        curves = None if not leased else effects(model, rows, leased)
        write_bytes(plot, draw_scenario(name, read_standings(out), curves, form=form))
    report = {
        "scenario": name,
        "seed": seed,
        "leases": len(rows),
        "events": int(rows[books[BANKS[0]].labels.columns[0]].sum()),
        "less_downtime": LESS,
        "effect": effect,
        "acts": acts,
        "grades": moved,
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


def moves_of(model: TableModel, rows: pd.DataFrame, *, less: float) -> Floats:
    """By how much each chance of default moves with that much less downtime, by the model, (n,)."""
    other = rows.assign(downtime_share=np.maximum(rows["downtime_share"] - less, 0.0))
    return np.asarray(model.said(other) - model.said(rows))


def true_moves(books: dict[str, Leases], *, less: float = LESS) -> Floats:
    """The same by the mechanism: do(downtime = what it is, less that much), shape (n,)."""
    return np.concatenate(
        [
            book.default_probability(np.maximum(book.downtime - less, 0.0))
            - book.default_probability()
            for book in books.values()
        ]
    )


def interval(moves: Floats) -> list[float]:
    """A 95 % interval of the mean over such leases; what the model gets wrong is not in it."""
    half = 1.96 * float(moves.std(ddof=1)) / np.sqrt(len(moves))
    return [float(moves.mean() - half), float(moves.mean() + half)]


def effects(model: TableModel, rows: pd.DataFrame, books: dict[str, Leases]) -> list[Effect]:
    """The effect of less downtime at some sizes, by the model and by the mechanism."""
    found = []
    for less in np.linspace(0.0, 2 * LESS, _SIZES):
        said, true = moves_of(model, rows, less=less), true_moves(books, less=less)
        found.append(
            Effect(
                less=float(less),
                model=float(said.mean()),
                model_interval=tuple(interval(said)),
                true=float(true.mean()),
                true_interval=tuple(interval(true)),
            )
        )
    return found


def read_standings(out: Path) -> pd.DataFrame:
    """Where watched machines stand, day by day, as a pack's folder has it."""
    return pd.read_csv(out / "standing.csv", parse_dates=["day"], keep_default_na=False)


def watched(scores: Floats) -> list[int]:
    """Which machines are looked at day by day: some with the worst scores, the middle, the best."""
    order = np.argsort(-scores, kind="stable")
    third, middle = _WATCHED // 3, len(order) // 2
    return [int(x) for x in (*order[:third], *order[middle : middle + third], *order[-third:])]


def _terms(
    name: str, out: Path, book: Book, table: pd.DataFrame, model: TableModel
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Daily signals of some machines, folded into terms; what was done, and how grades moved."""
    folder, pack = pack_folder(name), PACKS[name]
    names = table["machine"].to_numpy()[watched(model.said(table))]
    seen = book.readings[book.readings["machine"].isin(names)]
    _write(out / "watched" / "makers" / "one" / "readings.csv", seen)
    contract = load_contract(folder / "readings.yaml")
    rules = load_terms(folder / "terms.yaml")
    asked = {one.indicator: one.name for one in rules.signals if one.indicator is not None}
    output = next(one.name for one in rules.signals if one.output)
    inputs = {
        one.indicator: one.name
        for one in load_project(folder / "run.yaml").contract.columns
        if one.indicator is not None
    }
    stated = table.set_index("machine").drop(columns=list(inputs.values()))

    def found(wanted: Mapping[str, str], day: int, window: int) -> pd.DataFrame:
        """Indicators of some days up to one, a row a machine."""
        plan = make_plan(
            contract, list(wanted), hold=pack.hold, window=f"{window}d", as_of=float(24 * day)
        )
        told = compute_indicators(plan, out / "watched", key=bytes(32))
        machines = [one.split("|")[-1] for one in told.devices]
        columns = {wanted[key]: x for key, x in told.columns.items()}
        return pd.DataFrame({"machine": machines} | columns)

    log = new_log(rules, signed_by(home_identity(Home(out / "home"), system_bytes)))
    acts: list[tuple[str, Act]] = []
    rows: list[dict[str, object]] = []
    standing: list[dict[str, object]] = []
    # a score needs as many days as it looks back on; a shorter record says more by chance
    for day in range(pack.memory, int(seen["time_h"].max()) // 24 + 2):
        now = found(asked, day, 1).set_index("machine")
        lately = found(inputs, day, pack.memory)
        own = lately.join(stated, on="machine")
        now[output] = pd.Series(model.said(own), index=own["machine"])
        ordinal = _FIRST_DAY + day - 1
        days = [
            Day(
                subject=str(machine),
                day=ordinal,
                values={
                    one.name: None if pd.isna(row[one.name]) else float(row[one.name])
                    for one in rules.signals
                },
            )
            for machine, row in now.iterrows()
        ]
        acts += add_days(log, days)
        told = date.fromordinal(ordinal).isoformat()
        rows += [{"subject": one.subject, "day": told} | dict(one.values) for one in days]
        standing += [
            {
                "subject": one,
                "day": told,
                "grade": where.letter,
                "limit": where.limit,
                "premium": where.premium,
                "frozen": where.frozen,
            }
            for one, where in sorted(log.terms.items())
        ]
    write_log(log, out / "terms.jsonl")
    _write(out / "days.csv", pd.DataFrame(rows))
    _write(out / "standing.csv", pd.DataFrame(standing))
    counted = pd.Series([act.rule or act.kind for _, act in acts]).value_counts().to_dict()
    counts = [{"what": str(what), "times": int(times)} for what, times in counted.items()]
    return counts, _moved(acts)


def _moved(acts: list[tuple[str, Act]]) -> dict[str, int]:
    """How often a grade got worse, and better, and on how many machines it fell and recovered."""
    ways: dict[str, list[bool]] = {}
    for subject, act in acts:
        if act.kind == "grade" and act.before != "-":
            ways.setdefault(subject, []).append(act.after > act.before)
    both = [one for one in ways.values() if True in one and False in one[one.index(True) :]]
    down = sum(sum(one) for one in ways.values())
    return {
        "worse": down,
        "better": sum(map(len, ways.values())) - down,
        "fell_and_recovered": len(both),
    }


def _write(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n")
