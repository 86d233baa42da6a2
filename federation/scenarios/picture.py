"""A scenario as a picture: what less downtime would do, and where machines stand over time."""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final

import numpy as np

from clients.terms.rule import GRADES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from federation.budget_plot import Form

_COLOURS: Final = ("#1f77b4", "#d95f02", "#1b9e77", "#e7298a", "#66a61e", "#7570b3")
_TRUE, _MODEL = "#333333", "#b2182b"
_APART: Final = 0.06


@dataclass(frozen=True, slots=True)
class Effect:
    """What an intervention does to the mean chance of default.

    Attributes:
        less: By how much downtime is less, a share.
        model: By the model.
        model_interval: 95 %, of the mean over such leases.
        true: By the mechanism.
        true_interval: As above.
    """

    less: float
    model: float
    model_interval: tuple[float, ...]
    true: float
    true_interval: tuple[float, ...]


def draw_scenario(
    name: str, standings: "pd.DataFrame", effects: "list[Effect] | None", *, form: "Form"
) -> bytes:
    """Return the picture.

    Args:
        name: Of the scenario.
        standings: subject, day, grade, limit, premium; a row a machine and day.
        effects: By size; None: the scenario has no intervention, and no such panel.
        form: Its format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 3 if effects is None else 4
    figure = Figure(figsize=(9, 2.6 * panels), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(panels, 1))
    if effects is not None:
        _effects(axes[0], effects)
    for place, (panel, what) in enumerate(
        zip(axes[-3:], ("grade", "limit", "premium"), strict=True)
    ):
        _over_time(panel, standings, what, named=place == 0)
    figure.suptitle(f"{name} (generated data)")
    held = BytesIO()
    figure.savefig(held, format=form, metadata={"Date": None} if form == "svg" else None)
    return held.getvalue()


def _effects(axes: "Axes", effects: list[Effect]) -> None:
    less = [100 * one.less for one in effects]
    for label, colour, mean, bounds in (
        ("mechanism", _TRUE, [e.true for e in effects], [e.true_interval for e in effects]),
        ("model", _MODEL, [e.model for e in effects], [e.model_interval for e in effects]),
    ):
        low, high = 100 * np.array(bounds).T
        axes.plot(less, 100 * np.array(mean), color=colour, label=label)
        axes.fill_between(less, low, high, color=colour, alpha=0.2)
    axes.axhline(0.0, color="#999999", linewidth=0.8)
    axes.set_xlabel("less downtime, points")
    axes.set_ylabel("chance of default, points")
    axes.legend(fontsize=8, title="effect, with 95 % interval over leases", title_fontsize=7)


def _over_time(axes: "Axes", standings: "pd.DataFrame", what: str, *, named: bool) -> None:
    groups = standings.groupby("subject", sort=True)
    for place, (subject, own) in enumerate(groups):
        values = own[what]
        if what == "grade":
            values = values.map(GRADES.find).astype(float).replace(-1.0, np.nan)
            values = values + _APART * (place - len(groups) / 2)  # lines that lie on each other
        colour = _COLOURS[place % len(_COLOURS)]
        axes.step(own["day"], values, where="post", color=colour, label=str(subject))
    axes.set_ylabel(what)
    if what == "grade":
        axes.set_yticks(range(len(GRADES)), list(GRADES))
        axes.set_ylim(len(GRADES) - 0.5, -0.5)
    if named:
        axes.legend(fontsize=6, ncols=3)
    axes.tick_params(labelsize=7)
