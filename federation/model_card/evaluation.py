"""An opened test sum, read for a card: metrics with intervals, calibration, small counts withheld.

Small counts. A card leaves the house. Of fewer than `FEWEST` rows nothing is said, of fewer than
so many events or non-events nothing but how many rows there are; bins of calibration are joined
until each holds enough of both. Where what the shown groups leave over would be too few, of rows or
of events, one more group is withheld, so that no difference gives it away. Sums with noise are
covered by that noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from federation.model_card import interval
from federation.model_card.facts import FEWEST, CalibrationBin, EvaluationFacts, Metric
from federation.record import OpenedSum
from privacy.private_tally import LOGIT_BINS, LOGIT_LOW, LOGIT_WIDTH
from privacy.tally import BINS, HEADLINE, LOGIT_LIMIT, TallyKind

Floats = NDArray[np.float64]
Unsaid: TypeAlias = Literal["nothing", "events", "all"]
Read: TypeAlias = Callable[[Floats], Mapping[str, float]]

CALIBRATION_BINS: Final = 10
STANDS_OUT: Final = 3.0  # noise deviations
_NOISE: Final = "_noise"
_BIN_ERROR: Final = "auc_error"
_COUNTED: Final = 2  # the place of the count in a tally of counts


@dataclass(frozen=True, slots=True)
class _Told:
    """An interval or none, and why."""

    method: str
    bounds: interval.Interval | None = None


def from_sum(
    kind: TallyKind, opened: OpenedSum, read: Read, *, groups: Sequence[str], private: bool
) -> EvaluationFacts:
    """Read an opened test sum.

    Args:
        kind: Metric family.
        opened: The sum.
        read: Gives the metrics of one tally, of all rows or of one group.
        groups: That the sum reports singly; in a run with noise there are none.
        private: Whether it is the tally of a run with noise.

    Raises:
        ValueError: The sum does not divide among the groups.
    """
    total = np.asarray(opened.total, dtype=np.float64)
    names = () if private else tuple(groups)
    parts = np.split(total, 1 + len(names))
    values = [read(part) for part in parts]
    unsaid = _unsaid(
        [one.get("rows", 0.0) for one in values],
        [_events(kind, one, part) for one, part in zip(values, parts, strict=True)],
        private=private,
    )
    metrics: list[Metric] = []
    for place, (part, one) in enumerate(zip(parts, values, strict=True)):
        told = (
            _private_intervals(kind, one, opened.noise) if private else _intervals(kind, part, one)
        )
        metrics += _metrics(
            kind,
            one,
            told,
            group=None if place == 0 else names[place - 1],
            unsaid=unsaid[place],
            noise=opened.noise,
        )
    bins, why = _calibration(kind, parts[0], opened.noise, private=private)
    if unsaid[0] != "nothing":
        bins, why = (), "few"
    return EvaluationFacts(
        kind=kind,
        headline=HEADLINE[kind][0],
        from_sum=True,
        noise=opened.noise,
        fewest=FEWEST,
        metrics=tuple(metrics),
        calibration=bins,
        no_calibration=why,
    )


def from_metrics(
    kind: TallyKind, values: Mapping[str, float], *, groups: Sequence[str], private: bool
) -> EvaluationFacts:
    """Say what a run's result says, where the opened sum is not at hand."""
    sets = [{name: v for name, v in values.items() if _group(name, groups) is None}]
    sets += [
        {n.removesuffix(f".{one}"): v for n, v in values.items() if _group(n, groups) == one}
        for one in groups
    ]
    unsaid = _unsaid(
        [one.get("rows", 0.0) for one in sets],
        [_events(kind, one, None) for one in sets],
        private=private,
    )
    if kind == "count" and not private:
        # how many events a group had is not known without the sum, and may be few
        unsaid = [unsaid[0], *("events" if one == "nothing" else one for one in unsaid[1:])]
    metrics: list[Metric] = []
    for place, one in enumerate(sets):
        metrics += _metrics(
            kind,
            one,
            {name: _Told("none.sum") for name in one if name != "rows"},
            group=None if place == 0 else groups[place - 1],
            unsaid=unsaid[place],
            noise=None if private else 0.0,
        )
    return EvaluationFacts(
        kind=kind,
        headline=HEADLINE[kind][0],
        from_sum=False,
        noise=0.0,
        fewest=FEWEST,
        metrics=tuple(metrics),
        calibration=(),
        no_calibration="sum" if kind == "binary" else "kind",
    )


def _group(name: str, groups: Sequence[str]) -> str | None:
    # a level may hold dots itself: the longest that fits is the one that was meant
    return max((one for one in groups if name.endswith(f".{one}")), key=len, default=None)


