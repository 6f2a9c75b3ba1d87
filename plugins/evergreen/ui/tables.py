"""The numbers of the evidence as sections: a picture, a sentence on how to read it, and the same as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from evergreen.ui.words import NONE, interval, number, percent, text, when

MODELS = ("candidate", "champion")


@dataclass(frozen=True)
class Table:
    """Text cells. The first `words` columns are text, the others numbers, which stand to the right."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


@dataclass(frozen=True)
class Section:
    """One chapter of the page. Without a chart its tables stand open."""

    id: str
    title: str
    about: str
    tables: Sequence[Table] = field(default_factory=tuple)
    chart: str = ""


def sections(evidence: dict[str, Any]) -> list[Section]:
    """All that this evidence has, the picture of the approval first."""
    makers = (_by_period, _roc, _precision_recall, _calibration, _confusion, _actual, _shifts, _residuals, _slices)
    return [*(s for make in makers for s in make(evidence)), *_disagreements(evidence)]


def changed(evidence: dict[str, Any]) -> list[Table]:
    """What the candidate was made from, beside the champion; and what it was made by."""
    found, champion = evidence["changed"], evidence["changed"]["champion"]
    candidate = found["candidate"]
    beside = [when(champion["data_end"]), champion["bundle"][:12]] if champion else [NONE, NONE]
    rows = [
        ["newest row fitted on", when(candidate["data_end"]), beside[0]],
        ["fitted on", _fitted(found), NONE],
        ["judged on", _span(found["fresh"]), "the same rows" if champion and champion["compared"] else NONE],
        ["bundle", candidate["bundle"][:12], beside[1]],
    ]
    head = ["", f"version {evidence['version']}, the candidate"]
    head.append(f"version {champion['version']}, the champion" if champion else "no champion")
    made_by = [
        *([name, str(value)] for name, value in found["spec"].items()),
        ["rounds kept", number(found["rounds"])],
        ["snapshot", candidate["snapshot"][:12]],
        ["train key", candidate["train_key"][:12]],
    ]
    return [Table("", head, rows, words=3), Table("", ["of the candidate", ""], made_by, words=2)]


def _fitted(found: dict[str, Any]) -> str:
    rows, candidate = _span(found["fitted"]), found["candidate"]
    if candidate.get("refit_of") is None:
        return rows
    judged = f"{rows}, judged so as version {candidate['refit_of']}"
    return f"{judged}; then again on all rows to {when(candidate['data_end'])}"


def _span(span: dict[str, Any]) -> str:
    return f"{span['rows']:,} rows, {when(span['from'])} to {when(span['until'])}" if span["rows"] else "no rows"


def _present(section: dict[str, Any]) -> list[str]:
    """The models that a section has, the candidate first."""
    return [name for name in MODELS if section.get(name) is not None]


# ---------------------------------------------------------------- by period


def _by_period(evidence: dict[str, Any]) -> Iterator[Section]:
    metric = evidence["metric"]
    rows = [
        [f"{p['from']} to {p['until']}" if p["from"] != p["until"] else p["from"], number(p["rows"])]
        + [cell for name in MODELS for cell in _estimate(p[name])]
        for p in evidence["by_period"]
    ]
    head = ["days (UTC)", "rows", "candidate", "95 % interval", "champion", "95 % interval"]
    about = (
        f"{metric['name']} on the fresh rows, {metric['better']} is better. Where the intervals overlap widely, "
        "these rows alone do not tell the two apart."
    )
    yield Section("by-period", f"{metric['name']} by period", about, [Table("", head, rows)], "by_period.svg")


def _estimate(value: dict[str, Any] | None) -> list[str]:
    return [number(value["value"]), interval(value["low"], value["high"])] if value else [NONE, NONE]


# ---------------------------------------------------------------- classification


def _roc(evidence: dict[str, Any]) -> Iterator[Section]:
    if evidence["curves"]:
        head = ["false positive rate", "true positive rate"]
        about = "Further up and to the left is better: more of class 1 found, for fewer false alarms."
        yield Section("roc", "ROC curve", about, _points(evidence["curves"]["roc"], head), "roc.svg")


def _precision_recall(evidence: dict[str, Any]) -> Iterator[Section]:
    if evidence["curves"]:
        head = ["recall", "precision"]
        about = "Of what is called class 1, how much is (precision); of class 1, how much is found (recall)."
        tables = _points(evidence["curves"]["precision_recall"], head)
        yield Section("precision-recall", "Precision and recall", about, tables, "pr.svg")


def _points(section: dict[str, Any], head: list[str]) -> list[Table]:
    return [
        Table(name, head, [[number(float(x)), number(float(y))] for x, y in section[name]], words=0)
        for name in _present(section)
    ]


