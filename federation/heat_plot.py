"""A score of a device's window as a picture: what each sensor's readings add, over time."""

from io import BytesIO
from typing import Final

import numpy as np

from clients.window_model import WindowModel
from clients.window_reasons import WindowScore
from federation.budget_plot import Form

_ROW: Final = 0.34  # inches a sensor
_TICKS: Final = 8


def draw_heat(model: WindowModel, window: WindowScore, *, form: Form) -> bytes:
    """Return the picture: sensors by time, those that matter most first; red makes it worse."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    totals = window.amounts.sum(axis=0)
    order = np.argsort(-np.abs(totals), kind="stable")
    worse = 1.0 if window.score.worse == "up" else -1.0
    cells = window.amounts[:, order].T
    names = [window.sensors[place] for place in order]
    totals = totals[order]
    most = max(float(np.abs(cells).max()), 1e-12)
    figure = Figure(figsize=(11, 1.6 + _ROW * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(
        cells,
        aspect="auto",
        cmap="RdBu_r" if worse > 0 else "RdBu",
        vmin=-most,
        vmax=most,
        interpolation="nearest",
    )
    axes.set_yticks(
        range(len(names)),
        [f"{name}  {total:+.2f}" for name, total in zip(names, totals, strict=True)],
        fontsize=8,
    )
    steps = len(window.times)
    places = np.unique(np.linspace(0, steps - 1, min(_TICKS, steps)).round().astype(int))
    axes.set_xticks(places, [f"{window.times[place]:.10g}" for place in places], fontsize=8)
    time = model.contract.time_column
    axes.set_xlabel("" if time is None else time.name, fontsize=8)
    what = "log-odds" if model.target.kind == "binary" else "remaining life"
    figure.colorbar(image, ax=axes, label=f"adds ({what})")
    axes.set_title(
        f"{window.score.unit} at {window.time:.10g}: {window.score.value:.4g}; attribution, "
        f"not exact",
        fontsize=9,
    )
    held = BytesIO()
    figure.savefig(held, format=form, metadata={"Date": None} if form == "svg" else None)
    return held.getvalue()