def _events(kind: TallyKind, values: Mapping[str, float], part: Floats | None) -> tuple[float, ...]:
    """Kinds of rows, or events, of which there must be enough; none where there are no kinds."""
    if kind == "binary":
        events = values.get("rows", 0.0) * values.get("positive_share", 0.0)
        return events, values.get("rows", 0.0) - events
    if kind == "count" and part is not None:
        return (float(part[_COUNTED]),)
    return ()


def _unsaid(
    rows: Sequence[float], events: Sequence[tuple[float, ...]], *, private: bool
) -> list[Unsaid]:
    """What is left out of all rows together, and of each group.

    Args:
        rows: Of all together, then of each group.
        events: The same of each kind of event.
        private: Whether noise covers all of it.
    """
    count = len(rows)
    if private:
        return ["nothing"] * count
    hidden = _hidden(rows, set())
    rare = set(hidden)
    before: set[int] | None = None
    while before != rare:  # what one kind hides may leave over too few of another
        before = set(rare)
        for kind in zip(*events, strict=True):
            rare = _hidden(kind, rare)
    return [
        "all" if place in hidden else "events" if place in rare else "nothing"
        for place in range(count)
    ]


def _hidden(counts: Sequence[float], already: set[int]) -> set[int]:
    """Places to leave out: those with few, and more until no difference tells of few."""
    if counts[0] < FEWEST - 0.5:
        return set(range(len(counts)))
    hidden = already | {place for place, count in enumerate(counts) if count < FEWEST - 0.5}
    shown = sorted(set(range(1, len(counts))) - hidden, key=lambda place: counts[place])
    while shown and 0.5 < counts[0] - sum(counts[place] for place in shown) < FEWEST - 0.5:  # noqa: PLR2004 - sums of counts
        hidden.add(shown.pop(0))
    return hidden


def _metrics(
    kind: TallyKind,
    values: Mapping[str, float],
    told: Mapping[str, _Told],
    *,
    group: str | None,
    unsaid: Unsaid,
    noise: float | None,
) -> list[Metric]:
    headline = HEADLINE[kind][0]
    found: list[Metric] = []
    names = [name for name in values if not name.endswith(_NOISE) and name != _BIN_ERROR]
    for name in sorted(names, key=lambda one: (one != headline, one == "rows")):
        if unsaid == "all" or (unsaid == "events" and name != "rows"):
            found.append(
                Metric(
                    name=name,
                    group=group,
                    value=None,
                    low=None,
                    high=None,
                    method="withheld",
                    noise=0.0,
                )
            )
            continue
        one = told.get(name, _Told("none.rows" if name == "rows" else "none.spread"))
        low, high = one.bounds or (None, None)
        own = 0.0 if noise == 0 else values.get(f"{name}{_NOISE}")
        found.append(
            Metric(
                name=name,
                group=group,
                value=float(values[name]),
                low=low,
                high=high,
                method=one.method,
                noise=own,
            )
        )
    return found


def _intervals(kind: TallyKind, part: Floats, values: Mapping[str, float]) -> dict[str, _Told]:
    rows = values.get("rows", 0.0)
    if rows < 1:
        return {}
    if kind == "binary":
        return _binary(part, values)
    if kind == "count":
        return _count(part, values)
    told: dict[str, _Told] = {}
    root, absolute = ("rmse_cap", "mae_cap") if kind == "life" else ("rmse", "mae")
    if values[root] > 0:
        bounds = interval.root_mean_square(values[root], values[absolute], rows)
        told[root] = _Told("rms", bounds)
        told[absolute] = _Told("mean", interval.mean(values[absolute], values[root] ** 2, rows))
    return told


def _binary(part: Floats, values: Mapping[str, float]) -> dict[str, _Told]:
    negative, positive = (np.maximum(part[at : at + BINS], 0.0) for at in (0, BINS))
    rows = values["rows"]
    events = float(positive.sum())
    told = {
        "positive_share": _Told("wilson", interval.wilson(events, rows)),
        "calibration_error": _Told("none.biased"),
    }
    centre = _centres(private=False)
    losses = np.logaddexp(0, centre), np.logaddexp(0, -centre)
    second = float(negative @ np.square(losses[0]) + positive @ np.square(losses[1])) / rows
    told["log_loss"] = _Told("mean", interval.mean(values["log_loss"], second, rows))
    if "auc" in values:
        area, error = interval.delong(negative, positive)
        bounds = interval.on_logits(area, error)
        if bounds is not None:
            tied = values[_BIN_ERROR]
            bounds = max(bounds[0] - tied, 0.0), min(bounds[1] + tied, 1.0)
        told["auc"] = _Told("delong" if bounds else "none.extreme", bounds)
        area = values["average_precision"]
        bounds = interval.precision_recall(area, positives=events)
        told["average_precision"] = _Told("boyd" if bounds else "none.extreme", bounds)
    return told


