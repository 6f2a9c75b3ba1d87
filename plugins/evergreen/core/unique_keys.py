"""Whether a key stands twice in parts that do not fit into memory together.

Keys are compared by a hash of 64 bits, eight bytes a row, a bounded number of them at a time; those whose hashes meet
are looked at themselves. Parts that are known to have no key twice among them are only compared with the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

AT_ONCE = 4_000_000  # hashes in memory: 32 MB, and as many rows a turn through all parts
_BITS = 23  # of the map of the new hashes: 8 MB
_READERS = 2  # to read, to check and to search all go on without the interpreter


@dataclass(frozen=True)
class Keys:
    """The keys of a part, which `read` gives, and `hashes` their hashes in the same order."""

    rows: int
    read: Callable[[], pl.Series]
    hashes: Callable[[], np.ndarray]


def twice(new: Sequence[Keys], old: Sequence[Keys], *, at_once: int = AT_ONCE) -> pl.Series | None:
    """The keys that stand more than once in all parts, sorted; None where there are none. In `old` none does."""
    import numpy as np
    import polars as pl

    turns = max(1, -(-sum(part.rows for part in new) // at_once))
    met = [_met(new, old, turn, turns) for turn in range(turns)] if new else []
    hashes = np.unique(np.concatenate(met)) if met else np.empty(0)
    if not len(hashes):
        return None
    suspects = ((part, np.isin(part.hashes(), hashes)) for part in (*new, *old))
    found = pl.concat([part.read().filter(pl.Series(of_part)) for part, of_part in suspects if of_part.any()])
    again = found.filter(found.is_duplicated()).unique().sort()
    return again if len(again) else None


def _met(new: Sequence[Keys], old: Sequence[Keys], turn: int, turns: int) -> np.ndarray:
    """The hashes that stand twice, of those whose turn it is."""
    import numpy as np

    def hashes(part: Keys) -> np.ndarray:
        of_part = part.hashes()
        return of_part if turns == 1 else of_part[of_part % turns == turn]

    fresh = np.empty(sum(part.rows for part in new), np.uint64)
    filled = 0
    for some in map(hashes, new):
        fresh[filled : filled + len(some)] = some
        filled += len(some)
    fresh = fresh[:filled]
    fresh.sort()
    marked = np.zeros(1 << _BITS, bool)
    marked[fresh >> np.uint64(64 - _BITS)] = True

    def met_by(part: Keys) -> np.ndarray:
        some = hashes(part)
        maybe = some[marked[some >> np.uint64(64 - _BITS)]]
        at = np.minimum(np.searchsorted(fresh, maybe), max(0, filled - 1))
        alike: np.ndarray = maybe[fresh[at] == maybe] if filled else maybe[:0]
        return alike

    with ThreadPoolExecutor(_READERS) as readers:
        return np.concatenate([fresh[1:][fresh[1:] == fresh[:-1]], *readers.map(met_by, old)])
