"""When a rule on a metric opens an alert, asks for a retrain, and closes its alert. Facts in, a move out.

A rule opens its alert after `for` passes in a row with a breach, and closes it after as many without one: a single odd
window does neither, and a new champion begins to count anew. A pass that cannot judge it (too few rows, no champion)
leaves everything as it is.
An alert that has come and gone, and come again, within a day is flapping: it stays open until the day is over.
A rule of a trigger asks for a retrain when its alert opens, and again after its cooldown while it is broken. If the
last two retrains did not help, it asks ever more seldom: the data may have changed in a way that no retrain mends.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeAlias

from evergreen.core.monitoring import names
from evergreen.core.records import ALL, Alert, RuleState
from evergreen.core.spec_monitoring import MetricRule, MetricTrigger

LONGEST_KEY = 250  # characters, of the ledger's column
FLAPPING = 4  # changes of an alert within FLAPPING_WITHIN, the one that is not made among them
FLAPPING_WITHIN = timedelta(hours=24)
ENOUGH = 2  # retrains in a row that did not help: the rule backs off
GONE_AFTER = timedelta(days=1)  # at least so long without a judgement, the alert of a slice is closed
BACK_OFF_FROM, BACK_OFF_TO = timedelta(hours=1), timedelta(days=7)


class Value(Protocol):
    """A metric over a window, and on how many rows it rests."""

    @property
    def value(self) -> float:
        """In the metric's own unit."""

    @property
    def rows(self) -> int:
        """Answers in the window, or labels."""


@dataclass(frozen=True)
class Facts:
    """What a move rests on, beside the rule and its state.

    `version` is the champion's, none where there is none, and `since` when it began to answer; `slice` is ALL or
    `<feature>=<value>`; `window` is told to people ('1d'); `new_id` is the id of an alert that this pass may open.
    `waiting`: a retrain that the alert asked for is not over, its release included. `unhelpful`: how many of the newest
    retrains that it caused, in a row, did not help.
    """

    now: datetime
    version: int | None
    window: str
    new_id: str
    slice: str = ALL
    since: datetime | None = None
    waiting: bool = False
    unhelpful: int = 0


@dataclass(frozen=True)
class Open:
    """Open this alert, and keep the state with it; `asks`: then ask for a retrain."""

    alert: Alert
    state: RuleState
    asks: bool


@dataclass(frozen=True)
class Ask:
    """Ask for a retrain, again or because it could not be asked for when the alert opened."""

    state: RuleState


@dataclass(frozen=True)
class Close:
    """Close the alert, and keep the state with it."""

    state: RuleState


@dataclass(frozen=True)
class Nothing:
    """Keep the state, if it is another one. `flapping`: the alert would close here, and stays open: tell people, once.
    `backs_off_until`: it would ask here, and does not before then: tell people, once for each `unhelpful`."""

    state: RuleState
    flapping: bool = False
    backs_off_until: datetime | None = None


Move: TypeAlias = Open | Ask | Close | Nothing


def key_of(rule: MetricRule, slice: str = ALL) -> str:
    """Names a rule of a model in the ledger: 'drift.psi.max>0.2', 'quality.realised.auc<0.62[carrier=UA]'.

    `slice` is `<feature>=<value>`; ALL for a rule by slice gives the name of all its values, '…[carrier]'. What is
    longer than 250 characters is cut, and ends in a hash of the whole.
    """
    sign, apart = ">" if rule.direction == "above" else "<", slice or rule.slice
    text = f"{rule.name}{sign}{str(rule.limit).removesuffix('.0')}" + (f"[{apart}]" if apart else "")
    if len(text) <= LONGEST_KEY:
        return text
    ending = f"…{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return text[: LONGEST_KEY - len(ending)] + ending


def judge_rule(rule: MetricRule, state: RuleState, value: Value | None, alert: Alert | None, facts: Facts) -> Move:
    """What this pass makes of a rule. `value`: none where it cannot be told; `alert`: the rule's open one, if any."""
    if facts.version is None or value is None or not math.isfinite(value.value):
        return Nothing(state)
    state = _of_champion(rule, state, facts)
    if not rule.is_broken(value.value):
        return _without_breach(rule, replace(state, breaches=0, fine=state.fine + 1, seen_at=facts.now), alert, facts)
    seen = replace(state, breaches=state.breaches + 1, fine=0, seen_at=facts.now)
    if alert:
        return _goes_on(rule, seen, facts)
    if seen.breaches < rule.passes:
        return Nothing(seen)
    opened = replace(seen, alert_id=facts.new_id, changes=(*_recent(seen, facts.now), facts.now))
    return Open(_alert(rule, state, value, facts), opened, asks=_may_ask(rule, seen, facts, unhelpful=0))