def _calibration(evidence: dict[str, Any]) -> Iterator[Section]:
    section = evidence["calibration"]
    if section:
        head = ["mean predicted chance", "share seen", "rows"]
        tables = [
            Table(name, head, [[number(b["mean"]), number(b["observed"]), number(b["rows"])] for b in section[name]], 0)
            for name in _present(section)
        ]
        about = (
            "On the line, a predicted chance of 30 % comes true in 30 % of the rows; below it, chances are too high."
        )
        yield Section("calibration", "Calibration", about, tables, "calibration.svg")


def _confusion(evidence: dict[str, Any]) -> Iterator[Section]:
    section = evidence["confusion"]
    if section:
        classes = section["classes"]
        tables = [
            Table(
                f"{name}: rows by true class (down) and class said (across)",
                ["", *classes],
                [[of, *map(number, row)] for of, row in zip(classes, section[name], strict=True)],
            )
            for name in _present(section)
        ]
        about = "Each row is a true class: how its rows were classified. The diagonal is right."
        yield Section("confusion", "Confusion matrix", about, tables, "confusion.svg")


# ---------------------------------------------------------------- regression


def _actual(evidence: dict[str, Any]) -> Iterator[Section]:
    if evidence["residuals"]:
        deciles = evidence["residuals"]["deciles"]
        head = ["tenth", "rows", "mean prediction", "mean label"]
        tables = [
            Table(
                name,
                head,
                [
                    [str(at), number(d["rows"]), number(d["predicted"]), number(d["actual"])]
                    for at, d in enumerate(deciles[name], 1)
                ],
            )
            for name in _present(deciles)
        ]
        about = "Each point is a tenth of the rows, by prediction. Above the line the labels are higher than predicted."
        yield Section("actual", "Predicted and actual", about, tables, "calibration.svg")


def _residuals(evidence: dict[str, Any]) -> Iterator[Section]:
    found = evidence["residuals"]
    if found:
        edges, counts, deciles = found["histogram"]["edges"], found["histogram"], found["deciles"]
        present = _present(counts)
        bins = [
            [interval(low, high), *(number(counts[name][at]) for name in present)]
            for at, (low, high) in enumerate(pairwise(edges))
        ]
        head = ["tenth", *(f"{percent(q)} below" for q in found["quantiles"])]
        quantiles = [
            Table(
                f"{name}: quantiles of the residuals by tenth of the predictions",
                head,
                [[str(at), *(number(float(v)) for v in d["residuals"])] for at, d in enumerate(deciles[name], 1)],
            )
            for name in _present(deciles)
        ]
        about = "A residual is prediction minus label: right of zero the model says too much, left too little."
        tables = [Table("Rows by residual", ["residual", *present], bins), *quantiles]
        yield Section("residuals", "Residuals", about, tables, "residuals.svg")


# ---------------------------------------------------------------- features


def _slices(evidence: dict[str, Any]) -> Iterator[Section]:
    if evidence["slices"]:
        tables = [
            Table(
                f"By {one['column']}",
                ["value", "rows", *MODELS],
                [[v["value"], number(v["rows"]), number(v["candidate"]), number(v["champion"])] for v in one["values"]],
            )
            for one in evidence["slices"]
        ]
        metric = evidence["metric"]
        about = f"{metric['name']} by value, {metric['better']} is better. Few rows make a value jump: see how many."
        yield Section("slices", "Slices", about, tables, "slices.svg")


def _shifts(evidence: dict[str, Any]) -> Iterator[Section]:
    found = evidence["shifts"]
    if found["features"]:
        rows = [
            [
                one["feature"],
                *(_told(one[side]) for side in ("fitted", "fresh")),
                *(percent(one[side]["missing"]) for side in ("fitted", "fresh")),
                f"{one['psi']:.3f}",
            ]
            for one in found["features"]
        ]
        head = ["feature", "fitted", "fresh", "missing, fitted", "missing, fresh", "PSI"]
        about = f"Between the rows fitted on and the fresh ones. {found['method']}."
        table = Table("Mean of a number, most frequent values of a category", head, rows, words=3)
        yield Section("shifts", "Features that moved most", about, [table], "shifts.svg")


def _told(side: dict[str, Any]) -> str:
    if "top" in side:
        return ", ".join(f"{name} {percent(share)}" for name, share in side["top"]) or NONE
    return f"mean {number(side['mean'])}"


def _disagreements(evidence: dict[str, Any]) -> Iterator[Section]:
    found = evidence["disagreements"]
    if found and found["rows"]:
        rows = [
            [str(row["key"]), when(row["at"]), text(row["label"]), _answer(row["candidate"]), _answer(row["champion"])]
            + [text(value) for value in row["values"]]
            for row in found["rows"]
        ]
        head = ["key", "event time", "label", *MODELS, *found["features"]]
        about = f"The {len(rows)} rows on which the two predictions are furthest apart."
        table = Table("", head, rows, words=2)
        yield Section("disagreements", "Where the two disagree most", about, [table])


def _answer(answer: Any) -> str:
    if isinstance(answer, dict):
        return f"class {answer['class']} ({percent(answer['chance'])})"
    return number(None if answer is None else float(answer))
