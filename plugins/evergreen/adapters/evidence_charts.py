"""The charts of a candidate's evidence, as SVG that is the same byte for byte for the same evidence.

Candidate and champion differ in colour and in shape, so that colour-blind readers and black-and-white prints tell them
apart (colours: Okabe and Ito, 2008). Text stays text. The background is white, whatever the page's is.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure  # no pyplot: no global state, no window

from evergreen.core.metrics import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evergreen.core.evidence import Evidence

WIDTH = 7.3  # inches: 700 px in a browser
MODELS = (("champion", "#d55e00", "s", "--"), ("candidate", "#0072b2", "o", "-"))  # name, colour, marker, line
GREY, PALE = "#595959", "#d9d9d9"
MOST_SLICES, SMALL, LARGE = 3, 0.1, 0.25
STYLE = {
    "svg.hashsalt": "evergreen",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "legend.frameon": False,
}


def draw(evidence: Evidence) -> dict[str, bytes]:
    """SVG by file name: by_period, slices, shifts and calibration, and roc and pr, residuals or confusion by task."""
    charts = {
        "by_period.svg": _by_period,
        "calibration.svg": _actual if evidence["task"] == Task.REGRESSION else _calibration,
        "confusion.svg": _confusion,
        "pr.svg": _precision_recall,
        "residuals.svg": _residuals,
        "roc.svg": _roc,
        "shifts.svg": _shifts,
        "slices.svg": _slices,
    }
    with mpl.rc_context(STYLE):
        made = {name: chart(evidence) for name, chart in charts.items()}
        return {name: _svg(figure) for name, figure in made.items() if figure is not None}


def _figure(height: float) -> Figure:
    return Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    canvas = FigureCanvasSVG(figure)  # savefig would make the same bytes, and draw twice for them
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _both(evidence: Evidence, section: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(label, values, how to draw them) of each model that the section has."""
    champion = evidence["changed"]["champion"]
    versions = {"candidate": evidence["version"], "champion": champion and champion["version"]}
    for name, color, marker, line in MODELS:
        if section.get(name) is not None:
            yield f"{name}, version {versions[name]}", section[name], {"color": color, "marker": marker, "ls": line}


def _legend(axes: Axes, **where: Any) -> None:
    """The candidate first, as everywhere else."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles[::-1], labels[::-1], **where)


# ---------------------------------------------------------------- the one picture of the approval


def _by_period(evidence: Evidence) -> Figure | None:
    periods, metric = evidence["by_period"], evidence["metric"]
    if not periods:
        return None
    figure = _figure(3.6)
    axes = figure.subplots()
    columns = {name: [period[name] for period in periods] for name in ("candidate", "champion")}
    section = {name: found for name, found in columns.items() if any(found)}
    for place, (label, values, how) in zip((-0.12, 0.12), _both(evidence, section), strict=False):
        _bars(axes, [at + place * (len(section) - 1) for at in range(len(periods))], values, label, how)
    _limits(axes, metric)
    axes.set_xticks(range(len(periods)), [f"{_days(p['from'], p['until'])}\n{p['rows']:,} rows" for p in periods])
    axes.tick_params(axis="x", labelsize=8 if len(periods) > 7 else 9, length=0)
    axes.set_ylabel(metric["name"])
    year = " – ".join(dict.fromkeys((periods[0]["from"][:4], periods[-1]["until"][:4])))
    axes.set_title(f"{metric['name']} by period ({metric['better']} is better), {year}, with intervals of 95 %")
    _legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4)
    return figure


def _limits(axes: Axes, metric: dict[str, Any]) -> None:
    """The absolute gates of the metric, where they are near enough to leave the values room."""
    low, high = axes.get_ylim()
    for limit in (metric["min"], metric["max"]):
        if limit is not None and low - (high - low) / 2 <= limit <= high + (high - low) / 2:
            axes.axhline(limit, color=GREY, ls=":", label=f"gate: {limit:g}", zorder=0)


def _bars(axes: Axes, at: Sequence[float], values: Sequence[Any], label: str, how: dict[str, Any]) -> None:
    """Points with their intervals; one whose interval is not known stands alone."""
    known = [(x, v) for x, v in zip(at, values, strict=True) if v and v["value"] is not None]
    axes.plot([x for x, _ in known], [v["value"] for _, v in known], label=label, lw=1.2, ms=6, **how)
    for x, value in known:
        if value["low"] is not None and value["high"] is not None:
            axes.plot([x, x], [value["low"], value["high"]], color=how["color"], lw=2, alpha=0.55, zorder=1)


def _days(first: str, last: str) -> str:
    """'17 Nov', '17–18 Nov' or '30 Nov – 1 Dec'."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    if start == end:
        return f"{start.day} {start:%b}"
    if (start.year, start.month) == (end.year, end.month):
        return f"{start.day}–{end.day} {end:%b}"
    return f"{start.day} {start:%b} –\n{end.day} {end:%b}"


