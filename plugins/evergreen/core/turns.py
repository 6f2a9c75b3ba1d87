"""Whose turn it is when many models ask at once: who is at work, which limits are reached, and a fair order.

Airflow's pools limit too, but are first come, first served: an owner's five hundred models would all go before
another's one. Who waits here holds no slot and no lease.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from evergreen.core.records import RequestState, TriggerRequest
from evergreen.core.requested import judged_again, overridden
from evergreen.core.spec_limits import OWNER, SOURCE, Limit, limits_of
from evergreen.core.triggers import ADMIT, priority

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

NEVER = datetime.min.replace(tzinfo=UTC)
_PULLING = frozenset({ADMIT, "pull"})
_AT_WORK = _PULLING | {"validate", "train", "judge"}


class Turns:
    """Counts who is at work, of each owner and on each source. `last` is when each owner had the last turn, which the
    caller keeps."""

    def __init__(
        self, unfinished: Iterable[TriggerRequest], specs: Mapping[str, ModelSpec], last: dict[str, datetime]
    ) -> None:
        self._specs, self._last = specs, last
        self._at_work: Counter[tuple[str, str]] = Counter()
        for request in unfinished:
            if request.model in specs:
                self._count(specs[request.model], _kinds(request))

    def started(self, model: str, now: datetime) -> None:
        """One more of this model is at work."""
        spec = self._specs[model]
        self._last[spec.owner] = now
        self._count(spec, (OWNER, SOURCE))

    def waits_for(self, request: TriggerRequest) -> Limit | None:
        """The first limit that keeps the request from being started now."""
        if needs_no_place(request):
            return None
        limits = limits_of(self._specs[request.model])
        return next((one for one in limits if self._at_work[one.kind, one.of] >= one.most), None)

    def in_fair_order(self, first: Mapping[str, TriggerRequest]) -> list[str]:
        """Models by the urgency of their first request; of the same urgency each owner has a turn in each round.

        Who has runs at work has had as many turns. In a round the owner goes first whose last turn was longest ago.
        """
        rounds: Counter[tuple[int, str]] = Counter()
        keys = {}
        for model, request in sorted(first.items(), key=lambda one: one[1].requested_at):
            urgency, owner = priority(request.cause), self._specs[model].owner
            turn = self._at_work[OWNER, owner] + rounds[urgency, owner]
            rounds[urgency, owner] += 1
            keys[model] = (urgency, turn, self._last.get(owner, NEVER), request.requested_at)
        return sorted(keys, key=lambda model: keys[model])

    def _count(self, spec: ModelSpec, kinds: Iterable[str]) -> None:
        of = {OWNER: spec.owner, SOURCE: spec.source.place}
        self._at_work.update((kind, of[kind]) for kind in kinds)


def needs_no_place(request: TriggerRequest) -> bool:
    """Whether it judges a version that is there: it neither pulls nor trains."""
    return judged_again(request) is not None or overridden(request) is not None


def _kinds(request: TriggerRequest) -> tuple[str, ...]:
    """The kinds of limits that a request counts for: started and not admitted yet, it may be about to pull."""
    if request.queued or request.step not in _AT_WORK:
        return ()
    claimed = request.state is RequestState.CLAIMED
    if not claimed and request.step != ADMIT:
        return ()
    return (OWNER, SOURCE) if request.step in _PULLING else (OWNER,)
