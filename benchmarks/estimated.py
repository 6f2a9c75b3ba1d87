"""Quality that was estimated before labels came against what it then was, and against the last value that was known.

    python benchmarks/estimated.py               both models of the demo over 2013
    python benchmarks/estimated.py --write       … and the tables go into RESULTS.md
    python benchmarks/estimated.py --models flight-delay --without-nannyml

A version is fitted at the begin of each month as the pipeline does it: on 90 days that end 16 days before (the label
comes after a day, the holdout of 14 days, a gap of a day). It answers for that month. At the month's end, where labels
are still to come, one may believe the estimate, or that quality is as it was realised the month before.
Needs, the first time, a network: NannyML is installed into benchmarks/.venvs in the versions of peers/nannyml.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from contenders import PEERS, VENVS, make_venv
from drifts import spec_of
from results import measured, table, write

from evergreen import wiring
from evergreen.adapters.xgboost_trainer.inputs import TAIL, has_label
from evergreen.core.measure import value
from evergreen.core.metrics import Metric
from evergreen.core.monitoring.estimated import estimated
from evergreen.core.monitoring.reference import REFERENCE, from_bytes
from evergreen.core.monitoring.tally import Layout, Rows, add_rows
from evergreen.core.rows import Rows as TrainingRows
from evergreen.demo.warehouse import months

if TYPE_CHECKING:
    from evergreen.core.ports import Trainer
    from evergreen.core.spec import ModelSpec

TITLE = "Quality estimated before labels come"
METRIC = {"flight-delay": "auc", "flight-airtime": "mae"}
LAG, WINDOW = timedelta(days=16), timedelta(days=90)
MONTHS = range(2, 13)
OURS, NANNYML = "Evergreen", "NannyML"


@dataclass(frozen=True)
class Told:
    """What was said of a period ahead, and where it would be with a chance of 95 %."""

    value: float
    low: float
    high: float


@dataclass
class Period:
    """A period of the version fitted at the begin of `month`: rows of another month too, if it goes on answering."""

    month: int
    name: str  # 2013-03, or a week of it
    realised: float
    told: dict[str, Told]


def main() -> None:
    """Measure and tell."""
    options = _options()
    parts = [_about()]
    for name in options.models:
        with tempfile.TemporaryDirectory(prefix="evergreen-estimated-") as folder:
            periods = list(_periods(spec_of(name), METRIC[name], Path(folder)))
            if not options.without_nannyml:
                make_venv("nannyml")
                _add_peer(Path(folder), periods)
        parts.append(_section(name, METRIC[name], periods))
        print(parts[-1], flush=True)
    if options.write:
        write(TITLE, "\n\n".join(parts))


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(METRIC), default=list(METRIC))
    parser.add_argument("--without-nannyml", action="store_true")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    return parser.parse_args()


# ---------------------------------------------------------------- versions and periods


def _periods(spec: ModelSpec, metric: str, folder: Path) -> Iterator[Period]:
    """Of each version all months from its own on, and the weeks of its own."""
    flights, trainer, time = months(1, 12), wiring.trainer(pictures=False), pl.col(spec.source.event_time)
    facts = {"features": spec.features.columns, "categories": spec.features.categorical, "label": spec.label.column}
    (folder / "columns.json").write_text(json.dumps({**facts, "metric": metric}))
    for month in MONTHS:
        begin = datetime(2013, month, 1, tzinfo=UTC)
        fitted = flights.filter(time.is_between(begin - LAG - WINDOW, begin - LAG)).filter(has_label(spec))
        files = trainer.fit(spec, TrainingRows.of(fitted)).files
        rows = flights.filter(time >= begin)
        rows = pl.concat([_by_month(rows, time), _by_week(rows.filter(time.dt.month() == month), time)])
        rows = rows.with_columns(pl.Series("prediction", trainer.predict(files, rows)))
        tail = fitted.tail(max(1, round(fitted.height * TAIL)))
        tail = tail.with_columns(pl.Series("prediction", trainer.predict(files, tail)))
        tail.write_parquet(folder / f"{month:02}.tail.parquet")
        rows.write_parquet(folder / f"{month:02}.rows.parquet")
        layout = Layout(from_bytes(files[REFERENCE]))
        for (name,), of_period in rows.group_by("period", maintain_order=True):
            told = _told(spec, trainer, files, layout, of_period, metric)
            yield Period(month, str(name), _realised(spec, of_period, metric), {OURS: told})


def _by_month(rows: pl.DataFrame, time: pl.Expr) -> pl.DataFrame:
    return rows.with_columns(time.dt.strftime("%Y-%m").alias("period"))


def _by_week(rows: pl.DataFrame, time: pl.Expr) -> pl.DataFrame:
    """Days 1 to 7, 8 to 14 …; the last ones of a month, up to three, go with the week before."""
    week = ((time.dt.day() - 1) // 7 + 1).clip(upper_bound=4).cast(pl.String)
    return rows.with_columns((time.dt.strftime("%Y-%m") + pl.lit("/") + week).alias("period"))


def _told(spec: ModelSpec, trainer: Trainer, files: Any, layout: Layout, rows: pl.DataFrame, metric: str) -> Told:
    """Of all that was answered: whether a flight will be cancelled nobody knows."""
    said = rows["prediction"].to_numpy()
    losses = trainer.expected_losses(files, rows, said) if metric == "mae" else None
    vectors = np.zeros((1, layout.size))
    add_rows(layout, Rows({}, said, np.zeros(len(said), dtype=np.int64), losses), vectors)
    found = estimated(layout, vectors[0])[metric]
    return Told(found.value, *found.interval)


def _realised(spec: ModelSpec, rows: pl.DataFrame, metric: str) -> float:
    known = rows.filter(has_label(spec))
    label = known[spec.label.column].to_numpy().astype(np.float64)
    return float(value(Metric(metric), label, known["prediction"].to_numpy()))


def _add_peer(folder: Path, periods: Sequence[Period]) -> None:
    command = [str(VENVS / "nannyml" / "bin" / "python"), str(PEERS / "nannyml_estimated.py"), str(folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"NannyML: {done.stderr[-3000:]}")
    by_key = {(one.month, one.name): one for one in periods}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            of = by_key[int(found["model"]), found["period"]]
            of.told[NANNYML] = Told(found["value"], found["low"], found["high"])


# ---------------------------------------------------------------- what is told


def _section(name: str, metric: str, periods: Sequence[Period]) -> str:
    in_force = [one for one in periods if one.name == f"2013-{one.month:02}"]
    frozen = [one for one in periods if one.month == MONTHS[0] and "/" not in one.name]
    weeks = [one for one in periods if "/" in one.name]
    who = list(in_force[0].told)
    ways = (
        ("a version each month, by month", in_force),
        ("the same, by week", weeks),
        ("the first version all the year, by month", frozen),
    )
    summary = table(
        [
            "periods",
            *(f"{one}: nearer than the last value; mean miss; interval holds it" for one in who),
            "last value's mean miss",
        ],
        (
            [f"{what} ({len(of) - 1})", *(_judged(of, one) for one in who), f"{_miss_of_last(of):.4g}"]
            for what, of in ways
        ),
    )
    return f"### {name}, {metric}\n\n{summary}\n\n{_by_period(in_force, who)}\n\n{_failures(in_force, weeks, frozen)}"


def _pairs(periods: Sequence[Period]) -> Iterator[tuple[Period, float]]:
    """Each but the first one, and what was realised before."""
    yield from ((now, before.realised) for before, now in pairwise(periods))


def _judged(periods: Sequence[Period], who: str) -> str:
    pairs = list(_pairs(periods))
    nearer = sum(_miss(one, who) < abs(last - one.realised) for one, last in pairs)
    mean = sum(_miss(one, who) for one, _ in pairs) / len(pairs)
    held = sum(_held(one, who) for one in periods)
    return f"{nearer} of {len(pairs)}; {mean:.4g}; {held} of {len(periods)} ({held / len(periods):.0%})"


def _miss(one: Period, who: str) -> float:
    return abs(one.told[who].value - one.realised)


def _held(one: Period, who: str) -> bool:
    return one.told[who].low <= one.realised <= one.told[who].high


def _miss_of_last(periods: Sequence[Period]) -> float:
    return float(np.mean([abs(last - one.realised) for one, last in _pairs(periods)]))


def _by_period(periods: Sequence[Period], who: Sequence[str]) -> str:
    last = {one.name: before for one, before in _pairs(periods)}
    lines = []
    for one in periods:
        before = last.get(one.name)
        cells = [f"{_form(one.told[by].value)} ({_form(one.told[by].low)} to {_form(one.told[by].high)})" for by in who]
        lines.append([one.name, _form(one.realised), _form(before) if before is not None else "", *cells])
    return table(["month", "realised", "last value", *(f"{by}'s estimate (interval)" for by in who)], lines)


def _form(number: float) -> str:
    return f"{number:.3f}" if abs(number) < 2 else f"{number:.2f}"


def _failures(in_force: Sequence[Period], weeks: Sequence[Period], frozen: Sequence[Period]) -> str:
    """Where the estimate was farther off than the last value, and where its interval does not hold what came."""
    farther = [one.name for one, last in _pairs(in_force) if _miss(one, OURS) >= abs(last - one.realised)]

    def outside(periods: Sequence[Period]) -> str:
        return ", ".join(one.name for one in periods if not _held(one, OURS)) or "none"

    return (
        f"Failures of Evergreen's: farther off than the last value in {', '.join(farther) or 'no month'}; outside of "
        f"the interval: months {outside(in_force)}; weeks {outside(weeks)}; of the first version: {outside(frozen)}."
    )


def _about() -> str:
    return (
        f"{measured()}. Flights of 2013; each version fitted at the begin of a month on 90 days that ended 16 days "
        "before, on the tail of which calibration, loss model and NannyML's estimators rest. Estimates know no label "
        "of the period. `last value`: what was realised in the period before, by the version that answered then."
    )


if __name__ == "__main__":
    main()
