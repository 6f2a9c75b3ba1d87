"""The two pictures of a study, as PNG: how its trials scored one after another, and which parameters mattered."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import fmean
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure  # no pyplot: no global state, no window

from evergreen.core.tuning import Trial, TrialKind, TrialState

if TYPE_CHECKING:
    from evergreen.core.metrics import Metric

HISTORY, IMPORTANCES = "plots/tuning_history.png", "plots/tuning_importances.png"
DPI = 110


def draw(trials: Sequence[Trial], metric: Metric, importances: Mapping[str, float]) -> dict[str, bytes]:
    """PNG by artifact path; no importances where they cannot be told."""
    pictures = {HISTORY: _history(trials, metric)}
    return {**pictures, IMPORTANCES: _importances(importances)} if importances else pictures


def _history(trials: Sequence[Trial], metric: Metric) -> bytes:
    whole = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    scores = [fmean(trial.scores) for trial in whole]
    figure = Figure(figsize=(7, 4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    numbers = [trial.number for trial in whole]
    best = list(accumulate(scores, lambda a, b: b if metric.improvement(b, a) > 0 else a))
    axes.plot(numbers, scores, "o", color="#1565c0", label="a trial, mean of its folds")
    axes.step(numbers, best, where="post", color="#2e7d32", label="best so far")
    for at, trial in enumerate(whole):
        if trial.kind is TrialKind.UNTUNED:
            axes.axhline(scores[at], color="#444444", linestyle=":", label="the spec's own parameters")
    for trial in trials:
        if trial.state is not TrialState.COMPLETE:
            axes.axvline(trial.number, color="#e0e0e0", linewidth=3, zorder=0)
    axes.set_xlabel("trial (grey: pruned or failed)")
    axes.set_ylabel(metric.label)
    axes.set_title("Tuning")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _png(figure)


def _importances(importances: Mapping[str, float]) -> bytes:
    top = sorted(importances.items(), key=lambda item: item[1])
    figure = Figure(figsize=(7, 1 + 0.28 * len(top)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in top], [share for _, share in top], color="#2e7d32")
    axes.set_xlabel("share of the differences between trials")
    axes.set_title("Which parameters mattered")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
