"""Why nothing was scored."""

from __future__ import annotations

from collections.abc import Sequence

from evergreen.core.errors import EvergreenError
from evergreen.serving.refusals import LISTED, Problem


class ScoringRefused(EvergreenError):
    """Raised where an input, an output or a row cannot be scored. The output was not written then."""


def refused(where: str, *, found: str, allowed: str, do: str) -> ScoringRefused:
    """A refusal for one reason."""
    return ScoringRefused(str(Problem(where, found, allowed, do)))


def all_refused(problems: Sequence[Problem]) -> ScoringRefused:
    """A refusal for several, the first of which are told and the rest counted."""
    more = f"\n… and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    return ScoringRefused("\n".join(map(str, problems[:LISTED])) + more)
