"""Refit: what passed its gates is fitted once more, on the holdout too, and that version is released in its place.

The newest rows are the ones most like those to come, and a candidate is judged on them because it never saw them. Once
there is a verdict they may be learned. The version that has seen them is one of its own. No row is left that could
judge it, so its verdict is reached by the answers of the version of which it is the refit, also when it is judged anew.
And whoever comes next is judged on rows that are newer still (core.fresh), so not before there are enough of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.recalling import recalled
from evergreen.core.triggers import readable_time

if TYPE_CHECKING:
    from evergreen.core.ports import Models
    from evergreen.core.records import Candidate
    from evergreen.core.spec import ModelSpec

REFIT_OF = "refit_of"  # in a candidate's made_with: the version that was judged
_LONGEST_KEY = 64


def train_key(of: Candidate) -> str:
    """In place of a train key: a version has one refit, since all that decided on it decides on that too."""
    return f"refit-{of.train_key}"[:_LONGEST_KEY]


def is_wanted(spec: ModelSpec, candidate: Candidate) -> bool:
    """Whether the spec asks for it, of a version that was fitted for a run, and not again."""
    first = refit_of(candidate) is None and recalled(candidate) is None
    return first and spec.training.refit == "after_verdict"


def refit_of(candidate: Candidate) -> int | None:
    """The version that was judged in its place; none of one that was judged itself, as a recalled one always is."""
    version = candidate.made_with.get(REFIT_OF)
    return int(version) if version and recalled(candidate) is None else None


def answering(models: Models, candidate: Candidate) -> Candidate:
    """The version that people are asked about and that is released: its refit where there is one, else itself."""
    return models.by_train_key(candidate.model, train_key(candidate)) or candidate


def judged(models: Models, candidate: Candidate) -> Candidate:
    """The version whose answers judge it: that of which it is the refit, else itself."""
    of = refit_of(candidate)
    return candidate if of is None else models.candidate(candidate.model, of)


def told(candidate: Candidate) -> str:
    """'version 3 fitted again, on all rows until 2013-…, and judged as that version'; empty for one that is none."""
    of = refit_of(candidate)
    if of is None:
        return ""
    return (
        f"version {of} fitted again, on all rows until {readable_time(candidate.data_end)}, and judged as that version"
    )