# ---------------------------------------------------------------- classification


def _roc(evidence: Evidence) -> Figure | None:
    return evidence["curves"] and _curve(
        evidence, evidence["curves"]["roc"], "ROC curve", "false positive rate", "true positive rate", diagonal=True
    )


def _precision_recall(evidence: Evidence) -> Figure | None:
    if not evidence["curves"]:
        return None
    figure = _curve(evidence, evidence["curves"]["precision_recall"], "Precision and recall", "recall", "precision")
    rate = evidence["curves"]["rate"]
    figure.axes[0].axhline(rate, color=GREY, ls=":", label=f"saying 1 to all: {rate:.2g}")
    _legend(figure.axes[0], loc="upper right")
    return figure


def _curve(
    evidence: Evidence, section: dict[str, Any], title: str, x: str, y: str, *, diagonal: bool = False
) -> Figure:
    figure = _figure(4.2)
    axes = figure.subplots()
    for label, points, how in _both(evidence, section):
        axes.plot([p[0] for p in points], [p[1] for p in points], label=label, lw=1.8, markevery=12, ms=5, **how)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1, label="by chance")
    axes.set(xlabel=x, ylabel=y, title=title, xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
    _legend(axes, loc="lower right")
    return figure


def _calibration(evidence: Evidence) -> Figure | None:
    if not evidence["calibration"]:
        return None
    figure = _figure(4.8)
    axes, below = figure.subplots(2, height_ratios=[4, 1], sharex=True)
    for place, (label, bins, how) in zip((0.015, -0.015), _both(evidence, evidence["calibration"]), strict=False):
        axes.plot([b["mean"] for b in bins], [b["observed"] for b in bins], label=label, lw=1.5, ms=6, **how)
        below.bar([b["mean"] + place for b in bins], [b["rows"] for b in bins], width=0.025, color=how["color"])
    axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1, label="said = seen")
    axes.set(ylabel="share seen", title="Calibration: what was said, and what came of it")
    below.set(xlabel="mean predicted chance", ylabel="rows")
    _legend(axes, loc="upper left")
    return figure


def _confusion(evidence: Evidence) -> Figure | None:
    confusion = evidence["confusion"]
    if not confusion or not confusion["classes"]:
        return None
    names = confusion["classes"]
    tables = list(_both(evidence, confusion))[::-1]
    figure = _figure(1.4 + 0.32 * max(len(names), 4))
    for axes, (label, table, _) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        shares = [[n / max(1, sum(row)) for n in row] for row in table]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for y, row in enumerate(shares):
            for x, share in enumerate(row):
                axes.text(x, y, f"{share:.0%}", ha="center", va="center", size=8, color="white" if share > 0.5 else "k")
        axes.set(title=label, xlabel="class said", ylabel="true class")
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
    return figure


# ---------------------------------------------------------------- regression


def _actual(evidence: Evidence) -> Figure | None:
    if not evidence["residuals"]:
        return None
    figure = _figure(4.2)
    axes = figure.subplots()
    ends: list[float] = []
    for label, deciles, how in _both(evidence, evidence["residuals"]["deciles"]):
        said, seen = [d["predicted"] for d in deciles], [d["actual"] for d in deciles]
        axes.plot(said, seen, label=label, lw=1.5, ms=6, **how)
        ends += [*said, *seen]
    if ends:
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=GREY, ls=":", lw=1, label="said = seen")
    axes.set(xlabel="mean prediction", ylabel="mean label", title="Predicted and actual, by tenths of the predictions")
    _legend(axes, loc="upper left")
    return figure


