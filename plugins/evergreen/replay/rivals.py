"""What Evergreen is measured against: a model trained at each period end, by the same steps and without gates."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.errors import EvergreenError
from evergreen.core.records import Cause, RequestState

if TYPE_CHECKING:
    from evergreen.core.records import TriggerRequest
    from evergreen.replay.world import World


@dataclass
class EveryPeriod:
    """`trained` is the version by the moment of its training, oldest first. Where none could be made, the one before
    goes on answering."""

    world: World
    trained: dict[datetime, int] = field(default_factory=dict)

    def train(self, now: datetime) -> None:
        """One from the data of now. Raises as pull, validate and train do where it would be the first."""
        self.world.source.now = now
        request, state = self._request(now), RequestState.SERVED
        try:
            self.trained[now] = self.world.candidate(request, None, now).version
        except EvergreenError:
            if not self.trained:
                raise
            state = RequestState.FAILED
        self.world.ledger.requests.mark(request.id, now=now, state=state)

    def _request(self, now: datetime) -> TriggerRequest:
        spec, ledger = self.world.spec, self.world.ledger
        watermark = self.world.source.watermark()
        request = ledger.requests.open(
            model=spec.name,
            source=spec.source.id,
            cause=Cause.SCHEDULE,
            dedupe_key=now.isoformat(),
            run_id=now.isoformat(),
            watermark=watermark,
            as_of=watermark and watermark - spec.label.arrives_after,
            detail={},
            now=now,
        )
        return ledger.requests.mark(request.id, now=now, state=RequestState.CLAIMED)
