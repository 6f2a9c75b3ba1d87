"""What judge hands to those who report on it, and to the rehearsal that it calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.records import Candidate, GateResult, Verdict
    from evergreen.core.scored import Scored
    from evergreen.core.spec import ModelSpec

REHEARSAL, REHEARSAL_LIMIT = "rehearsal", "loads, and answers its golden rows over HTTP"  # a gate of its own


@dataclass(frozen=True)
class Judgement:
    """A candidate, judged. `fitted` are the rows that it was fitted on, `fresh` those that it was judged on.

    `fresh` and the arrays of `scored` are row by row the same. `champion` is none where there is none; where it
    could not be compared, it is there and `scored.champion` is none.
    """

    spec: ModelSpec
    candidate: Candidate
    champion: Candidate | None
    fitted: pl.DataFrame
    fresh: pl.DataFrame
    scored: Scored
    verdict: Verdict


Rehearse: TypeAlias = "Callable[[Candidate, Candidate | None], tuple[GateResult, ...]]"
Report: TypeAlias = "Callable[[Judgement], None]"