def _residuals(evidence: Evidence) -> Figure | None:
    residuals = evidence["residuals"]
    if not residuals:
        return None
    figure = _figure(6.6)
    above, below = figure.subplots(2)
    edges = residuals["histogram"]["edges"]
    for label, counts, how in _both(evidence, residuals["histogram"]):
        above.stairs(counts, edges, label=label, color=how["color"], ls=how["ls"], lw=1.8)
    above.axvline(0, color=GREY, ls=":", lw=1)
    above.set(xlabel="prediction - label", ylabel="rows", title="Residuals (the end bins hold all beyond)")
    _legend(above, loc="upper left")
    for place, (_, deciles, how) in zip((0.16, -0.16), _both(evidence, residuals["deciles"]), strict=False):
        for tenth, decile in enumerate(deciles, 1):
            _box(below, tenth + place, decile["residuals"], how)
    below.axhline(0, color=GREY, ls=":", lw=1)
    below.set_xticks(range(1, 11))
    below.set(
        xlabel="tenth of the predictions, lowest first",
        ylabel="prediction - label",
        title="By size of the prediction: median, half and 90 % of the rows",
    )
    return figure


def _box(axes: Axes, at: float, quantiles: Sequence[float], how: dict[str, Any]) -> None:
    lowest, low, middle, high, highest = quantiles
    axes.plot([at, at], [lowest, highest], color=how["color"], lw=1.2)
    axes.plot([at, at], [low, high], color=how["color"], lw=7, alpha=0.45, solid_capstyle="butt")
    axes.plot([at], [middle], color=how["color"], marker=how["marker"], ms=5)


# ---------------------------------------------------------------- slices and shifts


def _slices(evidence: Evidence) -> Figure | None:
    shown = [one for one in evidence["slices"] if one["values"]][:MOST_SLICES]
    if not shown:
        return None
    heights = [len(one["values"]) + 2 for one in shown]
    figure = _figure(0.6 + 0.23 * sum(heights))
    for axes, one in zip(figure.subplots(len(shown), squeeze=False, height_ratios=heights)[:, 0], shown, strict=True):
        _slice(axes, evidence, one)
    axes.set_xlabel(f"{evidence['metric']['name']} ({evidence['metric']['better']} is better)")
    _legend(figure.axes[0], loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
    return figure


def _slice(axes: Axes, evidence: Evidence, one: dict[str, Any]) -> None:
    values = one["values"]
    places = range(len(values))
    for at, value in zip(places, values, strict=True):
        ends = [value[name] for name in ("candidate", "champion") if value[name] is not None]
        axes.plot(ends, [at] * len(ends), color=PALE, lw=2, zorder=0)
    columns = {name: [value[name] for value in values] for name in ("candidate", "champion")}
    section = {name: found for name, found in columns.items() if any(v is not None for v in found)}
    for label, found, how in _both(evidence, section):
        known = [(v, at) for at, v in enumerate(found) if v is not None]
        axes.plot([v for v, _ in known], [at for _, at in known], label=label, ms=6, **{**how, "ls": "none"})
    axes.set_yticks(places, [f"{value['value']}  ({value['rows']:,})" for value in values])
    axes.tick_params(axis="y", labelsize=9, length=0)
    axes.invert_yaxis()
    axes.grid(axis="x", color=PALE, lw=0.6)
    axes.set_title(f"By {one['column']}, with rows")


def _shifts(evidence: Evidence) -> Figure | None:
    features = evidence["shifts"]["features"]
    if not features:
        return None
    figure = _figure(1.2 + 0.28 * len(features))
    axes = figure.subplots()
    found = [feature["psi"] for feature in features]
    bars = axes.barh([feature["feature"] for feature in features], found, color="#009e73", height=0.65)
    axes.bar_label(bars, [f"{value:.2f}" for value in found], padding=3, fontsize=9)
    for limit, word, side in ((SMALL, "small ", "right"), (LARGE, " large", "left")):
        axes.axvline(limit, color=GREY, ls=":", lw=1)
        axes.text(limit, -0.75, word, ha=side, va="bottom", size=9, color=GREY)
    axes.set_xlim(0, max(1.12 * max(found), 0.3))
    axes.set_ylim(len(features) - 0.4, -0.7)
    axes.set_xlabel("PSI between the rows fitted on and the fresh ones")
    axes.set_title("Features that moved most", pad=18)
    axes.tick_params(axis="y", length=0)
    return figure
