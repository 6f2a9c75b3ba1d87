"""Whose rows were removed from the log, so that none comes back: not from a segment that is shipped later, not from
ground truth that is told later. A person's key is known here by its sha256 alone.

Each file in log/forgotten/ is written once. That of `evergreen forget` names the key's hash and the time up to which
its rows go; others name the inference ids of rows that went.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from evergreen.core.logged_parts import FORGOTTEN

EVERY_MODEL = ""


@dataclass(frozen=True)
class Forgotten:
    """Rows of a model (of every one without) and key up to a time (Unix ms), and inference ids of such rows."""

    key_sha256: str
    before: int
    model: str = EVERY_MODEL
    ids: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """As the store has it."""
        told = {"key_sha256": self.key_sha256, "before": self.before, "model": self.model, "ids": self.ids}
        return json.dumps(told, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Forgotten:
        """Raises ValueError or KeyError for another file."""
        told = json.loads(data)
        return cls(told["key_sha256"], told["before"], told["model"], tuple(told["ids"]))

    def stored_at(self, what: str) -> str:
        """Its key in the store. `what` tells it from others of the same person and time."""
        return f"{FORGOTTEN}{self.before:013d}-{self.key_sha256[:16]}-{what}.json"


def hash_of(key: str) -> str:
    """The name by which a key is kept."""
    return hashlib.sha256(key.encode()).hexdigest()


class Forgetting:
    """All that is forgotten, asked row by row."""

    def __init__(self, known: Iterable[Forgotten]) -> None:
        self._known = list(known)
        self.ids = frozenset(one_id for one in self._known for one_id in one.ids)
        self._hashes = {one.key_sha256 for one in self._known}

    def by(self, model: str, key: str, at: int) -> Forgotten | None:
        """What says that a row of this key, answered at this time (Unix ms), goes; none: it stays."""
        if not key or not self._hashes:
            return None
        hashed = hash_of(key)
        if hashed not in self._hashes:
            return None
        told = [one for one in self._known if one.key_sha256 == hashed and one.model in (EVERY_MODEL, model)]
        return next((one for one in told if at <= one.before), None)
