"""Past windows to retrain, as their ends."""

from __future__ import annotations

from datetime import datetime, timedelta

from evergreen.core.errors import FoundProblem
from evergreen.core.spec_fields import format_duration
from evergreen.core.triggers import readable_time

MOST = 200


def window_ends(first: datetime, last: datetime, every: timedelta, now: datetime) -> list[datetime]:
    """The ends from `first` to `last`, oldest first. Raises FoundProblem for none, too many, or one to come."""
    if last < first:
        raise _refused("--to", last, f"{readable_time(first)} (--from) or later", "Swap the two.")
    if last > now:
        raise _refused("--to", last, f"up to now, {readable_time(now)}", "Labels of the future cannot be known.")
    runs = (last - first) // every + 1
    if runs > MOST:
        raise FoundProblem(
            f"--every {format_duration(every)}",
            found=f"{runs:,} windows",
            allowed=f"up to {MOST}",
            do="Take longer steps, or fewer windows at a time.",
        )
    return [first + every * number for number in range(runs)]


def _refused(where: str, found: datetime, allowed: str, do: str) -> FoundProblem:
    return FoundProblem(where, found=readable_time(found), allowed=allowed, do=do)
