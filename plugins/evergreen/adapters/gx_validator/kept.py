"""Findings that are kept in the store, so that a part is judged once for a suite, whatever windows it comes to lie in.

At 'validated/<model>/<day>-<hash of the part>/<hash of the expectations>.json'. An entry that is missing or damaged is
counted anew. Only what was counted on checked rows is kept.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from evergreen.adapters.gx_validator.found import Found, sealed, unsealed
from evergreen.adapters.gx_validator.library import VERSION, Config
from evergreen.core.bundle import sha256
from evergreen.core.retention import validated_key

if TYPE_CHECKING:
    from evergreen.adapters.gx_validator.found import PartChecks
    from evergreen.core.ports import PartRows, Store

_LOOKED_AT = 5  # of the newest parts: a window ends with a new day or two
_FORM = 2  # of what is kept, and of how it is counted
_MOST_ROWS = 20_000  # or a quarter of a part: with more unexpected ones it stops the run, and is not worth keeping


@dataclass(frozen=True)
class Kept:
    """What a suite of these expectations found before."""

    store: Store
    configs: Sequence[Config]

    def find(self, part: PartRows) -> Found | None:
        """What was found in a part, none if it is not kept or not whole."""
        if not part.key:
            return None
        try:
            return Found.unpacked(self.store.get(self._key(part)))
        except (KeyError, ValueError, TypeError):
            return None

    def keep(self, part: PartRows, found: Found) -> None:
        """Write it, unless an expectation could not be judged: that may be otherwise next time."""
        few = sum(len(one.rows) for one in found.counts) <= max(_MOST_ROWS, part.height // 4)
        if part.key and few and not any(one.error for one in found.counts):
            self.store.put(self._key(part), found.packed())

    def recall(self, parts: Sequence[PartRows], checks: PartChecks) -> None:
        """What the library said of single values by the newest of these parts of which that is kept."""
        for part in parts[: -_LOOKED_AT - 1 : -1]:
            try:
                if part.key:
                    return checks.rows.remembered.recall(unsealed(self.store.get(self._key(part, checks.asked))))
            except (KeyError, ValueError):
                continue
        return None

    def remember(self, part: PartRows, checks: PartChecks) -> None:
        """Keep what the library said so far of single values."""
        if part.key and checks.rows.configs:
            with contextlib.suppress(TypeError, ValueError):  # not worth keeping
                self.store.put(self._key(part, checks.asked), sealed(checks.rows.remembered.written()))

    def _key(self, part: PartRows, answers_to: str = "") -> str:
        return validated_key(part.key, sha256(f"{self._hash} {answers_to}".encode()))

    @cached_property
    def _hash(self) -> str:
        told = [_FORM, VERSION, [[one["type"], one["kwargs"]] for one in self.configs]]
        return sha256(json.dumps(told, sort_keys=True, default=str).encode())
