"""The spec's `limits`: how many runs may be at work at a time, of one owner's models and on one source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from evergreen.core.spec_fields import Strict

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

OWNER, SOURCE = "owner", "source"


class Limits(Strict):
    """How many runs may be at work at a time; what is above waits for its turn, in the ledger."""

    owner: int | None = Field(
        default=None, ge=1, le=100, description="Runs of all models of this owner, from admit to judge; none: no limit"
    )
    source: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Runs that pull over this source's connection (all sources of files are one); none: no limit",
    )


@dataclass(frozen=True)
class Limit:
    """One limit of one model. `of` is the owner, or the connection."""

    kind: str
    of: str
    most: int

    @property
    def places(self) -> Iterator[str]:
        """Names of the leases, of which a run at work holds one: as many as the limit allows."""
        name = f"{self.kind} {self.of}"
        if len(name) > 150:  # longer than the ledger's column
            name = f"{name[:100]} {hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return (f"{name} #{number}" for number in range(1, self.most + 1))

    @property
    def words(self) -> str:
        """Why a request waits."""
        which = f"of owner {self.of} at work" if self.kind == OWNER else f"that pulls from {self.of}"
        return f"its turn comes when there is one run less {which} (limits.{self.kind}: {self.most})"


def limits_of(spec: ModelSpec) -> list[Limit]:
    """Those that the model has."""
    limits, place = spec.limits, spec.source.place
    found = (Limit(OWNER, spec.owner, limits.owner or 0), Limit(SOURCE, place, limits.source or 0))
    return [limit for limit in found if limit.most]