def _count(part: Floats, values: Mapping[str, float]) -> dict[str, _Told]:
    _, exposure, count, predicted, _, _ = part
    low, high = interval.garwood(max(float(count), 0.0))
    told = {"frequency": _Told("garwood", (low / float(exposure), high / float(exposure)))}
    if "predicted_to_observed" in values and low > 0:
        bounds = float(predicted) / high, float(predicted) / low
        told["predicted_to_observed"] = _Told("garwood", bounds)
    return told


def _private_intervals(
    kind: TallyKind, values: Mapping[str, float], noise: float
) -> dict[str, _Told]:
    """Of a sum with noise: the rows' own chance and the noise together, where both are known."""
    told = {name: _Told("none.noise") for name in values if name != "rows"}
    rows = values.get("rows", 0.0)
    if rows < 1:
        return told
    if kind == "binary":
        share = values["positive_share"]
        # of all bins, also of those that were left out as noise alone
        own = noise * float(np.sqrt(LOGIT_BINS * (share**2 + (1 - share) ** 2))) / rows
        bounds = interval.wilson(share * rows, rows, noise=own)
        told["positive_share"] = _Told("wilson_noise", bounds)
    if kind == "binary" and "auc" in values:
        events = rows * values["positive_share"]
        own = interval.hanley_mcneil(
            values["auc"], negatives=max(rows - events, 1.0), positives=max(events, 1.0)
        )
        # noise moves an AUC as far down as up, wherever it is
        half = interval.Z * float(np.hypot(own, values["auc_noise"]))
        bounds = max(values["auc"] - half, 0.0), min(values["auc"] + half, 1.0)
        told["auc"] = _Told("hanley_mcneil", bounds)
    root, absolute = ("rmse_cap", "mae_cap") if kind == "life" else ("rmse", "mae")
    if kind in {"life", "value"} and values[root] > 0:
        own = values[f"{root}{_NOISE}"]
        bounds = interval.root_mean_square(values[root], values[absolute], rows, noise=own)
        told[root] = _Told("rms_noise", bounds)
    return told


def _centres(*, private: bool) -> Floats:
    """Middles of score bins, in log-odds."""
    if private:
        return np.asarray(LOGIT_LOW + LOGIT_WIDTH * (np.arange(LOGIT_BINS) + 0.5))
    return np.asarray((np.arange(BINS) + 0.5) * (2 * LOGIT_LIMIT / BINS) - LOGIT_LIMIT)


def _calibration(
    kind: TallyKind, part: Floats, noise: float, *, private: bool
) -> tuple[tuple[CalibrationBin, ...], str | None]:
    if kind != "binary":
        return (), "kind"
    bins = LOGIT_BINS if private else BINS
    chance = 1 / (1 + np.exp(-_centres(private=private)))
    found = calibration(part[:bins], part[bins : 2 * bins], chance, noise=noise)
    return found, None if found else "few"


def calibration(
    negative: Floats, positive: Floats, chance: Floats, *, noise: float
) -> tuple[CalibrationBin, ...]:
    """Join score bins into about ten with as many rows each, and with enough events and others.

    Args:
        negative: Shape (bins,): rows of each score without the event, lowest score first.
        positive: The same with it.
        chance: The score of each bin.
        noise: Standard deviation of the noise in each number of both.

    Returns:
        Joined bins; none where all rows together are too few. Each holds `FEWEST` events and
        `FEWEST` rows without, or as many as stand out from the noise.
    """
    aim = float((negative + positive).sum()) / CALIBRATION_BINS
    edges = [0]
    for end in range(1, negative.size + 1):
        start = edges[-1]
        events, others = float(positive[start:end].sum()), float(negative[start:end].sum())
        least = max(FEWEST - 0.5, STANDS_OUT * noise * float(np.sqrt(end - start)))
        if events + others >= aim and min(events, others) >= least:
            edges.append(end)
    if len(edges) == 1:
        return ()
    edges[-1] = negative.size  # what is left over at the top joins the last
    found: list[CalibrationBin] = []
    for start, end in pairwise(edges):
        events, others = float(positive[start:end].sum()), float(negative[start:end].sum())
        rows = events + others
        share = min(max(events / rows, 0.0), 1.0)
        own = noise * float(np.sqrt((end - start) * (share**2 + (1 - share) ** 2))) / rows
        low, high = interval.wilson(events, rows, noise=own)
        predicted = float((negative + positive)[start:end] @ chance[start:end]) / rows
        found.append(
            CalibrationBin(
                predicted=min(max(predicted, 0.0), 1.0),
                happened=share,
                low=low,
                high=high,
                rows=round(rows),
            )
        )
    return tuple(found)
