"""Callers' tokens in memory."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from threading import RLock

from evergreen.core.records import CallerToken
from evergreen.fakes.ledger.times import aware


class InMemoryTokens:
    """Twin of adapters.ledger.tokens."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._rows: dict[str, CallerToken] = {}

    def add(self, caller: str, digest: str, *, by: str, now: datetime, reason: str = "") -> CallerToken:
        """Keep a token's digest, or return the token that has it, revoked or not."""
        with self._lock:
            for token in self._rows.values():
                if token.sha256 == digest:
                    return token
            made = CallerToken(uuid.uuid4().hex[:12], caller, digest, aware(now), by, reason=reason)
            self._rows[made.id] = made
            return made

    def revoke(self, token_id: str, *, by: str, now: datetime) -> CallerToken:
        """End a token's life. Revoked already: the first one stays. KeyError if there is no such token."""
        with self._lock:
            if token_id not in self._rows:
                raise KeyError(f"no token {token_id}")
            token = self._rows[token_id]
            if token.revoked_at is None:
                self._rows[token_id] = replace(token, revoked_at=aware(now), revoked_by=by)
            return self._rows[token_id]

    def active(self) -> list[CallerToken]:
        """The tokens that are not revoked, oldest first."""
        return [token for token in self.all() if token.revoked_at is None]

    def all(self) -> list[CallerToken]:
        """All tokens, oldest first."""
        with self._lock:
            return list(self._rows.values())
