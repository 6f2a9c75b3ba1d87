"""The policy that the examples would need, on 2013: how much of the gap from a frozen model to hindsight it closes.

    python benchmarks/replay.py                      both flights, 23 periods of 14 days from 2013-02-01
    python benchmarks/replay.py --write              … and the tables go into RESULTS.md
    python benchmarks/replay.py --rows 26000 24000   … and again, retraining at other times: the first one is told whole

`evergreen replay` of both models as they are in models/, but for the triggers: a retrain by new data, about every 28
days, and a recall each week. Real steps, XGBoost and Great Expectations. The command fails where a share, a count of
retrains or a period is not as it must be. On a machine that has other work, OMP_NUM_THREADS=1 is quicker.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import results

from evergreen import wiring
from evergreen.core.catalog import load_catalog
from evergreen.core.replayed import Replayed
from evergreen.core.rows import Rows
from evergreen.core.spec import ModelSpec
from evergreen.demo.warehouse import Warehouse, months
from evergreen.replay import Order, real_tools, replay
from evergreen.replay.told import HEADER, cells, means, summary

if TYPE_CHECKING:
    from evergreen.core.ports import TrainedModel, Trainer

ROOT = Path(__file__).resolve().parent.parent
TITLE = "Replay of 2013: the right version at the right time"
START, END, EVERY = datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 12, 31, tzinfo=UTC), timedelta(days=14)
MODELS = ("flight-delay", "flight-airtime")
ROWS = 26_000  # new rows with a label: 28 days of February, 26 of July
RECALL = {"every": "7d", "versions": 20}
SHARE, RETRAINS = 0.8, 0.6  # at least so much of the gap, with at most so many of the retrains of every period
NOVEMBER = (datetime(2013, 10, 25, tzinfo=UTC), datetime(2013, 12, 20, tzinfo=UTC))  # when newer is worse for airtime


@dataclass
class Remembers:
    """A trainer that fits the same rows once."""

    trainer: Trainer
    known: dict[tuple[Any, ...], TrainedModel] = field(default_factory=dict)

    def fit(self, spec: ModelSpec, rows: Rows) -> TrainedModel:
        """See Trainer."""
        frame = rows.frame()
        times = frame[spec.source.event_time]
        key = (spec.name, frame.height, times.min(), times.max())
        if key not in self.known:
            self.known[key] = self.trainer.fit(spec, Rows.of(frame))
        return self.known[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trainer, name)


def main() -> int:
    """Replay, print, and say what was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[ROWS], help="new_data.min_rows")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--warehouse", default="", help="URL of one that holds 2013")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = asked.warehouse or f"sqlite:///{folder}/flights.db"
        if not asked.warehouse:
            Warehouse(url).load(months(1, 12))
        os.environ["EVERGREEN_CONN_WAREHOUSE"] = url
        found = {name: replayed(name, asked.rows) for name in asked.models}
    text = "\n\n".join([INTRODUCTION.format(measured=results.measured()), *(told(found[name]) for name in found)])
    print(text)
    if asked.write:
        results.write(TITLE, text)
    missed = [f"{name}: {one}" for name, runs in found.items() for one in misses(next(iter(runs.values())))]
    print("\n".join(["", *missed]), file=sys.stderr)
    return bool(missed)


INTRODUCTION = f"""\
{{measured}}. Both example models as they are in `models/`, with other triggers:
`new_data: {{{{min_rows: {ROWS}}}}}` (a retrain about every 28 days) and
`recall: {{{{every: {RECALL["every"]}, versions: {RECALL["versions"]}}}}}` ([docs/recall.md](../docs/recall.md)).
Periods of 14 days; real steps, gates, XGBoost and Great Expectations; labels come a day late, and the holdout is
14 days, so that a new version knows nothing of the last 16 days. Frozen: the version of 2013-02-01, which has seen
sixteen days of January. Aims: at least {SHARE:.0%} of the gap, at most {RETRAINS:.0%} of the retrains of every period,
no period worse than frozen by more than its interval, the worse versions of November (airtime) refused."""


def replayed(name: str, rows: list[int]) -> dict[int, Replayed]:
    """By new_data.min_rows."""
    own = load_catalog(ROOT).specs[name]
    trainer, source = Remembers(wiring.trainer(pictures=False)), wiring.source(own.source)
    found = {}
    for most in rows:
        tools = replace(real_tools(ROOT, own), trainer=trainer)
        found[most] = replay(Order(policy(own, most), START, END, EVERY), source, tools, progress)
    return found


def progress(done: int, periods: int) -> None:
    """On stderr."""
    print(f"\r{done} of {periods} periods", end="", file=sys.stderr, flush=True)


def policy(own: ModelSpec, rows: int) -> ModelSpec:
    """The spec with the triggers of this benchmark."""
    triggers = [{"new_data": {"min_rows": rows}}, {"recall": RECALL}]
    return ModelSpec.model_validate({**own.model_dump(mode="json", exclude_unset=True), "triggers": triggers})


def told(runs: Mapping[int, Replayed]) -> str:
    """The first one whole, then a line for each of the others."""
    first, *others = runs.items()
    _, main_one = first
    lines = [cells(period, main_one.metric) for period in main_one.periods]
    text = [f"### {main_one.model}, {main_one.metric.label}", results.table(HEADER, [*lines, means(main_one)])]
    text += ["\n".join(f"- {line}" for line in summary(main_one))]
    if others:
        header = ("new rows between retrains", "share of the gap", "retrains", "recalls", "refused", "below frozen")
        text.append(results.table(header, [spread(rows, one) for rows, one in runs.items()]))
    return "\n\n".join(text)


def spread(rows: int, one: Replayed) -> tuple[str, ...]:
    """One line."""
    retrains = f"{one.retrains} of {one.retrains_of_every_period}"
    counts = (str(one.recalls), str(one.refused), str(len(one.below_frozen)))
    return (f"{rows:,}", f"{one.share(one.evergreen):.0%}", retrains, *counts)


def misses(one: Replayed) -> list[str]:
    """What it was to show and does not."""
    share, retrains = one.share(one.evergreen), one.retrains / one.retrains_of_every_period
    missed = [f"only {share:.0%} of the gap closed"] if share < SHARE else []
    missed += [f"{retrains:.0%} of the retrains"] if retrains > RETRAINS else []
    missed += [f"worse than frozen until {period.end:%Y-%m-%d}" for period in one.below_frozen]
    if one.model == "flight-airtime":
        tried = [each for period in one.periods for each in period.attempts if each.trained]
        late = [each for each in tried if NOVEMBER[0] <= each.at <= NOVEMBER[1]]
        missed += [f"the version of {each.at:%Y-%m-%d} was not refused" for each in late if each.released]
        missed += [] if late else ["no version was made in November"]
    return missed


if __name__ == "__main__":
    sys.exit(main())
