"""thin points: remove values of metrics that are old. What rules look at, and the quality, is kept longer."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.retention import age_limit

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.spec import Retention

LONGEST = timedelta(days=730)  # two years: of each season one to compare with
_QUALITY = "quality."  # realised and estimated


def thin_points(
    ledger: Ledger, model: str, keep: Retention, watched: Collection[str], *, now: datetime, dry_run: bool = False
) -> int:
    """Remove a model's points that are older than its `retention.keep`; how many went, or in a dry run would go.

    Of the metrics in `watched`, which rules of the spec name, and of all quality, the values that count stay for two
    years; what was computed of them before goes with the others.
    """
    young = age_limit(keep, now)
    longest = min(young, now - LONGEST)
    return ledger.points.thin(model, young, keep=[_QUALITY, *watched], longest=longest, dry_run=dry_run)
