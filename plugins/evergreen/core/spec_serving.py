"""The spec's `serving`: how callers are answered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from evergreen.core.spec_fields import Name, Strict


class Serving(Strict):
    """How callers are answered."""

    pool: Name = Field(default="default", description="The replicas that answer for this model")
    unknown_category: Literal["missing", "refuse"] = Field(
        default="missing", description="A category never seen in training: answered as missing, or refused with 422"
    )
    pinned: bool = Field(
        default=False, description="Loaded when a replica starts, and kept in memory; else when it is first asked"
    )
    max_concurrent: int = Field(
        default=256,
        ge=1,
        description="Requests at a time and worker; what comes on top is refused with 429. In an overload fewer, so "
        "that who is taken on is answered within some 25 ms",
    )
    log_sample: float = Field(
        default=1.0, ge=0, le=1, description="The fraction of requests whose rows the prediction log keeps"
    )
