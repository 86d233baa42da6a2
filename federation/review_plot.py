"""One device's readings as a picture, for whoever decides: a panel for each watched column.

The band is where the device normally works; what lies outside is marked, and so are the readings
that put it under review.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Final

import numpy as np

from clients.contract import Column, DataContract
from clients.gate import IN_A_ROW, Device, watch
from federation.budget_plot import Form
from privacy.errors import RefusedError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_BLUE: Final = "#1f77b4"
_RED: Final = "#b2182b"
_GREEN: Final = "#1b9e77"
_PANEL_HEIGHT: Final = 2.2


def draw_device(
    device: Device, frame: "pd.DataFrame", contract: DataContract, *, form: Form
) -> bytes:
    """Return the picture.

    Args:
        device: Which.
        frame: Its rows, in order of time.
        contract: What they mean.
        form: `png`, `svg` or `pdf`.

    Raises:
        RefusedError: The contract has no thresholds, so that there is nothing to draw.
    """
    columns, time = contract.watched, contract.time_column
    if not columns or time is None:
        raise RefusedError("the contract has no thresholds; there is nothing to draw")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.0 + _PANEL_HEIGHT * len(columns)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(columns), 1, squeeze=False, sharex=True)[:, 0]
    seen = watch(frame, contract)
    out_times = seen.times[seen.out]
    spans = [
        (float(out_times[run[0]]), float(out_times[run[-1]]))
        for run in seen.runs()
        if len(run) >= IN_A_ROW
    ]
    times = frame[time.name].to_numpy(dtype=np.float64)
    for axes, column in zip(panels, columns, strict=True):
        _panel(axes, column, times, frame[column.name].to_numpy(dtype=np.float64), spans)
    panels[0].set_title(
        f"{device.name} of {contract.name}: {int(seen.out.sum())} readings outside their "
        f"threshold; {IN_A_ROW} or more in a row: {len(spans)}",
        fontsize=10,
        loc="left",
    )
    panels[-1].set_xlabel(f"{time.name} ({time.unit})" if time.unit else time.name, fontsize=8)
    drawn = BytesIO()
    figure.savefig(drawn, format=form, dpi=120)
    return drawn.getvalue()


def _panel(
    axes: "Axes",
    column: Column,
    times: "np.typing.NDArray[np.float64]",
    values: "np.typing.NDArray[np.float64]",
    spans: Sequence[tuple[float, float]],
) -> None:
    low, high = column.threshold or (-np.inf, np.inf)
    axes.axhspan(low, high, color=_GREEN, alpha=0.1, linewidth=0)
    for first, last in spans:
        axes.axvspan(first, last, color=_RED, alpha=0.12, linewidth=0)
    axes.plot(times, values, color=_BLUE, linewidth=0.8, marker=".", markersize=2.5)
    out = (values < low) | (values > high)
    axes.plot(times[out], values[out], linestyle="", marker="o", markersize=4, color=_RED)
    axes.set_ylabel(f"{column.name}\n({column.unit})" if column.unit else column.name, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.25)
