"""Times as the SQL ledger keeps them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(time: datetime | None) -> datetime | None:
    """The time in UTC. Raises ValueError without a time zone: nobody could say which moment it means."""
    return None if time is None else aware(time)


def aware(time: datetime) -> datetime:
    """As `utc`, of a time that is there."""
    if time.tzinfo is None:
        raise ValueError(f"a time without a time zone: {time.isoformat()}")
    return time.astimezone(UTC)
