"""Times and lengths as people write them on a command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from evergreen.core.errors import FoundProblem
from evergreen.core.spec_fields import DURATION_WORDS, parse_duration

MOMENT_WORDS = "a day, such as 2013-06-01 (midnight UTC), or a time with its zone, such as 2013-06-01T12:00:00Z"


def moment(where: str, text: str) -> datetime:
    """The time in UTC. Raises FoundProblem for one without a zone, unless it is a whole day."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        time = None
    if time is None or (time.tzinfo is None and len(text.strip()) != len("2013-06-01")):
        raise FoundProblem(where, found=repr(text), allowed=MOMENT_WORDS, do="Write it in one of these forms.")
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def length(where: str, text: str) -> timedelta:
    """'30d'. Raises FoundProblem for anything that is not longer than nothing."""
    try:
        found: timedelta = parse_duration(text)
    except ValidationError:
        found = timedelta(0)
    if not found:
        raise FoundProblem(where, found=repr(text), allowed=DURATION_WORDS, do="Write how long it is, such as 30d.")
    return found


def since(where: str, text: str, now: datetime) -> datetime:
    """A moment, or a length back from now."""
    try:
        return now - length(where, text)
    except FoundProblem:
        pass
    try:
        return moment(where, text)
    except FoundProblem as error:
        allowed = f"{MOMENT_WORDS}; or how long ago: {DURATION_WORDS}"
        raise FoundProblem(where, found=error.found, allowed=allowed, do=error.do) from None