def asked(state: RuleState, now: datetime) -> RuleState:
    """The state to keep once the retrain is asked for."""
    return replace(state, asked_at=now)


def dedupe_key(state: RuleState, alert_id: str) -> str:
    """Of the request that an alert opens next: the same until `asked` is kept, so that a killed pass asks once."""
    before = f"{state.asked_at.astimezone(UTC):%Y%m%dT%H%M%S.%f}" if state.asked_at else "first"
    return f"metric:{state.rule}:{alert_id}:{before}"


def worst_of(alert: Alert, value: Value) -> float:
    """The farthest from the limit so far, this value included."""
    if not math.isfinite(value.value):
        return alert.worst
    return (max if alert.direction == "above" else min)(alert.worst, value.value)


def cooldown_of(rule: MetricTrigger, unhelpful: int) -> timedelta:
    """How long after it asked for a retrain a rule may ask again.

    From the second one on that did not help it is doubled each time, from an hour at least, up to 7 days.
    """
    if unhelpful < ENOUGH:
        return rule.cooldown
    doubled = max(rule.cooldown, BACK_OFF_FROM) * (1 << min(unhelpful - ENOUGH + 1, 8))  # 8: an hour is past 7 days
    return max(rule.cooldown, min(doubled, BACK_OFF_TO))


def orphans(alerts: Iterable[Alert], rules: Sequence[MetricRule]) -> list[Alert]:
    """Open alerts of a model none of whose rules they belong to any more: their limit was changed, or removed."""
    return [alert for alert in alerts if not any(_is_of(alert, rule) for rule in rules)]


def _is_of(alert: Alert, rule: MetricRule) -> bool:
    same_limit = (alert.metric, alert.direction, alert.limit) == (rule.name, rule.direction, rule.limit)
    return same_limit and (alert.slice.startswith(f"{rule.slice}=") if rule.slice else alert.slice == ALL)


def is_gone(state: RuleState, window: timedelta, now: datetime) -> bool:
    """Whether a rule of a slice could not be judged for so long that nobody knows more of it."""
    return state.seen_at is not None and now - state.seen_at >= max(2 * window, GONE_AFTER)


# ---------------------------------------------------------------- moves


def _of_champion(rule: MetricRule, state: RuleState, facts: Facts) -> RuleState:
    """Passes that judged the version before this champion are no passes in a row with those to come."""
    earlier = facts.since and state.seen_at and state.seen_at < facts.since
    return replace(state, breaches=0, fine=0) if earlier and names.of_version(rule.name) else state


def _goes_on(rule: MetricRule, state: RuleState, facts: Facts) -> Move:
    """Broken still, and its alert is open."""
    if _may_ask(rule, state, facts, facts.unhelpful):
        return Ask(state)
    if isinstance(rule, MetricTrigger) and state.asked_at and _may_ask(rule, state, facts, unhelpful=0):
        return Nothing(state, backs_off_until=state.asked_at + cooldown_of(rule, facts.unhelpful))
    return Nothing(state)


def _without_breach(rule: MetricRule, state: RuleState, alert: Alert | None, facts: Facts) -> Move:
    if alert is None or state.fine < rule.passes:
        return Nothing(state)
    recent = _recent(state, facts.now)
    if len(recent) + 1 >= FLAPPING:
        return Nothing(state, flapping=state.fine == rule.passes)
    return Close(replace(state, alert_id="", changes=(*recent, facts.now)))


def _may_ask(rule: MetricRule, state: RuleState, facts: Facts, unhelpful: int) -> bool:
    if not isinstance(rule, MetricTrigger) or facts.waiting:
        return False
    return state.asked_at is None or facts.now - state.asked_at >= cooldown_of(rule, unhelpful)


def _recent(state: RuleState, now: datetime) -> tuple[datetime, ...]:
    return tuple(at for at in state.changes if now - at < FLAPPING_WITHIN)


def _alert(rule: MetricRule, state: RuleState, value: Value, facts: Facts) -> Alert:
    assert facts.version is not None, "a model without a champion is not judged"
    return Alert(
        id=facts.new_id,
        model=state.model,
        rule=state.rule,
        metric=rule.name,
        slice=facts.slice,
        severity=rule.severity,
        version=facts.version,
        value=value.value,
        limit=rule.limit,
        direction=rule.direction,
        window=facts.window,
        rows=value.rows,
        opened_at=facts.now,
        worst=value.value,
    )
