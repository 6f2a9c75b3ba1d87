"""The two pictures of a training run, as PNG: what the model looks at, and how it learned."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure  # no pyplot: no global state, no window

SHOWN = 20
DPI = 110
IMPORTANCE, CURVE = "plots/feature_importance.png", "plots/training_curve.png"


def draw(importances: Mapping[str, float], history: Mapping[str, Sequence[float]], kept: int) -> dict[str, bytes]:
    """PNG by artifact path. `kept` is the number of boosting rounds that the model keeps."""
    return {IMPORTANCE: _importance(importances), CURVE: _curve(history, kept)}


def _importance(importances: Mapping[str, float]) -> bytes:
    top = sorted(importances.items(), key=lambda item: item[1])[-SHOWN:]
    figure = _figure(1 + 0.28 * len(top))
    axes = figure.subplots()
    axes.barh([name for name, _ in top], [share for _, share in top], color="#2e7d32")
    axes.set_xlabel("share of total gain")
    axes.set_title("Feature importance")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _curve(history: Mapping[str, Sequence[float]], kept: int) -> bytes:
    figure = _figure(4)
    axes = figure.subplots()
    for (name, values), color in zip(history.items(), ("#9e9e9e", "#2e7d32", "#1565c0", "#ef6c00"), strict=False):
        axes.plot(range(1, len(values) + 1), values, label=name, color=color)
    axes.axvline(kept, color="#444444", linestyle=":", label=f"kept: {kept} rounds")
    axes.set_xlabel("boosting round")
    axes.set_title("Training curve")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _png(figure)


def _figure(height: float) -> Figure:
    return Figure(figsize=(7, height), dpi=DPI, layout="constrained")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # savefig would make the same bytes, and draw twice for them
    return buffer.getvalue()
