"""What budgets have spent over time, as a picture: a panel for each data set, unit and cohort.

Members whose curves are the same are drawn as one line, as nodes of one federation mostly are.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from federation.budget import READINGS, by_title
from federation.budget_history import Against, BudgetHistory
from privacy.errors import InputError, RefusedError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Form: TypeAlias = Literal["png", "svg", "pdf"]
_FORMS: Final[tuple[Form, ...]] = ("png", "svg", "pdf")
_COLOURS: Final = (
    *("#1f77b4", "#d95f02", "#1b9e77", "#e7298a", "#66a61e", "#7570b3"),
    *("#a6761d", "#17becf", "#e6ab02", "#8c564b", "#5254a3", "#7f7f7f"),
)
_DASHES: Final = ("-", "--", "-.", ":")
_NAME_CHARACTERS: Final = 22
_LINES_MAX: Final = 16
_MARKED_RUNS_MAX: Final = 40
_NAMED_RUNS_MAX: Final = 5
_HEADROOM: Final = 1.12
_MARGIN: Final = 0.02
_SECOND_MS: Final = 1000
_DAY_MS: Final = 86_400_000
_SMALLEST: Final = 1e-3
_RUN_CHARACTERS: Final = 14
_RED: Final = "#b2182b"


def format_of(path: Path) -> Form:
    """Return the picture's format by the end of its name.

    Raises:
        InputError: it is none that can be drawn.
    """
    for form in _FORMS:
        if path.suffix.lower() == f".{form}":
            return form
    raise InputError(f"{path} cannot be drawn; give a name that ends in .png, .svg or .pdf")


def draw(histories: Sequence[BudgetHistory], *, form: Form) -> bytes:
    """Return the picture: epsilon as it is enforced, over time, with caps and runs.

    Raises:
        RefusedError: no release has a bound, so that there is nothing to draw.
    """
    panels = {
        title: group for title, group in by_title(histories).items() if any(map(_bounded, group))
    }
    if not panels:
        raise RefusedError(
            "nothing bounds what was released here, as it was without noise; there is no curve to "
            "draw, see tacit budget history"
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = sorted({one.terms.member for one in histories})
    styles = {name: _style(place) for place, name in enumerate(names)}
    heights = [1.2 + max(1.6, 0.17 * _lines(group)) for group in panels.values()]
    figure = Figure(figsize=(13, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        len(panels), len(READINGS), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for row, (title, group) in zip(grid, panels.items(), strict=True):
        for axes, against in zip(row, READINGS, strict=True):
            _panel(axes, group, against, styles)
            axes.set_title(f"{title}\n{_against(group, against)}", fontsize=9, loc="left")
    drawn = BytesIO()
    figure.savefig(drawn, format=form, dpi=120)
    return drawn.getvalue()


def _bounded(history: BudgetHistory) -> bool:
    return any(math.isfinite(one.coordinator) or math.isfinite(one.solo) for one in history.curve)


def _style(place: int) -> tuple[str, str]:
    return _COLOURS[place % len(_COLOURS)], _DASHES[place // len(_COLOURS) % len(_DASHES)]


def _lines(group: Sequence[BudgetHistory]) -> int:
    return min(_LINES_MAX, max(len(_same(group, against)) for against in READINGS))


def _same(group: Sequence[BudgetHistory], against: Against) -> list[list[BudgetHistory]]:
    """Members that the same runs cost the same, in the same order, under the same cap."""
    found: dict[object, list[BudgetHistory]] = {}
    for one in group:
        curve = tuple((point.run, point.change, getattr(point, against)) for point in one.curve)
        found.setdefault((curve, one.cap(against)), []).append(one)
    return list(found.values())


def _against(group: Sequence[BudgetHistory], against: Against) -> str:
    if against == "solo":
        return "against all others together"
    colluders = sorted({one.terms.colluders for one in group})
    nodes = "node" if colluders == [1] else "nodes"
    return f"against the coordinator with {' or '.join(map(str, colluders))} other {nodes}"


def _panel(
    axes: "Axes",
    group: Sequence[BudgetHistory],
    against: Against,
    styles: Mapping[str, tuple[str, str]],
) -> None:
    drawn = _same(group, against)
    top = 0.0
    for place, same in enumerate(drawn):
        top = max(top, _line(axes, same, against, styles, named=place < _LINES_MAX))
    if len(drawn) > _LINES_MAX:
        axes.plot([], [], " ", label=f"and {len(drawn) - _LINES_MAX} more lines")
    caps = sorted({cap for one in group if (cap := one.cap(against)) is not None})
    for cap in caps:
        axes.axhline(cap, color=_RED, linestyle=(0, (6, 3)), linewidth=1.2)
        axes.annotate(
            f"cap {cap:g}",
            (1, cap),
            xycoords=("axes fraction", "data"),
            xytext=(-3, 2),
            textcoords="offset points",
            ha="right",
            color=_RED,
            fontsize=8,
        )
    first_ms = min(one.curve[0].time_ms for one in group)
    last_ms = max(one.until_ms for one in group)
    margin_ms = max(_SECOND_MS, round(_MARGIN * (last_ms - first_ms)))
    axes.set_ylim(0, _HEADROOM * max(top, *caps, _SMALLEST))
    axes.set_xlim(_day(first_ms - margin_ms), _day(last_ms + margin_ms))
    if top or caps:
        _runs(axes, group)
    else:
        axes.text(
            0.5, 0.5, "without noise: no bound", ha="center", fontsize=9, transform=axes.transAxes
        )
        axes.set_yticks([])
    _dates(axes)
    axes.set_ylabel("epsilon spent" if caps else "epsilon spent (no cap)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7, frameon=False, borderaxespad=0
    )


def _line(
    axes: "Axes",
    same: Sequence[BudgetHistory],
    against: Against,
    styles: Mapping[str, tuple[str, str]],
    *,
    named: bool,
) -> float:
    """Draw one curve and return its highest value; 0 where nothing bounds it."""
    one = same[0]
    colour, dashes = styles[one.terms.member]
    known = [(point.time_ms, float(getattr(point, against))) for point in one.curve]
    # from nothing upward, and on to the present
    steps = [(known[0][0], 0.0), *known, (one.until_ms, known[-1][1])]
    values = [value if math.isfinite(value) else math.nan for _, value in steps]
    axes.step(
        [_day(time_ms) for time_ms, _ in steps],
        values,
        where="post",
        color=colour,
        linestyle=dashes,
        linewidth=1.6,
        label=_label(same, against) if named else None,
    )
    if len(one.runs) <= _MARKED_RUNS_MAX:
        ends = [(run.last_ms, float(getattr(run, against).after)) for run in one.runs]
        shown = [(time_ms, value) for time_ms, value in ends if math.isfinite(value)]
        axes.plot(
            [_day(time_ms) for time_ms, _ in shown],
            [value for _, value in shown],
            linestyle="",
            marker="o",
            markersize=3.5,
            color=colour,
        )
    return max((value for value in values if math.isfinite(value)), default=0.0)


def _label(same: Sequence[BudgetHistory], against: Against) -> str:
    shown = _short(same[0].terms.member, _NAME_CHARACTERS)
    if len(same) > 1:
        shown += f" and {len(same) - 1} more"
    spent, cap = same[0].spent(against), same[0].cap(against)
    told = f"{spent:.2f}" if math.isfinite(spent) else "no bound"
    return f"{shown}: {told}" + ("" if cap is None else f" of {cap:g}")


def _runs(axes: "Axes", group: Sequence[BudgetHistory]) -> None:
    """Mark when each run was, for all members together; name them where they are few."""
    spans: dict[str, tuple[int, int]] = {}
    for row in (row for one in group for row in one.runs):
        first_ms, last_ms = spans.get(row.run, (row.first_ms, row.last_ms))
        spans[row.run] = min(first_ms, row.first_ms), max(last_ms, row.last_ms)
    if len(spans) > _MARKED_RUNS_MAX:
        return
    for run, (first_ms, last_ms) in spans.items():
        axes.axvspan(_day(first_ms), _day(last_ms), color="black", alpha=0.06, linewidth=0)
        axes.axvline(_day(first_ms), color="black", alpha=0.25, linewidth=0.6)
        if len(spans) <= _NAMED_RUNS_MAX:
            axes.annotate(
                _short(run[::-1], _RUN_CHARACTERS)[::-1],
                (_day(first_ms), 0.02),
                xycoords=("data", "axes fraction"),
                xytext=(2, 0),
                textcoords="offset points",
                rotation=90,
                va="bottom",
                fontsize=6,
                color="0.35",
            )


def _dates(axes: "Axes") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]


def _short(name: str, characters: int) -> str:
    return name if len(name) <= characters else f"{name[: characters - 2]}.."


def _day(time_ms: int) -> float:
    """The time as matplotlib counts it: days since 1970 UTC."""
    return time_ms / _DAY_MS
