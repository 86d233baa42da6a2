"""How far rows of one part or group lie from others: the population stability index.

Made from rows that the card's holder has, on its own machine. A card gets one number for each
comparison and column, of `ROWS_LEAST` rows or more on both sides and rounded, so that nobody works
out single rows from it, and no value of any row. No noise is in it: the privacy that a run with
noise gives does not cover it.

PSI is the sum over bins of (p - q) ln(p / q). Its bands are Siddiqi's (Credit Risk Scorecards,
Wiley, 2006, chapter 9). Where nothing differs it is about (1/n + 1/m) times a chi-square variable
of one degree of freedom fewer than there are bins (Yurdakul & Naranjo, J. Risk Model Validation
14(4), 2020), so with few rows a large index means nothing; `Shift.chance` says from where on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from clients.contract import Column, DataContract
from clients.learner import Learner
from clients.members import MemberRows
from clients.source import UNIT
from clients.train import score
from federation.model_card.facts import FEWEST, GroupStability, Shift, StabilityFacts
from privacy.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Band = Literal["stable", "watch", "shifted"]

ROWS_LEAST: Final = 100
"""Rows below which nothing is compared. Of ten bins, chance alone exceeds `WATCH` below 170."""
WATCH: Final = 0.1
SHIFTED: Final = 0.25
NUMBER_BINS: Final = 10
MOST_GROUPS: Final = 60
BY_MEMBER: Final = "member"
_ADDED: Final = 0.5  # to each bin, so that an empty one has a logarithm
_SURE: Final = 0.95


def psi(reference: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[float, float]:
    """The index of two histograms, and what it stays below 95 times in 100 where nothing differs.

    Args:
        reference: Shape (bins,). Counts.
        other: The same.

    Raises:
        ValueError: One of them is empty.
    """
    from scipy.stats import chi2

    used = (reference + other) > 0
    first, second = reference[used].astype(np.float64), other[used].astype(np.float64)
    if not (first.sum() and second.sum()):
        raise ValueError("an index needs rows on both sides")
    p = (second + _ADDED) / (second.sum() + _ADDED * second.size)
    q = (first + _ADDED) / (first.sum() + _ADDED * first.size)
    chance = 0.0
    if first.size > 1:
        chance = float(chi2.ppf(_SURE, first.size - 1)) * (1 / first.sum() + 1 / second.sum())
    return float(((p - q) * np.log(p / q)).sum()), float(chance)


def band(index: float) -> Band:
    """What an index is called."""
    return "stable" if index < WATCH else "watch" if index < SHIFTED else "shifted"


@dataclass(frozen=True, slots=True)
class _Cell:
    """Rows of one group and part."""

    group: str
    test: bool
    rows: "pd.DataFrame"
    score: Floats


def stability(
    members: Mapping[str, MemberRows],
    contract: DataContract,
    learner: Learner,
    released: Sequence[Floats],
    *,
    without: Sequence[str],
    group: str | None,
) -> StabilityFacts:
    """Compare test rows with training rows, and each group with all others.

    A column that makes the groups is not held between them: it differs by its very meaning.

    Args:
        members: Rows at hand.
        contract: What they mean.
        learner: Started, with the model's weights; gives the score.
        released: The run's statistics.
        without: Columns that the model leaves aside.
        group: A category column that makes groups; None: members do.

    Raises:
        InputError: The column makes no groups.
    """
    split = _by_member if group is None else _by_column(contract, group)
    cells: list[_Cell] = []
    for member, rows in members.items():
        for is_test, frame in ((False, rows.train), (True, rows.test)):
            for one, rows_of in split(member, frame):
                if len(rows_of):
                    cells.append(_Cell(one, is_test, rows_of, _scores(learner, rows_of, released)))
    columns = [
        c
        for c in contract.columns
        if c.is_input and c.name not in set(without) and c.data_class != "L4"
    ]
    makes_groups = {group} if group is not None else _member_columns(contract)
    others_too = [c for c in columns if c.name not in makes_groups]
    train, test = ([one for one in cells if one.test == part] for part in (False, True))
    found = [_compared("part", None, train, test, columns)]
    names = sorted({one.group for one in cells})
    if len(names) > MOST_GROUPS:
        raise InputError(
            f"--group {group}: makes {len(names)} groups, and a card holds {MOST_GROUPS}; choose "
            "another column."
        )
    for name in names if len(names) > 1 else ():
        mine = [one for one in cells if one.group == name]
        others = [one for one in cells if one.group != name]
        found.append(_compared("group", name, others, mine, others_too))
    return StabilityFacts(by=group or BY_MEMBER, fewest=ROWS_LEAST, groups=tuple(found))


def _member_columns(contract: DataContract) -> set[str]:
    by = contract.members.by if contract.members is not None else None
    return {one.column for one in by or ()}


def _by_member(name: str, frame: "pd.DataFrame") -> list[tuple[str, "pd.DataFrame"]]:
    return [(name, frame)]


def _by_column(
    contract: DataContract, name: str
) -> Callable[[str, "pd.DataFrame"], list[tuple[str, "pd.DataFrame"]]]:
    column = next((one for one in contract.columns if one.name == name), None)
    if column is None or column.role == "ignore":
        raise InputError(f"--group {name}: {contract.name} has no such column; see its contract.")
    if column.levels is None:
        raise InputError(
            f"--group {name}: is no category with listed levels; choose one, or leave it out to "
            "compare members."
        )
    if column.data_class == "L4":
        raise InputError(
            f"--group {name}: is of class L4, which no card speaks of; choose another."
        )
    if contract.is_telemetry:
        raise InputError(
            f"--group {name}: a device's readings belong together; leave it out to compare members."
        )
    levels = column.categories

    def split(_: str, frame: "pd.DataFrame") -> list[tuple[str, "pd.DataFrame"]]:
        codes = frame[name].cat.codes.to_numpy()
        return [(level, frame[codes == place]) for place, level in enumerate(levels)]

    return split


def _scores(learner: Learner, rows: "pd.DataFrame", released: Sequence[Floats]) -> Floats:
    """Scores of a sample of rows that is drawn alike for both parts."""
    examples = learner.watch_examples(learner.scaled(rows), released)
    return score(learner.network, examples, learner.target)


def _compared(
    what: Literal["part", "group"],
    name: str | None,
    reference: Sequence[_Cell],
    other: Sequence[_Cell],
    columns: Sequence[Column],
) -> GroupStability:
    sizes = [sum(one.score.size for one in cells) for cells in (reference, other)]
    rows = [sum(len(one.rows) for one in cells) for cells in (reference, other)]
    # one unit may have very many rows, and is no group
    units = [
        len(set().union(*(set(one.rows[UNIT].unique()) for one in cells)))
        for cells in (reference, other)
    ]
    if min(*sizes, *rows) < ROWS_LEAST or min(units) < FEWEST:
        return GroupStability(what=what, group=name, withheld=True, shifts=())
    first, second = (np.concatenate([one.score for one in cells]) for cells in (reference, other))
    shifts = [_shift(None, *_number_counts(first, second))]
    for column in columns:
        pair = [
            np.concatenate([_values(one.rows[column.name]) for one in cells])
            for cells in (reference, other)
        ]
        if column.type == "category":
            size = len(column.categories)
            counts = [np.bincount(v.astype(np.int64), minlength=size) for v in pair]
            shifts.append(_shift(column.name, counts[0], counts[1]))
        else:
            shifts.append(_shift(column.name, *_number_counts(pair[0], pair[1])))
    return GroupStability(what=what, group=name, withheld=False, shifts=tuple(shifts))


def _shift(column: str | None, reference: NDArray[np.int64], other: NDArray[np.int64]) -> Shift:
    index, chance = psi(reference, other)
    return Shift(
        column=column, psi=round(index, 3), chance=round(chance, 3), band=band(round(index, 3))
    )


def _number_counts(reference: Floats, other: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts between the reference's deciles; at the end of what is missing."""
    there = reference[~np.isnan(reference)]
    places = np.arange(1, NUMBER_BINS) / NUMBER_BINS
    edges = np.unique(np.quantile(there, places)) if there.size else np.zeros(0)

    def counted(values: Floats) -> NDArray[np.int64]:
        gone = np.isnan(values)
        place = np.searchsorted(edges, values[~gone], side="right")
        return np.append(np.bincount(place, minlength=edges.size + 1), gone.sum())

    return counted(reference), counted(other)


def _values(cells: Any) -> Floats:  # noqa: ANN401 - a column of a table, of any type
    if hasattr(cells, "cat"):
        return np.asarray(cells.cat.codes.to_numpy(), dtype=np.float64)
    return np.asarray(cells.to_numpy(dtype=np.float64))
