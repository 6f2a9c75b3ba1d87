"""A running trial in one row: its stage, what was counted of both versions, and what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evergreen.core.guarding import Counted
from evergreen.core.records import CHALLENGER, CHAMPION, LATENCY_BOUNDS, ON_TRIAL, Release, ReleaseEvent
from evergreen.core.trial import Arms, by_stage, error_rate, in_words, p99_ms, stage_of, stages, waits_for
from evergreen.core.triggers import readable_time

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger


@dataclass(frozen=True)
class StageRow:
    """One stage of the plan. `since` is none for one that is to come; arms as counted in it."""

    name: str
    weight: int
    lasts_seconds: int
    since: datetime | None
    requests: int
    error_rate: float | None
    p99_ms: float | None
    champion_requests: int
    champion_error_rate: float | None
    champion_p99_ms: float | None


@dataclass(frozen=True)
class TrialStatus:
    """What is on trial. `tripped` is why a guard took it off, until the reconciler has put that down."""

    version: int
    champion: int | None
    stage: str
    weight: int
    since: datetime
    requests: int
    min_requests: int
    does: str
    shown: str
    waits_for: str
    tripped: str
    stages: tuple[StageRow, ...]

    def __str__(self) -> str:
        """'version 5 is on trial in canary-25 since …: it answers 25 % of callers; 0.40% failed, p99 12 ms; …'."""
        head = f"version {self.version} is on trial in {self.stage} since {readable_time(self.since)}: {self.does}"
        return f"{head}; {self.shown}; {self.tripped or self.waits_for}"

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: times as ISO texts."""
        row = {**asdict(self), "since": self.since.isoformat()}
        return {**row, "stages": [{**one, "since": _iso(one["since"])} for one in row["stages"]]}


def trial_of(
    ledger: Ledger, model: str, now: datetime, on_trial: Mapping[str, Release] | None = None
) -> TrialStatus | None:
    """The model's, none where nothing of it is on trial. `on_trial`: all such releases by model, read before."""
    found = trials(ledger) if on_trial is None else on_trial
    release = found.get(model)
    if release is None or release.plan is None or release.stage_since is None:
        return None
    counted, stage = by_stage(ledger.trials.counts(release.id)), stage_of(release)
    arms, trip = counted.get(stage.name, {}), ledger.trials.trips([release.id]).get(release.id)
    challenger, champion = arms.get(CHALLENGER, Counted()), ledger.releases.champion(model)
    return TrialStatus(
        version=release.version,
        champion=ledger.releases.get(champion.release_id).version if champion.release_id else None,
        stage=stage.name,
        weight=stage.weight,
        since=release.stage_since,
        requests=challenger.requests,
        min_requests=release.plan.min_requests,
        does=stage.does,
        shown=f"{in_words(challenger)} (champion: {in_words(arms.get(CHAMPION, Counted()))})",
        waits_for=waits_for(release, challenger, now),
        tripped=f"its guard took it off: {trip.reason}" if trip else "",
        stages=_rows(release, counted, ledger.releases.events(model)),
    )


def trials(ledger: Ledger) -> dict[str, Release]:
    """All releases on trial, by model."""
    return {release.model: release for release in ledger.releases.on_trial()}


def _rows(release: Release, counted: Mapping[str, Arms], events: list[ReleaseEvent]) -> tuple[StageRow, ...]:
    """The plan's stages in order; each event of the trial is the beginning of the next one."""
    assert release.plan, "what is on trial has a plan"
    began = iter([event.at for event in events if event.release_id == release.id and event.state in ON_TRIAL])
    rows = []
    for stage in stages(release.plan):
        arms = counted.get(stage.name, {})
        challenger, champion = arms.get(CHALLENGER, Counted()), arms.get(CHAMPION, Counted())
        row = StageRow(
            name=stage.name,
            weight=stage.weight,
            lasts_seconds=round(stage.lasts.total_seconds()),
            since=next(began, None),
            requests=challenger.requests,
            error_rate=error_rate(challenger),
            p99_ms=_finite(p99_ms(challenger)),
            champion_requests=champion.requests,
            champion_error_rate=error_rate(champion),
            champion_p99_ms=_finite(p99_ms(champion)),
        )
        rows.append(row)
    return tuple(rows)


def _finite(p99: float | None) -> float | None:
    """JSON has no infinity: above all bounds is told as the highest, which is then no upper one."""
    return None if p99 is None else min(p99, LATENCY_BOUNDS[-1])


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
