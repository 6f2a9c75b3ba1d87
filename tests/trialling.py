"""Versions on trial beside a champion, as the reconciler would put them there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import ledgers
from bundles import make_bundle, put
from evergreen.core.ports import Ledger, Store
from evergreen.core.records import CandidateState, Release, RolloutPlan, RolloutState
from records import make_candidate, make_verdict

MODEL = "flight-delay"
MINUTE = timedelta(minutes=1)
PLAN = RolloutPlan(MINUTE, (50,), MINUTE, MINUTE, min_requests=100)


def prepare(ledger: Ledger, bundle: str, *, version: int = 2, pool: str = "default", **plan: Any) -> Release:
    """A stored bundle's release, prepared; `plan` changes PLAN."""
    seen = ledger.releases.champion(MODEL).generation
    ledger.models.add_candidate(make_candidate(MODEL, version, bundle=bundle))
    state = CandidateState.PASSED
    judged = ledger.models.judge(MODEL, version, verdict=make_verdict(), state=state, generation_seen=seen)
    return ledgers.prepare(ledger, judged, pool=pool, plan=replace(PLAN, **plan))


def try_out(
    ledger: Ledger,
    store: Store,
    *,
    version: int = 2,
    seed: int | None = None,
    state: RolloutState = RolloutState.CANARY,
    weight: int = 50,
    **plan: Any,
) -> Release:
    """Put a new version (its bundle by make_bundle, seed = version, unless given) on trial; `plan` changes PLAN."""
    bundle, files = make_bundle(MODEL, seed=version if seed is None else seed)
    put(store, bundle, files)
    return enter(ledger, prepare(ledger, bundle, version=version, **plan), state, weight)


def enter(ledger: Ledger, release: Release, state: RolloutState, weight: int) -> Release:
    """The next stage of its trial."""
    return ledger.releases.enter(release, state, weight, reason="for a test", now=datetime.now(UTC))
