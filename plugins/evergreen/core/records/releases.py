"""Releases, who is champion, and who serves. See the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from evergreen.core.records.trials import RolloutPlan


class ReleaseKind(StrEnum):
    """Why a version was made champion."""

    PROMOTION = "promotion"
    ROLLBACK = "rollback"


class RolloutState(StrEnum):
    """prepared → shadow → canary → bake → live → replaced | rolled_back. A plan need not have all three trials.

    Until it is live it may be aborted, and rolled back by a guard while it is on trial. Of a model, one release is live
    and at most one on trial.
    """

    PREPARED = "prepared"
    SHADOW = "shadow"
    CANARY = "canary"
    BAKE = "bake"
    LIVE = "live"
    REPLACED = "replaced"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


ON_TRIAL = frozenset({RolloutState.SHADOW, RolloutState.CANARY, RolloutState.BAKE})


@dataclass(frozen=True)
class Champion:
    """The release that answers for a model. Generation 0, release none: nothing released yet."""

    model: str
    release_id: str | None
    generation: int


@dataclass(frozen=True)
class Release:
    """A decision to serve one version. Only its state, and with it the generation, ever changes.

    `seen` is the champion's generation that it was decided against. `generation` is 0 until it goes live: then
    seen + 1; `released_at` is when it was prepared, then when it went live. `request_id` is the trigger request that
    made the version, `approval_id` the approval that let it through, empty where nobody was asked. `act` names the act
    that released it (for a rollback, the run or command), so that the same act done twice is one release. `plan` is how
    it comes to all callers, none: at once. `weight` is the percentage of callers that it answers while on trial, and
    `stage_since` when that stage began.
    """

    id: str
    model: str
    version: int
    bundle: str
    pool: str
    generation: int
    request_id: str
    released_by: str
    reason: str
    watermark: datetime | None
    released_at: datetime
    kind: ReleaseKind = ReleaseKind.PROMOTION
    act: str = ""
    state: RolloutState = RolloutState.LIVE
    seen: int = 0
    approval_id: str = ""
    plan: RolloutPlan | None = None
    weight: int = 0
    stage_since: datetime | None = None

    @property
    def stage(self) -> str:
        """The stage of its trial, by which requests are counted: 'shadow', 'canary-25', 'bake'."""
        return f"{self.state}-{self.weight}" if self.state is RolloutState.CANARY else str(self.state)


@dataclass(frozen=True)
class ReleaseEvent:
    """A release changed its state; the history of these never shrinks."""

    release_id: str
    model: str
    version: int
    state: RolloutState
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Replica:
    """A serving replica's last heartbeat. `reasons` say why it does not serve all that is released, if it does not."""

    pool: str
    replica: str
    url: str
    versions: dict[str, int] = field(default_factory=dict)
    heartbeat: datetime | None = None
    reasons: tuple[str, ...] = ()
