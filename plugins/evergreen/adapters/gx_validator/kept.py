"""Counts that are kept in the store, so that a part is judged once for a suite, whatever windows it comes to lie in.

At 'validated/<model>/<day>-<hash of the part>/<hash of the expectations>.json'. An entry that is missing or damaged is
counted anew. Only what was counted on checked rows is kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from evergreen.adapters.gx_validator.counts import Counts, packed, unpacked
from evergreen.adapters.gx_validator.library import VERSION
from evergreen.core.bundle import sha256
from evergreen.core.retention import validated_key

if TYPE_CHECKING:
    from evergreen.adapters.gx_validator.rowwise import RowChecks
    from evergreen.core.ports import PartRows, Store

_FORM = 1  # of what is kept, and of how it is counted
_MOST_ROWS = 20_000  # a part with more unexpected rows stops the run, and is not worth keeping


@dataclass(frozen=True)
class Kept:
    """What these checks found before."""

    store: Store
    checks: RowChecks

    def find(self, part: PartRows) -> list[Counts] | None:
        """The counts of a part, none if they are not kept or not whole."""
        if not part.key:
            return None
        try:
            return unpacked(self.store.get(self._key(part)), len(self.checks.configs))
        except (KeyError, ValueError, TypeError):
            return None

    def keep(self, part: PartRows, of_part: list[Counts]) -> None:
        """Write them, unless an expectation could not be judged: that may be otherwise next time."""
        if part.key and sum(len(one.rows) for one in of_part) <= _MOST_ROWS and not any(one.error for one in of_part):
            self.store.put(self._key(part), packed(of_part))

    def _key(self, part: PartRows) -> str:
        return validated_key(part.key, self._hash)

    @cached_property
    def _hash(self) -> str:
        asked = [[one["type"], one["kwargs"]] for one in self.checks.configs]
        told = [_FORM, VERSION, sorted(self.checks.nullable), asked]
        return sha256(json.dumps(told, sort_keys=True, default=str).encode())
