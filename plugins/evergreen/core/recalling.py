"""Recall: an earlier version answers again where it is the best of those kept on the newest rows.

"Follow the leader": whoever did best on what has been seen goes next (Kalai and Vempala, Efficient algorithms for
online decision problems, Journal of Computer and System Sciences 71, 2005); here on the rows of the holdout, so that
what the year brings back may be answered by a model that knows it. The gates judge the one taken as any candidate.

A version that answers again is a version of its own, with the bundle of the one that was fitted: the verdict, releases
and state of that one stay as they are, whatever the gates, people and callers think of the new one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from evergreen.core.gate_texts import compares, number
from evergreen.core.judgement import REHEARSAL
from evergreen.core.metrics import MEASURED, Metric
from evergreen.core.records import Candidate, CandidateState, GateState, Verdict

if TYPE_CHECKING:
    from evergreen.core.ports import Models
    from evergreen.core.spec import ModelSpec

RECALLS, BECAUSE = "recalls", "recalled_because"  # in a candidate's made_with: the version that was fitted, and why
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCKED = frozenset({CandidateState.DECLINED, CandidateState.ROLLED_BACK})


def period_of(every: timedelta, now: datetime) -> int:
    """The number of the period that holds `now`; periods are counted from the Unix epoch."""
    return (now - _EPOCH) // every


def begins(every: timedelta, period: int) -> datetime:
    """When that period begins."""
    return _EPOCH + period * every


def train_key(request_id: str) -> str:
    """In place of a train key: nothing is trained, and a request recalls one version."""
    return f"recall-{request_id}"


def leading_metric(spec: ModelSpec) -> Metric | None:
    """The metric by which the gates compare with the champion, over all rows; none where none does."""
    found = (gate for gate in spec.gates if gate.against and not gate.slice and gate.metric not in MEASURED)
    return next((gate.of for gate in found), None)


# ---------------------------------------------------------------- which version it is


def recalled(candidate: Candidate) -> int | None:
    """The version that was fitted, of one that answers again; none of one that was fitted itself."""
    version = candidate.made_with.get(RECALLS)
    return int(version) if version else None


def why_recalled(candidate: Candidate) -> str:
    """'version 3 again: …'; empty for one that was fitted itself."""
    return f"version {recalled(candidate)} again: {candidate.made_with[BECAUSE]}" if recalled(candidate) else ""


def fitted(models: Models, candidate: Candidate) -> Candidate:
    """The version that was fitted: the candidate itself, or the one that it has answer again."""
    version = recalled(candidate)
    return candidate if version is None else models.candidate(candidate.model, version)


# ---------------------------------------------------------------- which are kept, and which is best


def kept(candidates: Iterable[Candidate], most: int, champion: Candidate | None = None) -> list[Candidate]:
    """The versions that may answer again, as they were fitted; those that came or were released last come first.

    The newest `most` of those that were released once and of those that were refused only because the champion was
    better. Never one that was rolled back or declined, under whatever version. The champion's is among them, whatever
    its state and age.
    """
    reigning = _fitted_as(champion) if champion else None
    by_fit = groupby(sorted(candidates, key=lambda one: (_fitted_as(one), one.version)), key=_fitted_as)
    alike = [list(found) for _, found in by_fit]
    wanted = [group for group in alike if _may_answer_again(group) or _fitted_as(group[0]) == reigning]
    newest = sorted(wanted, key=lambda group: -group[-1].version)
    return [group[0] for at, group in enumerate(newest) if at < most or _fitted_as(group[0]) == reigning]


def _fitted_as(candidate: Candidate) -> int:
    return recalled(candidate) or candidate.version


def _may_answer_again(alike: Sequence[Candidate]) -> bool:
    """Of a version that was fitted, and all as which it has answered again."""
    states = {one.state for one in alike}
    compared = any(one.state is CandidateState.REJECTED and refused_by_comparison(one.verdict) for one in alike)
    return not states & _BLOCKED and (CandidateState.RELEASED in states or compared)


def refused_by_comparison(verdict: Verdict | None) -> bool:
    """Whether every gate that failed compares the answers with the champion's: they are good enough by themselves."""
    failed = [gate for gate in verdict.gates if gate.state is GateState.FAILED] if verdict else []
    return bool(failed) and all(compares(one) and one.metric not in (*MEASURED, REHEARSAL) for one in failed)


def best(metric: Metric, values: Mapping[int, float], champion: int) -> int:
    """The version with the best value; the champion where none is better, and the newest of equals.

    A value that is no number is worse than any.
    """

    def gain(version: int) -> float:
        found = metric.improvement(values[version], values[champion])
        return -math.inf if math.isnan(found) else found

    leader = max(sorted(values, reverse=True), key=gain)
    return leader if gain(leader) > 0 else champion


# ---------------------------------------------------------------- told


def stays(champion: int, metric: Metric, versions: Collection[int]) -> str:
    """Of a recall that changes nothing."""
    if len(versions) < 2:
        return f"nothing to recall: version {champion} is the only one kept that can be compared"
    return f"version {champion} is still the best of {len(versions)} kept versions by {metric.label}"


def goes(leader: int, champion: int, metric: Metric, values: Mapping[int, float], *, rows: int) -> str:
    """Why a version is taken: 'best of 6 kept versions by mae (7.4, the champion, version 9, 15.5) on 12,000 rows'."""
    return (
        f"best of {len(values)} kept versions by {metric.label} ({number(values[leader])}; "
        f"the champion, version {champion}, {number(values[champion])}) on {rows:,} fresh rows"
    )
