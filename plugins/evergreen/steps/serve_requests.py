"""The reconciler's part for trigger requests: runs for those that wait, and an end for those whose run is gone."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.errors import EvergreenError, SourceError
from evergreen.core.ports import RunState
from evergreen.core.records import RequestState, TriggerRequest
from evergreen.core.requested import forced
from evergreen.core.spec_fields import format_duration
from evergreen.core.triggers import ADMIT, EXPIRES, Go, PutOff, Skip, cause_told, in_turn, priority
from evergreen.core.turns import Turns
from evergreen.steps.weigh import weigh

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Runs, Source
    from evergreen.core.spec import ModelSpec

ORPHAN_AFTER = timedelta(minutes=3)  # so old, a request's run must be known to Airflow …
ASK_EVERY = timedelta(seconds=60)  # … which is asked so often
SOURCE_RETRY = timedelta(seconds=60)  # a source that does not answer is asked again
_GONE = frozenset({None, RunState.SUCCESS, RunState.FAILED})
log = logging.getLogger(__name__)

OpenSource = Callable[["ModelSpec"], "Source"]


def serve_requests(
    ledger: Ledger,
    specs: Mapping[str, ModelSpec],
    runs: Runs,
    open_source: OpenSource,
    *,
    now: datetime,
    asked: dict[str, datetime] | None = None,
    turns: dict[str, datetime] | None = None,
) -> list[str]:
    """One pass over the open and claimed requests of all models that have a valid spec; what it did, in sentences.

    `asked` and `turns` are the caller's memory from pass to pass: when Airflow was last asked for a request's run, and
    when each owner had the last turn. Raises EvergreenError for what failed, once all models have had their turn.
    """
    asked = {} if asked is None else asked
    unfinished = ledger.requests.unfinished()
    order = Turns(unfinished, specs, {} if turns is None else turns)
    by_model = _by_model(unfinished, specs, order)
    _forget(asked, by_model)
    done: list[str] = []
    failed: list[str] = []
    for model, requests in by_model.items():
        try:
            for told in _serve_model(_Model(ledger, specs[model], runs, open_source, now, asked, order), requests):
                done.append(f"{model}: {told}")
        except Exception as error:  # one model's trouble is not another's
            log.warning("%s: its requests could not be served", model, exc_info=not isinstance(error, EvergreenError))
            failed.append(f"{model}: {error}")
    if failed:
        for told in done:
            log.info("%s", told)
        raise EvergreenError("; ".join(failed))
    return done


def _by_model(
    requests: Sequence[TriggerRequest], specs: Mapping[str, ModelSpec], turns: Turns
) -> dict[str, list[TriggerRequest]]:
    """Those of known models: the most urgent first, owner by owner in turn, and in each as their turn is."""
    found: dict[str, list[TriggerRequest]] = defaultdict(list)
    for request in in_turn(requests):
        if request.model in specs:
            found[request.model].append(request)
    first = {model: next((one for one in of if one.queued), of[0]) for model, of in found.items()}
    return {model: found[model] for model in turns.in_fair_order(first)}


def _forget(asked: dict[str, datetime], by_model: Mapping[str, Sequence[TriggerRequest]]) -> None:
    unfinished = {request.id for requests in by_model.values() for request in requests}
    for request_id in asked.keys() - unfinished:
        del asked[request_id]


def _serve_model(model: _Model, requests: list[TriggerRequest]) -> Iterator[str]:
    """Orphans first: what has held others up lets them go in the next pass."""
    for request in requests:
        if told := model.end_orphan(request):
            yield told
    for request in requests:
        if request.queued and (told := model.serve(request, requests)):
            yield told


class _Model:
    """A model's requests in one pass."""

    def __init__(
        self,
        ledger: Ledger,
        spec: ModelSpec,
        runs: Runs,
        open_source: OpenSource,
        now: datetime,
        asked: dict[str, datetime],
        turns: Turns,
    ) -> None:
        self._ledger, self._spec, self._runs = ledger, spec, runs
        self._open_source, self._now, self._asked, self._turns = open_source, now, asked, turns
        self._started: list[TriggerRequest] = []

    # ------------------------------------------------------------ those that wait

    def serve(self, request: TriggerRequest, others: Sequence[TriggerRequest]) -> str:
        """Start the run of a request that waits, leave it, skip it, or let it expire; what was done, if anything."""
        if self._now - request.requested_at > EXPIRES:
            return self._expire(request)
        if (request.due_at and request.due_at > self._now) or self._must_wait(request, others):
            return ""
        if limit := self._turns.waits_for(request):
            return self._put_off(request, limit.words, None)
        try:
            decision = weigh(self._spec, self._ledger, request, self._source, now=self._now, forced=forced(request))
        except SourceError as error:
            decision = PutOff(f"its new rows cannot be counted: {error}", self._now + SOURCE_RETRY)
        match decision:
            case Go():
                return self._start(request)
            case Skip(reason):
                self._ledger.requests.mark(
                    request.id, now=self._now, state=RequestState.SKIPPED, step=ADMIT, reason=reason
                )
                return f"skipped request {request.id}: {reason}"
            case PutOff(reason, until):
                return self._put_off(request, reason, until)

    def _source(self) -> Source:
        return self._open_source(self._spec)

    def _must_wait(self, request: TriggerRequest, others: Sequence[TriggerRequest]) -> bool:
        """Whether one that is as urgent was started and is not admitted yet: few runs of a model at a time."""
        started = [one for one in others if one.state is RequestState.OPEN and one.step == ADMIT]
        return any(priority(one.cause) <= priority(request.cause) for one in (*started, *self._started))

    def _start(self, request: TriggerRequest) -> str:
        """Start its run. Killed before the mark, the next pass does both again: a run starts once."""
        self._runs.start(request.model, request.run_id, {})
        self._started.append(request)
        self._turns.started(request.model, self._now)
        if self._ledger.requests.get(request.id).queued:  # not admitted meanwhile
            self._ledger.requests.mark(request.id, now=self._now, step=ADMIT)
        return f"started run {request.run_id}: {cause_told(request)}"

    def _expire(self, request: TriggerRequest) -> str:
        waited = f"waited for more than {format_duration(EXPIRES)}"
        reason = f"{waited}: {request.reason}" if request.reason else waited
        self._ledger.requests.mark(request.id, now=self._now, state=RequestState.EXPIRED, reason=reason)
        return f"let request {request.id} expire: it {reason}"

    def _put_off(self, request: TriggerRequest, reason: str, until: datetime | None) -> str:
        if (request.reason, request.due_at) == (reason, until):
            return ""
        self._ledger.requests.put_off(request.id, until=until, reason=reason, now=self._now)
        return f"put off request {request.id}: {reason}"

    # ------------------------------------------------------------ those whose run is gone

    def end_orphan(self, request: TriggerRequest) -> str:
        """Close a claimed request, or queue an open one, whose run has ended or is unknown to Airflow."""
        if request.queued or self._now - request.requested_at < ORPHAN_AFTER or not self._may_ask(request):
            return ""
        state = self._runs.state(request.model, request.run_id)
        if state not in _GONE:
            return ""
        now = self._ledger.requests.get(request.id)  # a run ends after its request
        if (now.state, now.run_id, now.step) != (request.state, request.run_id, request.step):
            return ""
        self._ledger.leases.release_all(request.id)
        ended = (
            f"run {request.run_id} {'is not known to Airflow any more' if state is None else 'has ended in Airflow'}"
        )
        if now.state is RequestState.OPEN:
            self._ledger.requests.put_off(request.id, until=None, reason=f"{ended}; it is started anew", now=self._now)
            return f"queued request {request.id} again: {ended}"
        reason = f"{ended} while '{now.step}' was at work"
        self._ledger.requests.mark(request.id, now=self._now, state=RequestState.FAILED, reason=reason)
        return f"closed request {request.id}: {reason}"

    def _may_ask(self, request: TriggerRequest) -> bool:
        last = self._asked.get(request.id)
        if last is not None and self._now - last < ASK_EVERY:
            return False
        self._asked[request.id] = self._now
        return True
