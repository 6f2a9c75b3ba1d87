"""Releases, who is champion, and who serves. See the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class ReleaseKind(StrEnum):
    """Why a version was made champion."""

    PROMOTION = "promotion"
    ROLLBACK = "rollback"


class RolloutState(StrEnum):
    """prepared → live | aborted; live → replaced (by the next release) | rolled_back. One release a model is live."""

    PREPARED = "prepared"
    LIVE = "live"
    REPLACED = "replaced"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


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
    that released it (for a rollback, the run or command), so that the same act done twice is one release.
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
