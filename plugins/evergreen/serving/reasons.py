"""What ops should know of a replica now, each thing told in the log once when it begins and once when it ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from evergreen.serving.state import Reason

_log = logging.getLogger(__name__)


class Reasons:
    """One reason for each thing that is not in order: a model's name, "ledger", "disk", "callers"."""

    def __init__(self) -> None:
        self._reasons: dict[str, Reason] = {}

    def tell(self, about: str, reason: Reason) -> None:
        """Keep the reason, in place of the one before."""
        if self._reasons.get(about) != reason:
            _log.warning("%s", reason.text)
        self._reasons[about] = reason

    def clear(self, about: str) -> None:
        """It is in order again."""
        if self._reasons.pop(about, None):
            _log.info("%s: in order again", about)

    def models(self) -> set[str]:
        """The models that are told about."""
        return {reason.model for reason in self._reasons.values() if reason.model}

    def all(self) -> list[Reason]:
        """All of them."""
        return list(self._reasons.values())


def first_line(error: Exception) -> str:
    """An outside error in one bounded line."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def awaited(name: str) -> Reason:
    """A model that cannot be answered yet."""
    return Reason(f"{name} is released, and its bundle has not come from the store yet.", model=name, blocks=True)


def summed_up(reasons: Sequence[Reason], most: int = 5) -> list[Reason]:
    """The first of many reasons of one kind, and how many more there are."""
    rest = reasons[most:]
    if not rest:
        return list(reasons)
    more = Reason(f"… and {len(rest)} more of this kind.", blocks=any(reason.blocks for reason in rest))
    return [*reasons[:most], more]
