"""One pass of the monitor over all models whose turn it is.

Two passes at once do twice the work and once the effect: a day is replaced as a whole, and alerts, requests, points and
notices find what is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from evergreen.core.errors import EvergreenError, SourceError
from evergreen.core.reconciling import Trouble
from evergreen.core.watching import LENGTH, MONITOR, detail_of, failing, turn_of, watched_at
from evergreen.steps.judge_rules import Standing
from evergreen.steps.layouts import Layouts
from evergreen.steps.read_labels import Reading, read_labels
from evergreen.steps.served_counts import read_served
from evergreen.steps.watch_model import Watched, Watching, watch_model

if TYPE_CHECKING:
    from evergreen.core.addresses import Addresses
    from evergreen.core.ports import Ledger, LoggedParts, PartWriter, ServingCounters, Source, Store
    from evergreen.core.records import Heartbeat, Release
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_monitoring import LabelSource
    from evergreen.steps.layouts import Expected

Clock: TypeAlias = Callable[[], datetime]
BEATS = timedelta(seconds=15)  # in a long pass the heartbeat comes so often
TOGETHER = 50  # models whose points and states are written in one transaction
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labels:
    """How labels come from a spec's own source (monitoring.labels): what opens it, what writes parts of the log."""

    source: Callable[[LabelSource], Source]
    writer: PartWriter


@dataclass(frozen=True)
class Outside:
    """What a pass works with, beside the ledger.

    `counters` are none where serving is not asked. `expected` is Trainer.expected_losses; without it no quality of a
    regression is estimated. Without `labels` none are read from sources of labels. `watermark`: the newest event time
    of a model's data, where the caller knows it better than its requests do.
    """

    specs: Mapping[str, ModelSpec]
    store: Store
    log: LoggedParts
    addresses: Addresses
    counters: ServingCounters | None = None
    expected: Expected | None = None
    labels: Labels | None = None
    watermark: Callable[[ModelSpec], datetime | None] | None = None


@dataclass
class Turns:
    """What lasts from one pass to the next; whoever makes passes keeps it. Lost, it is read from the heartbeat.

    `watched` is when each model had its turn, `failures` are those whose last one failed, `said` is what the heartbeat
    said of the last pass that watched any.
    """

    watched: dict[str, datetime] = field(default_factory=dict)
    failures: dict[str, Trouble] = field(default_factory=dict)
    said: str = ""
    layouts: Layouts | None = None


@dataclass
class Report:
    """What a pass did, in sentences, how many models, rows and labels it took, and what failed, by model."""

    models: int = 0
    rows: int = 0
    labels: int = 0
    done: list[str] = field(default_factory=list)
    failures: dict[str, Trouble] = field(default_factory=dict)


def monitor(ledger: Ledger, outside: Outside, turns: Turns, clock: Clock) -> Report:
    """Make one pass, and beat. Raises only where the ledger is away."""
    began = clock()
    report = Report()
    if due := _due(ledger, outside.specs, turns, began):
        _watch(ledger, outside, turns, due, report, clock)
        for gone in turns.watched.keys() - outside.specs.keys():
            del turns.watched[gone]
            turns.failures.pop(gone, None)
        turns.said = _said(report, turns, began, clock())
    report.failures = dict(turns.failures)
    ledger.heartbeats.beat(MONITOR, turns.said, clock())
    return report


