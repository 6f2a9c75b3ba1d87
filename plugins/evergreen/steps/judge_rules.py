"""Takes what core.monitoring.rules makes of a model's metrics to the ledger: alerts, requests for retrains, notices.

Each write finds what a killed pass has left: an alert that is open, a request that was made, a notice that was written.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core import alert_notices
from evergreen.core.monitoring import alert_texts, rules
from evergreen.core.records import ALL, Cause, RequestState, RuleState
from evergreen.core.requested import TUNE
from evergreen.core.spec_fields import format_duration

if TYPE_CHECKING:
    from evergreen.core.monitoring.window_metrics import Value
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Alert, Release, TriggerRequest
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_monitoring import MetricRule

BySlice = Mapping[str, Mapping[str, "Value"]]  # by slice and name
_REQUESTS = 200  # the newest of a model: more than a rule makes while one alert is open


@dataclass(frozen=True)
class Standing:
    """Where the rules of all models stand as a pass begins: states and open alerts, by model and rule."""

    states: Mapping[tuple[str, str], RuleState]
    alerts: Mapping[tuple[str, str], Alert]

    @classmethod
    def read(cls, ledger: Ledger) -> Standing:
        """One reading for all models."""
        alerts = {(alert.model, alert.rule): alert for alert in ledger.alerts.open_ones()}
        return cls(ledger.alerts.states(), alerts)


@dataclass(frozen=True)
class Judged:
    """What the rules of a model are judged by. `live`: its champion's release; `link`: the page to act on."""

    ledger: Ledger
    spec: ModelSpec
    standing: Standing
    live: Release | None
    link: str
    now: datetime


def judge_rules(judged: Judged, values: BySlice, changed: list[RuleState]) -> list[str]:
    """Judge all rules of the model; what was done, in sentences. States that the caller is to save go to `changed`."""
    told: list[str] = []
    for rule, slice in _each(judged.spec.rules, values, judged):
        if _is_gone(judged, rule, slice, values):
            told += _close_gone(judged, rule, slice)
        else:
            told += _judge(judged, rule, slice, values.get(slice, {}).get(rule.name), changed)
    return told + _close_orphans(judged)


def _each(specified: Iterable[MetricRule], values: BySlice, judged: Judged) -> Iterator[tuple[MetricRule, str]]:
    """Each rule; one by slice for each value that has rows now, or an alert that is open."""
    of_model = [alert for (model, _), alert in judged.standing.alerts.items() if model == judged.spec.name]
    for rule in specified:
        if not rule.slice:
            yield rule, ALL
            continue
        open_ones = {alert.slice for alert in of_model if alert.rule == rules.key_of(rule, alert.slice)}
        yield from ((rule, one) for one in sorted({*values, *open_ones}) if one.startswith(f"{rule.slice}="))


def _judge(
    judged: Judged, rule: MetricRule, slice: str, value: Value | None, changed: list[RuleState]
) -> Iterator[str]:
    model, key = judged.spec.name, rules.key_of(rule, slice)
    state = judged.standing.states.get((model, key)) or RuleState(model, key)
    alert = judged.standing.alerts.get((model, key))
    if alert and value and (worst := rules.worst_of(alert, value)) != alert.worst:
        judged.ledger.alerts.update(alert.id, worst=worst)
        alert = replace(alert, worst=worst)
    asked = _asked_by(judged, alert) if alert and alert.request_id else []
    move = rules.judge_rule(rule, _caught_up(state, alert, asked), value, alert, _facts(judged, slice, alert, asked))
    match move:
        case rules.Open():
            yield _open(judged, move, value)
        case rules.Ask():
            assert alert, "only an open alert asks again"
            assert value, "only a value breaks a rule"
            yield _ask(judged, alert, move.state, value)
        case rules.Close():
            assert alert, "only an open alert closes"
            yield _close(judged, alert, move.state, alert_texts.WENT_BACK, value.value if value else None)
        case rules.Nothing():
            if move.state != state:
                changed.append(move.state)
            if alert:
                alert_notices.opened(judged.ledger, alert, judged.link, judged.now)  # where a pass was killed before it
                yield from _tell(judged, move, alert)


def _asked_by(judged: Judged, alert: Alert) -> list[TriggerRequest]:
    """The retrains that the alert asked for."""
    begin = f"metric:{alert.rule}:{alert.id}:"
    requests = judged.ledger.requests.latest(judged.spec.name, limit=_REQUESTS)
    return [one for one in requests if one.dedupe_key.startswith(begin)]


def _caught_up(state: RuleState, alert: Alert | None, asked: Iterable[TriggerRequest]) -> RuleState:
    """Where a pass was killed after it asked, and before it noted that with the rule: noted."""
    key = rules.dedupe_key(state, alert.id) if alert else ""
    return next((rules.asked(state, one.requested_at) for one in asked if one.dedupe_key == key), state)


def _facts(judged: Judged, slice: str, alert: Alert | None, asked: Sequence[TriggerRequest]) -> rules.Facts:
    return rules.Facts(
        now=judged.now,
        version=judged.live.version if judged.live else None,
        since=judged.live.released_at if judged.live else None,
        window=format_duration(judged.spec.monitoring.window),
        new_id=uuid.uuid4().hex,
        slice=slice,
        waiting=_waits(judged, alert) if alert and alert.request_id else False,
        unhelpful=_unhelpful(asked),
    )


