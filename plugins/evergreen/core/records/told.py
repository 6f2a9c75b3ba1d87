"""What people are told, and can read later. See the package."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True)
class SlotEvent:
    """Something that happened to a container slot: `what` in a word or two, `detail` in a sentence.

    A slot has each key once.
    """

    slot: str
    what: str
    detail: str
    key: str
    at: datetime


@dataclass(frozen=True)
class Event:
    """Something about a model (or FLEET) that people must be able to read later: `what` in a word or two.

    A model has each key once.
    """

    model: str
    what: str
    detail: str
    by: str
    key: str
    at: datetime


@dataclass(frozen=True)
class Heartbeat:
    """When something that runs for ever was last heard of, and what it said."""

    name: str
    at: datetime
    detail: str


class NoticeKind(StrEnum):
    """What people are told of."""

    APPROVAL_NEEDED = "approval_needed"
    REMINDER = "reminder"
    ESCALATION = "escalation"
    REFUSED = "refused"
    RELEASED = "released"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    REPORTED = "reported"  # something that was repaired, or that nobody caused here: an alias moved by hand
    SILENT = "silent"  # nothing heard from the reconciler
    ALERT = "alert"  # a rule on a metric of the monitor was broken for long enough
    ALERT_CLOSED = "alert_closed"


@dataclass(frozen=True)
class Notice:
    """A message to people that is to be sent, or was. `link` leads to the page to act on; a model has each key once."""

    id: str
    model: str
    kind: NoticeKind
    key: str
    title: str
    text: str
    link: str
    created_at: datetime
    sent_at: datetime | None = None
    tries: int = 0
    error: str = ""