def _watch(ledger: Ledger, outside: Outside, turns: Turns, due: list[ModelSpec], report: Report, clock: Clock) -> None:
    began = beat = clock()
    watching, standing = _watching(ledger, outside, turns), Standing.read(ledger)
    pools = {spec.serving.pool for spec in due}
    served = read_served(ledger, outside.counters, pools, began) if outside.counters else {}
    live = {release.model: release for pool in pools for release in ledger.releases.live(pool)}
    unwritten: list[Watched] = []
    for spec in due:
        now = clock()
        try:
            trouble = _read_labels(ledger, outside, spec, report, now)
            of_model, counters = live.get(spec.name) or _champion(ledger, spec.name), served.get(spec.name, [])
            unwritten.append(
                watch_model(watching, spec, of_model, standing, turns.watched.get(spec.name), counters, now)
            )
            if trouble:
                raise trouble
        except Exception as error:  # one model's trouble is not another's
            log.warning("%s could not be watched", spec.name, exc_info=not isinstance(error, EvergreenError))
            since = turns.failures[spec.name].since if spec.name in turns.failures else now
            turns.failures[spec.name] = Trouble(spec.name, since, f"{type(error).__name__}: {error}"[:LENGTH])
        else:
            turns.failures.pop(spec.name, None)
        turns.watched[spec.name] = now
        if len(unwritten) >= TOGETHER or now - beat >= BEATS:
            unwritten, beat = _write(ledger, unwritten, report), now
            ledger.heartbeats.beat(MONITOR, _said(report, turns, began, now), now)
    _write(ledger, unwritten, report)


def _read_labels(ledger: Ledger, outside: Outside, spec: ModelSpec, report: Report, now: datetime) -> Exception | None:
    """Bring the labels of the spec's own source into the log; what went wrong: the model is watched all the same."""
    described, labels = spec.monitoring.labels, outside.labels
    if described is None or labels is None:
        return None
    reading = Reading(ledger, outside.store, outside.log, labels.writer, outside.addresses.model(spec.name))
    try:
        report.done += read_labels(reading, spec, labels.source(described), now)
    except SourceError as error:
        where = f"monitoring.labels: {error.where}"
        return type(error)(where, found=error.found, allowed=error.allowed, do=error.do)
    except Exception as error:
        return error
    return None


def _champion(ledger: Ledger, model: str) -> Release | None:
    """The release of a champion that is in another pool than its spec says now; none where nothing was released."""
    release_id = ledger.releases.champion(model).release_id
    return ledger.releases.get(release_id) if release_id else None


def _write(ledger: Ledger, unwritten: list[Watched], report: Report) -> list[Watched]:
    """Write what passes over models have left to write; nothing is left then."""
    if states := [state for one in unwritten for state in one.states]:
        ledger.alerts.save(states)
    if points := [point for one in unwritten for point in one.points]:
        ledger.points.put(points)
    for one in unwritten:
        try:
            one.settle()
        except Exception:  # the store is away: the same points are computed again, and say nothing new
            log.warning("What was written of a model could not be noted", exc_info=True)
        report.models, report.rows = report.models + 1, report.rows + one.rows
        report.labels += one.labels
        report.done += one.told
    return []


def _due(ledger: Ledger, specs: Mapping[str, ModelSpec], turns: Turns, now: datetime) -> list[ModelSpec]:
    """The models whose turn it is, the one that has waited for longest first."""
    if not turns.watched:  # this process has watched none yet; another may have
        _go_on(turns, ledger.heartbeats.last(MONITOR))
    turn = {name: turn_of(spec, turns.watched.get(name)) for name, spec in specs.items()}
    return [specs[name] for name in sorted(turn, key=lambda name: (turn[name], name)) if turn[name] <= now]


def _go_on(turns: Turns, beat: Heartbeat | None) -> None:
    """Where another process has left off: in Airflow each pass is one."""
    turns.watched = watched_at(beat)
    turns.failures = {trouble.part: trouble for trouble in failing(beat)}
    turns.said = beat.detail if beat else ""


def _watching(ledger: Ledger, outside: Outside, turns: Turns) -> Watching:
    turns.layouts = turns.layouts or Layouts(ledger, outside.store, outside.expected)
    known = outside.watermark or (lambda spec: ledger.requests.newest_watermark(model=spec.name))
    return Watching(ledger, outside.store, outside.log, turns.layouts, outside.addresses, known)


def _said(report: Report, turns: Turns, began: datetime, now: datetime) -> str:
    return detail_of(
        models=report.models,
        rows=report.rows,
        labels=report.labels,
        seconds=(now - began).total_seconds(),
        failures=turns.failures,
        watched=turns.watched,
    )