def _waits(judged: Judged, alert: Alert) -> bool:
    """Whether the retrain that the alert asked for is under way, up to its release."""
    ledger, model = judged.ledger, judged.spec.name
    own = ledger.requests.unfinished(model)
    unfinished = any(alert.request_id in (one.id, one.detail.get("of")) for one in own)  # `of`: judged again
    coming = [*ledger.releases.prepared(), *ledger.releases.on_trial()]
    return unfinished or any(one.model == model and one.request_id == alert.request_id for one in coming)


def _unhelpful(asked: Iterable[TriggerRequest]) -> int:
    """How many retrains an alert has had that is open still. One that failed or was skipped is none."""
    return sum(one.state is RequestState.SERVED for one in asked)


# ---------------------------------------------------------------- moves


def _open(judged: Judged, move: rules.Open, value: Value | None) -> str:
    alert = judged.ledger.alerts.open(move.alert, move.state)
    told = f"{alert.model}: alert {alert.rule}: {alert_texts.title(alert)}"
    if move.asks and value is not None:
        told = _ask(judged, alert, replace(move.state, alert_id=alert.id), value)
        alert = replace(alert, request_id=_request_of(judged, alert))
    alert_notices.opened(judged.ledger, alert, judged.link, judged.now)
    return told


def _request_of(judged: Judged, alert: Alert) -> str:
    found = [one for one in judged.ledger.alerts.open_ones(alert.model) if one.id == alert.id]
    return found[0].request_id if found else ""


def _ask(judged: Judged, alert: Alert, state: RuleState, value: Value) -> str:
    """Ask for a retrain, note it with the alert, then with the rule: until then the same request is asked for again."""
    detail = {
        "metric": alert.metric,
        "value": value.value,
        "threshold": alert.limit,
        "direction": alert.direction,
        "window": alert.window,
        "rows": value.rows,
        "alert": alert.id,
        **({"slice": alert.slice} if alert.slice != ALL else {}),
        **({TUNE: True} if _asks_to_tune(judged, alert) else {}),
    }
    request = judged.ledger.requests.open(
        model=alert.model,
        source=judged.spec.source.id,
        cause=Cause.METRIC,
        dedupe_key=rules.dedupe_key(state, alert.id),
        run_id=None,
        watermark=None,
        as_of=None,
        detail=detail,
        now=judged.now,
    )
    judged.ledger.alerts.update(alert.id, request_id=request.id)
    judged.ledger.alerts.save([rules.asked(state, judged.now)])
    return f"{alert.model}: alert {alert.rule} asked for a retrain (request {request.id})"


def _asks_to_tune(judged: Judged, alert: Alert) -> bool:
    return any(rule.tune for rule in judged.spec.metric if rules.key_of(rule, alert.slice) == alert.rule)


def _close(judged: Judged, alert: Alert, state: RuleState, why: str, value: float | None) -> str:
    live = judged.live
    if why == alert_texts.WENT_BACK and live and alert.request_id and live.request_id == alert.request_id:
        why = alert_texts.recovered(live.version, live.released_at)
    closed = replace(alert, closed_at=judged.now, closed_why=why, closed_value=value)
    alert_notices.closed(judged.ledger, closed, judged.link, judged.now)  # first: a closed one is not found again
    judged.ledger.alerts.close(alert.id, state, why=why, value=value, now=judged.now)
    return f"{alert.model}: alert {alert.rule} closed: {why}"


def _tell(judged: Judged, move: rules.Nothing, alert: Alert) -> Iterator[str]:
    """What a rule that does nothing says: each once."""
    ledger, link, now = judged.ledger, judged.link, judged.now
    if move.flapping and alert_notices.flaps(ledger, alert, link, now):
        yield f"{alert.model}: alert {alert.rule} comes and goes"
    if until := move.backs_off_until:
        unhelpful = _unhelpful(_asked_by(judged, alert))
        if alert_notices.backs_off(ledger, alert, unhelpful, until, link, now):
            yield f"{alert.model}: alert {alert.rule} backs off: retrains do not mend it"


def _is_gone(judged: Judged, rule: MetricRule, slice: str, values: BySlice) -> bool:
    """Whether an alert is open on a slice that cannot be judged any more, while all rows together can."""
    key = judged.spec.name, rules.key_of(rule, slice)
    alert, state = judged.standing.alerts.get(key), judged.standing.states.get(key)
    if slice == ALL or not (alert and state) or rule.name in values.get(slice, {}) or rule.name not in values[ALL]:
        return False
    return rules.is_gone(state, judged.spec.monitoring.window, judged.now)


def _close_gone(judged: Judged, rule: MetricRule, slice: str) -> list[str]:
    key = judged.spec.name, rules.key_of(rule, slice)
    state = replace(judged.standing.states[key], alert_id="", fine=0, breaches=0)
    return [_close(judged, judged.standing.alerts[key], state, alert_texts.NO_ROWS, None)]


def _close_orphans(judged: Judged) -> list[str]:
    """Those whose rule is no longer in the spec."""
    of_model = [alert for (model, _), alert in judged.standing.alerts.items() if model == judged.spec.name]
    gone = rules.orphans(of_model, judged.spec.rules)
    return [
        _close(judged, one, RuleState(one.model, one.rule, seen_at=judged.now), alert_texts.NO_RULE, None)
        for one in gone
    ]
