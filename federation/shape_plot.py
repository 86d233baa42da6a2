"""An additive model as a picture: one panel for each column, what its values add."""

from io import BytesIO
from typing import Final

import numpy as np

from clients.additive import AdditiveModel, Curve, grid_values
from clients.statistics import BINS
from federation.budget_plot import Form

_BLUE: Final = "#1f77b4"
_GREY: Final = "#999999"
_ACROSS: Final = 3
_HEIGHT: Final = 2.6


def draw_shapes(model: AdditiveModel, *, form: Form) -> bytes:
    """Return the picture; the columns that matter most come first."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = sorted(model.curves, key=lambda one: -one.weight)
    down = -(-len(curves) // _ACROSS)
    figure = Figure(figsize=(12, 0.6 + _HEIGHT * down), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, _ACROSS, squeeze=False).reshape(-1)
    for axes, curve in zip(panels, curves, strict=False):
        _panel(axes, model, curve)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    what = {"binary": "log-odds", "count": "log rate"}.get(model.target.kind, "the label's unit")
    figure.suptitle(f"what each value adds ({what}), against the {model.reference}")
    held = BytesIO()
    figure.savefig(held, format=form, metadata={"Date": None} if form == "svg" else None)
    return held.getvalue()


def _panel(axes, model: AdditiveModel, curve: Curve) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    column = curve.column
    axes.axhline(0.0, color=_GREY, linewidth=0.8)
    axes.set_title(column.name, fontsize=9)
    axes.tick_params(labelsize=7)
    if column.type == "category":
        levels = column.categories
        axes.bar(
            range(len(levels)), model.amount(curve, np.arange(len(levels))), color=_BLUE, width=0.7
        )
        axes.set_xticks(range(len(levels)), levels, rotation=60, ha="right", fontsize=6)
        return
    values = grid_values(column)
    axes.plot(values, model.amount(curve, values), color=_BLUE)
    shares = model.features.shares(column, model.released)
    if shares is not None:
        under = axes.twinx()
        under.fill_between(values, shares[:BINS], color=_GREY, alpha=0.3, step="mid")
        under.set_yticks([])
    if column.transform != "standard" and column.bounds[0] >= 0:
        axes.set_xscale("symlog", linthresh=max(column.bounds[1] / 1000.0, 1e-9))
    axes.set_xlabel("" if column.unit in {None, "1"} else column.unit, fontsize=7)
