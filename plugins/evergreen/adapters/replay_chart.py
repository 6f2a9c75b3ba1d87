"""The chart of a replay, as PNG: the metric of each way by period, and when Evergreen retrained."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure  # no pyplot: no global state, no window

from evergreen.core.metrics import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evergreen.core.replayed import Replayed

WIDTH, HEIGHT, DPI = 9, 4.6, 110
GREY = "#595959"
WAYS = (  # field, label, colour, line, marker: told apart without colour too (Okabe and Ito, 2008)
    ("hindsight", "best in hindsight", GREY, ":", ""),
    ("frozen", "frozen", "#d55e00", "--", "s"),
    ("every_period", "retrained every period", "#e69f00", "-.", "^"),
    ("evergreen", "Evergreen", "#0072b2", "-", "o"),
)


def draw(replayed: Replayed) -> bytes:
    """PNG. A period's value stands at its middle; ticks at the foot are Evergreen's runs, crosses the refused ones."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.subplots()
    middles = [period.start + (period.end - period.start) / 2 for period in replayed.periods]
    for name, label, color, line, marker in WAYS:
        values = [getattr(period, name) for period in replayed.periods]
        axes.plot(middles, values, label=label, color=color, ls=line, marker=marker, ms=4, lw=1.6)
    _runs(axes, replayed)
    metric = replayed.metric
    better = "higher" if metric.name in HIGHER_IS_BETTER else "lower"
    axes.set_ylabel(f"{metric.label} ({better} is better)")
    axes.set_title(f"{replayed.model}, replayed", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # savefig would make the same bytes, and draw twice for them
    return buffer.getvalue()


def _runs(axes: Axes, replayed: Replayed) -> None:
    attempts = [attempt for period in replayed.periods for attempt in period.attempts]
    ways = (("released", "|", "#0072b2", True), ("refused", "x", "#d55e00", False))
    for label, marker, color, released in ways:
        times = [attempt.at for attempt in attempts if attempt.released is released]
        foot = axes.get_xaxis_transform()  # x in dates, y as a share of the picture's height
        axes.plot(times, [0.02] * len(times), marker, color=color, ms=7, transform=foot, label=label, clip_on=False)
