"""The report on a model as one HTML file that needs nothing else: no network, no script; charts are SVG in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from evergreen.core.metrics import Task
from evergreen.core.reported_errors import CHANCES, LOSSES, RESIDUAL_BINS
from evergreen.core.requested import readable_time
from evergreen.ui import words
from evergreen.ui.bars import Pair, against, histogram, pairs
from evergreen.ui.tables import Table
from evergreen.ui.templating import HERE, environment
from evergreen.ui.watched import charts, numbers

if TYPE_CHECKING:
    from evergreen.core.monitoring.window_metrics import Value
    from evergreen.core.reported import Reported
    from evergreen.core.reported_errors import Errors
    from evergreen.core.reported_examples import Example
    from evergreen.core.reported_shifts import Shift

DRAWN = 8  # features whose charts are shown, those that moved most
LONGEST = 60  # characters of a feature's value


@dataclass(frozen=True)
class Drawn:
    """A picture with the numbers in it."""

    title: str
    about: str
    svg: Markup
    table: Table


def page(report: Reported) -> str:
    """The whole file."""
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            style=Markup((HERE / "files" / "pages.css").read_text()),  # noqa: S704 -- a file of ours
            charts=charts(report.metric, report.series, report.releases),
            numbers=numbers(report.series) if report.series else None,
            moved=[_moved(one) for one in report.shifts[:DRAWN] if one.groups],
            shifts=_shifts(report.shifts),
            loss=LOSSES[report.task],
            slices=_slices(report),
            monitored=_monitored(report),
            errors=_errors(report.task, report.errors, report.threshold) if report.errors else [],
            examples=[_example(report.task, one) for one in report.examples],
            data=_data(report.shifts),
            now=report.made_at,
        )
    )


# ---------------------------------------------------------------- features


def _moved(shift: Shift) -> Drawn:
    rows = [[one.label, words.percent(one.before), words.percent(one.after)] for one in shift.groups]
    about = f"PSI {words.number(shift.psi)}" + (
        f", distance {words.number(shift.distance)} standard deviations" if shift.distance is not None else ""
    )
    bars = pairs(shift.feature, [Pair(one.label, one.before, one.after) for one in shift.groups])
    return Drawn(shift.feature, about, bars, Table("", ["", "training", "window"], rows))


def _shifts(shifts: Sequence[Shift]) -> Table:
    rows = [[one.feature, words.number(one.rows), words.number(one.psi), words.number(one.distance)] for one in shifts]
    return Table("", ["feature", "rows", "PSI", "distance (standard deviations)"], rows)


def _data(shifts: Sequence[Shift]) -> Table:
    """What is wrong with the values of the window, the worst first."""
    rows = [
        [one.feature, words.percent(one.missing_before), words.percent(one.missing), words.percent(one.beyond)]
        for one in sorted(shifts, key=lambda one: -max(_rise(one), one.beyond or 0.0))
        if one.rows
    ]
    return Table("", ["feature", "missing in training", "missing", "out of range or unseen"], rows)


def _rise(shift: Shift) -> float:
    return (shift.missing or 0.0) - (shift.missing_before or 0.0)


# ---------------------------------------------------------------- slices


def _slices(report: Reported) -> Table | None:
    if not report.slices:
        return None
    single = report.task is not Task.MULTICLASS
    head = ["feature", "value", "answers", "mean loss", "interval", *(["said", "true"] if single else [])]
    rows = [
        [one.feature, one.value, words.number(one.rows), words.number(one.loss), words.interval(one.low, one.high)]
        + ([words.number(one.said), words.number(one.true)] if single else [])
        for one in report.slices
    ]
    return Table("", head, rows, words=2)


def _monitored(report: Reported) -> Table | None:
    if not report.monitored:
        return None
    rows = [["all", words.number(report.span.answers), *_quality(report.quality)]]
    rows += [
        [one.slice.replace("=", " ", 1), words.number(one.rows), *_quality(one.quality)] for one in report.monitored
    ]
    return Table("", ["slice", "answers", report.metric, "interval", "with a label"], rows)


def _quality(value: Value | None) -> list[str]:
    if value is None:
        return [words.NONE, words.NONE, "too few labels"]
    return [words.number(value.value), words.interval(value.low, value.high), words.number(value.rows)]


# ---------------------------------------------------------------- errors


def _errors(task: Task, errors: Errors, threshold: float) -> list[Drawn]:
    """Residuals of a regression; confusion and calibration of a classifier."""
    if task is Task.REGRESSION:
        return [_residuals(errors), *([_tenths(errors)] if errors.tenths is not None else [])]
    found = [] if errors.confusion is None else [_confusion(task, errors, threshold)]
    return [*found, _calibration(task, errors)]


def _residuals(errors: Errors) -> Drawn:
    edges = [(2 * at / RESIDUAL_BINS - 1) * errors.scale for at in range(RESIDUAL_BINS + 1)]
    counts = errors.residuals.tolist()
    rows = [
        [f"{words.number(low)} to {words.number(high)}", f"{count:,.0f}"]
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]
    about = "Prediction - label: to the right of the line the model says too much. The end bars hold all beyond."
    drawn = histogram("Residuals", edges, counts)
    return Drawn("Residuals", about, drawn, Table("", ["prediction - label", "answers"], rows))


def _tenths(errors: Errors) -> Drawn:
    rows, points = [], []
    for count, said, true, error in errors.tenths.T.tolist():
        if count:
            points.append((said / count, true / count, count))
            rows.append([words.number(one / count) for one in (said, true, error)] + [f"{count:,.0f}"])
    about = "By tenths of the predictions that training held back: on the line, what was said came true on average."
    svg = against("Predicted and actual", points, ("mean prediction", "mean label"))
    return Drawn("Predicted and actual", about, svg, Table("", ["said", "true", "absolute error", "answers"], rows))


def _calibration(task: Task, errors: Errors) -> Drawn:
    rows, points = [], []
    for at, (count, said, true) in enumerate(errors.chances.T.tolist()):
        if count:
            points.append((said / count, true / count, count))
            span = f"{at / CHANCES:.0%} to {(at + 1) / CHANCES:.0%}"
            rows.append([span, words.percent(said / count), words.percent(true / count), f"{count:,.0f}"])
    what = "the chance of class 1" if task is Task.BINARY else "the chance of the class that was named"
    about = f"By {what}: on the line, what was said came true as often. Larger points have more answers."
    svg = against("Calibration", points, ("mean chance said", "share that came true"))
    return Drawn("Calibration", about, svg, Table("", ["chance", "said", "came true", "answers"], rows))


def _confusion(task: Task, errors: Errors, threshold: float) -> Drawn:
    rows = []
    for true, counts in enumerate(errors.confusion.tolist()):
        whole = sum(counts)
        cells = [f"{count:,} ({words.percent(count / whole)})" if whole else words.NONE for count in counts]
        rows.append([f"true class {true}", *cells])
    about = (
        f"Class 1 is said from a chance of {threshold:g} on." if task is Task.BINARY else "The likeliest class is said."
    )
    head = ["", *(f"said {said}" for said in range(len(rows)))]
    return Drawn("Confusion", f"{about} Shares are of the true class.", Markup(""), Table("", head, rows))


# ---------------------------------------------------------------- examples


def _example(task: Task, example: Example) -> dict[str, Any]:
    said = words.number(example.said)
    if task is Task.MULTICLASS:
        said = f"class {example.named} ({words.percent(example.said)})"
    features = [(name, _value(value)) for name, value in example.features.items()]
    return {
        "id": example.inference_id,
        "at": readable_time(example.at),
        "said": said,
        "true": f"class {example.label:.0f}" if task is not Task.REGRESSION else words.number(example.label),
        "features": features,
    }


def _value(value: Any) -> str:
    told = words.text(value)
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"
