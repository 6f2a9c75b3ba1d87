"""The parts of the ledger that people read or are told from, and the callers of serving."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evergreen.core.records import (
        CallerToken,
        Event,
        Heartbeat,
        Notice,
        NoticeKind,
        SlotEvent,
    )


class Tokens(Protocol):
    """Callers of serving. Only digests of tokens are kept; rows are revoked and never removed."""

    def add(self, caller: str, digest: str, *, by: str, now: datetime, reason: str = "") -> CallerToken:
        """Keep a token's digest (core.caller_tokens.digest). The same digest again returns the token that has it."""

    def revoke(self, token_id: str, *, by: str, now: datetime) -> CallerToken:
        """End a token's life. Revoked already: the first one stays. KeyError if there is no such token."""

    def active(self) -> list[CallerToken]:
        """The tokens that are not revoked, oldest first."""

    def all(self) -> list[CallerToken]:
        """All tokens, oldest first."""


class SlotEvents(Protocol):
    """What happened to container slots: deaths, restarts, refusals."""

    def add(self, slot: str, what: str, detail: str, key: str, now: datetime) -> bool:
        """Keep an event; false where the slot has one of this key already."""

    def latest(self, limit: int) -> list[SlotEvent]:
        """The newest events of all slots, newest first."""


class Events(Protocol):
    """What people must be able to read later: an alias that a hand moved, an override, a question superseded."""

    def add(self, model: str, what: str, detail: str, *, by: str, key: str, now: datetime) -> bool:
        """Keep an event; false where the model has one of this key already."""

    def history(self, model: str | None = None) -> list[Event]:
        """All events, oldest first."""


class Heartbeats(Protocol):
    """Who runs for ever, and was last heard of when."""

    def beat(self, name: str, detail: str, now: datetime) -> None:
        """It lives, and says this."""

    def last(self, name: str) -> Heartbeat | None:
        """None where it was never heard of."""


class Notices(Protocol):
    """Messages to people: written with what they tell of, sent afterwards by whoever can."""

    def add(self, model: str, kind: NoticeKind, *, key: str, title: str, text: str, link: str, now: datetime) -> bool:
        """Keep a message to be sent; false where the model has one of this key already."""

    def unsent(self, *, tries: int) -> list[Notice]:
        """Those that were not sent and have failed fewer times than this, oldest first."""

    def sent(self, notice_id: str, now: datetime) -> None:
        """It went out."""

    def failed(self, notice_id: str, error: str) -> None:
        """Count a try that failed, and why."""

    def latest(self, limit: int) -> list[Notice]:
        """The newest, sent or not, newest first."""
