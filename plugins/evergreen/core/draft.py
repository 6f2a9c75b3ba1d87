"""The files of a new model, drafted from what its source holds: model.yaml, README.md and the expectation suite."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evergreen.core.metrics import Task
from evergreen.core.profile import Column
from evergreen.core.spec import Source

MOST_MISSING = 0.95  # a column that is emptier than this is still a feature, but no range is drawn from it
COMMENT_AT = 34


@dataclass(frozen=True)
class Draft:
    """A model that is not yet written. `rows` and `days` are of the sample; `owner` is none where defaults have it.

    `holdout_rows` and `rows_a_week` are counted in the source, `unlearned` is what a model without features reaches.
    """

    name: str
    task: Task
    source: Source
    label: str
    columns: tuple[Column, ...]
    rows: int
    first: str
    last: str
    train_days: int
    holdout_days: int
    holdout_rows: int
    rows_a_week: int
    unlearned: float
    owner: str | None

    @property
    def features(self) -> list[Column]:
        """The columns that it would learn from."""
        roles = (self.source.key, self.source.event_time, self.label)
        return [column for column in self.columns if not column.left_out and column.name not in roles]

    @property
    def left_out(self) -> list[Column]:
        """The columns that it would not, each with a reason."""
        return [column for column in self.columns if column.left_out]

    def column(self, name: str) -> Column:
        """By name."""
        return next(column for column in self.columns if column.name == name)


# ---------------------------------------------------------------- model.yaml


def model_yaml(draft: Draft) -> str:
    """The spec, with a comment beside all that must be thought about. Passes `evergreen check` as it is."""
    source, label = draft.source, draft.column(draft.label)
    what = "files" if source.files else "table"
    missing = max(0.1, math.ceil(label.missing * 20) / 10)
    lines = [
        "# yaml-language-server: $schema=../../docs/model-spec.schema.json",
        "#",
        f"# Drafted by `evergreen new` from {draft.rows:,} rows between {draft.first} and {draft.last}.",
        "# Every line marked CHECK is a guess. docs/model-spec.md names every key; after a change: `evergreen check`.",
        f"name: {draft.name}",
        *([f"owner: {_text(draft.owner)}"] if draft.owner else []),
        _line(f"task: {draft.task.value}", "CHECK"),
        "",
        "source:",
        *([f"  connection: {source.connection}"] if source.connection else []),
        f"  {what}: {_text(getattr(source, what))}",
        _line(f"  event_time: {_text(source.event_time)}", "UTC"),
        _line(f"  key: {_text(source.key)}", "unique in the window, else pull stops"),
        "",
        "label:",
        f"  column: {_text(draft.label)}",
        _line("  arrives_after: 1d", "CHECK: how long after the event is the label complete?"),
        _line(f"  max_missing: {min(1.0, missing)}", f"{label.missing:.1%} of the sample has none; more stops a run"),
        "",
        _line("features:", "CHECK each: is it known when the model is asked? What is known only later leaks"),
        "  columns:",
        *(_line(f"    - {_text(column.name)}", _about(column)) for column in draft.features),
        *(f"    # - {column.name}: {column.left_out}" for column in draft.left_out),
        f"  categorical: [{', '.join(_text(column.name) for column in draft.features if column.categorical)}]",
        "",
        _line("window:", "counted back from the newest row whose label is complete"),
        _line(f"  train: {draft.train_days}d", "CHECK: how far back is the past still like the future?"),
        f"  holdout: {{length: {draft.holdout_days}d, min_rows: {_min_rows(draft)}}}",
        "",
        "triggers:",
        _line(f"  - new_data: {{min_rows: {max(1, int(_nice(draft.rows_a_week)))}}}", "about a week of rows"),
        _line('  # - schedule: "H 3 * * *"', "or each night at a minute past 03:00 UTC of its own"),
        "  # a feature moved away from training; docs/monitoring.md names the others, `evergreen replay` tries them",
        "  - metric: {name: drift.psi.max, above: 0.25, for: 3, cooldown: 7d}  # CHECK",
        "  # once labels come back: answers that are so much worse than on the rows that training held back",
        f"  # - metric: {{{_worse(draft)}, for: 3, cooldown: 7d}}",
        "",
        "validation:",
        _line(f"  suite: {draft.name}", f"expectations/{draft.name}.json"),
        "",
        _line("gates:", "CHECK: on the holdout; one that fails, and nothing is released"),
        *_gates(draft),
        "",
        _line("approval: {mode: manual}", "a person decides; `auto` once you trust the gates"),
    ]
    return "\n".join(lines) + "\n"


def _gates(draft: Draft) -> list[str]:
    match draft.task:
        case Task.BINARY:
            metric, limit, why, delta = "auc", "min: 0.55", "0.5 is a coin", "-0.01"
        case Task.MULTICLASS:
            share = math.floor(draft.unlearned * 100) / 100
            metric, limit, delta = "accuracy", f"min: {share:g}", "-0.01"
            why = "what always naming the commonest class reaches"
        case _:
            limit, why = f"max: {_nice(draft.unlearned, up=True):g}", "what always answering the median reaches"
            metric, delta = "mae", f"-{_nice(draft.unlearned / 50, up=True):g}"
    return [
        _line(f"  - {{metric: {metric}, {limit}}}", why),
        _line(f"  - {{metric: {metric}, against: champion, min_delta: {delta}}}", "surely not worse than the champion"),
    ]


def _worse(draft: Draft) -> str:
    """A limit to how much worse answers may become."""
    if draft.task is Task.REGRESSION:
        return f"name: quality.realised_loss.mae, above: {_nice(draft.unlearned / 10, up=True):g}"
    metric = "auc" if draft.task is Task.BINARY else "accuracy"
    return f"name: quality.realised_loss.{metric}, above: 0.03"


def _min_rows(draft: Draft) -> int:
    return max(1, min(1000, draft.holdout_rows // 2))


def _about(column: Column) -> str:
    missing = f", {column.missing:.1%} missing" if column.missing else ""
    if column.kind == "number" and column.low is not None:
        return f"{column.low:g} to {column.high:g}{missing}"
    return f"{column.distinct:,} different values{missing}"


def _line(text: str, comment: str) -> str:
    return f"{text:<{COMMENT_AT - 2}}  # {comment}"


def _text(value: str | None) -> str:
    """A text as YAML reads it back: quoted where it would be something else."""
    plain = value is not None and value.replace("_", "a").replace("-", "a").isalnum() and value[0].isalpha()
    special = str(value).lower() in ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    return str(value) if plain and not special and str(value).isascii() else json.dumps(value, ensure_ascii=False)


# ---------------------------------------------------------------- the suite


def suite(draft: Draft) -> dict[str, Any]:
    """What held for the whole sample, with slack: columns, no nulls where there were none, ranges, sets of values."""
    read = [draft.source.key, draft.source.event_time, *(column.name for column in draft.features), draft.label]
    columns = [draft.column(name) for name in dict.fromkeys(read)]
    entries = [_entry("expect_table_columns_to_match_set", column_set=[c.name for c in columns], exact_match=False)]
    for column in columns:
        if column.missing == 0 and column.name != draft.label:
            entries.append(_entry("expect_column_values_to_not_be_null", column=column.name))
        entries += _values(draft, column)
    return {"name": draft.name, "id": None, "expectations": entries, "meta": {}, "notes": None}


def suite_text(draft: Draft) -> str:
    """The same as its file holds it."""
    return json.dumps(suite(draft), indent=2, ensure_ascii=False) + "\n"


def _values(draft: Draft, column: Column) -> list[dict[str, Any]]:
    if column.name in (draft.source.key, draft.source.event_time):
        return []
    if column.name == draft.label and draft.task is not Task.REGRESSION and column.kind == "number":
        classes = list(range(int(column.high or 1) + 1))
        return [_entry("expect_column_values_to_be_in_set", column=column.name, value_set=classes)]
    if column.values:
        return [_entry("expect_column_values_to_be_in_set", column=column.name, value_set=list(column.values))]
    if column.kind == "number" and column.low is not None and column.high is not None and column.missing < MOST_MISSING:
        low, high = _with_slack(column.low, column.high)
        kwargs = {"column": column.name, "min_value": low, "max_value": high}
        return [_entry("expect_column_values_to_be_between", **kwargs)]
    return []


def _with_slack(low: float, high: float) -> tuple[float, float]:
    """Half the width more at both ends, rounded outwards; what was never negative stays so."""
    slack = (high - low) / 2 or abs(high) / 2 or 1.0
    bottom = 0.0 if low >= 0 else -_nice(slack - low, up=True)
    return bottom, _nice(high + slack, up=True) if high + slack > 0 else 0.0


def _nice(value: float, *, up: bool = False) -> float:
    """Two significant digits."""
    if value <= 0 or not math.isfinite(value):
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    rounded = (math.ceil if up else math.floor)(value / step - 1e-9) * step
    return float(f"{rounded:.6g}")


def _entry(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "meta": {}, "severity": "critical"}


# ---------------------------------------------------------------- README.md


def readme(draft: Draft) -> str:
    """The questions that whoever answers for a model must have answered."""
    return f"""\
# {draft.name}

**What it predicts.** FILL IN: `{draft.label}` in words, asked when and by whom. Data: {draft.source.words}, one row is
FILL IN; `event_time` is `{draft.source.event_time}`, UTC.

**What it is fitted on.** The {draft.train_days} days before the holdout; the newest {draft.holdout_days} days judge it.
FILL IN: when is a label complete (`label.arrives_after`), and why this window?

**What leaks, and was left out.** Nothing may be known only after the question is asked. FILL IN:

| column | why not |
|---|---|
{_reasons(draft.left_out)}

**A selection.** {draft.column(draft.label).missing:.1%} of the sample had no label. FILL IN: which rows are these, and
what does leaving them out do to the answer?

**What to expect.** FILL IN after the first runs: the gates' metrics over time, and what the gates would not notice.

**Expectations.** `expectations/{draft.name}.json` was drafted from {draft.rows:,} rows between {draft.first} and
{draft.last}: what held for all of them, with slack. FILL IN: what is known of the data that the sample did not show?
"""


def _reasons(columns: Sequence[Column]) -> str:
    return "\n".join(f"| `{column.name}` | {column.left_out} |" for column in columns) or "| | |"
