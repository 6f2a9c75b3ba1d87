"""What is wrong with a spec's monitoring as a whole: rules that could never be judged, or that say the same twice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic_core import InitErrorDetails

from evergreen.core.metrics import METRICS_BY_TASK, Task
from evergreen.core.monitoring import names
from evergreen.core.monitoring.ranges import range_of
from evergreen.core.monitoring.rules import key_of
from evergreen.core.spec_fields import did_you_mean, refusal
from evergreen.core.spec_monitoring import MetricRule, Monitoring

_Found = Iterator[InitErrorDetails]
Place = tuple[str | int, ...]
QUALITY = (names.REALISED, names.ESTIMATED, names.REALISED_LOSS, names.ESTIMATED_LOSS)


@dataclass(frozen=True)
class Watched:
    """What of a spec decides which rules can be judged. `log_sample`: the fraction of requests that is logged."""

    task: Task
    features: Sequence[str]
    categorical: Sequence[str]
    not_logged: Sequence[str]
    log_sample: float

    @property
    def logged(self) -> list[str]:
        """The features whose values are known."""
        return [name for name in self.features if name not in self.not_logged]

    @property
    def metrics(self) -> list[str]:
        """The names that a rule may have, but for those of users."""
        return list(names.known(self.task, self.logged, self.categorical))


def monitoring_problems(monitoring: Monitoring, rules: Sequence[tuple[Place, MetricRule]], watched: Watched) -> _Found:
    """All of it. `rules`: those of the triggers and of monitoring.alerts, each with its place in the file."""
    known = watched.metrics
    yield from _slices(monitoring, watched)
    if monitoring.labels and not watched.log_sample:
        yield _unlogged(("monitoring", "labels"), "labels")
    seen: dict[str, Place] = {}
    for place, rule in rules:
        wrong = [*_name(place, rule, watched, known), *_slice(place, rule, monitoring)]
        wrong = wrong or list(_reach(place, rule))
        yield from wrong
        if (key := key_of(rule)) in seen:
            yield _twice(place, rule, seen[key])
        elif not wrong and not watched.log_sample and names.of_rows(rule.name):
            yield _unlogged((*place, "name"), rule.name)
        seen.setdefault(key, place)


# ---------------------------------------------------------------- names


def _name(place: Place, rule: MetricRule, watched: Watched, known: Sequence[str]) -> _Found:
    if rule.name in known or names.is_users(rule.name):
        return
    found, allowed, do = _of_another_task(rule, watched, known) or _not_kept(rule, watched) or _unknown(rule, known)
    yield refusal((*place, "name"), rule.name, found=found, allowed=allowed, do=do)


def _of_another_task(rule: MetricRule, watched: Watched, known: Sequence[str]) -> tuple[str, str, str] | None:
    """A quality metric that this task has not, or that cannot be estimated for it."""
    family, _, metric = rule.name.rpartition(".")
    others = [task.value for task in Task if metric in METRICS_BY_TASK[task]]
    if family not in QUALITY or not others:
        return None
    mine = [name for name in known if name.rpartition(".")[0] == family]
    if watched.task.value in others:
        return f"'{rule.name}', which is not estimated", ", ".join(mine), "Choose one of these, or watch it realised."
    found = f"'{rule.name}', a metric of {' and '.join(others)}"
    return found, f"{', '.join(mine)} (for {watched.task.value})", "Choose a metric that this task has."


def _not_kept(rule: MetricRule, watched: Watched) -> tuple[str, str, str] | None:
    """Of a feature whose values nobody keeps."""
    whole = names.known(watched.task, watched.features, watched.categorical)
    if rule.name not in set(whole):
        return None
    feature = next((name for name in watched.not_logged if rule.name.endswith(f".{name}")), "")
    of = f"'{feature}', which stands in features.not_logged" if feature else "features, none of which is logged"
    allowed, do = "a metric of what the prediction log keeps", "Remove the rule, or let the feature be logged."
    return f"'{rule.name}' of {of}", allowed, do


def _unknown(rule: MetricRule, known: Sequence[str]) -> tuple[str, str, str]:
    allowed = f"{', '.join(names.forms(known))}, {names.USER}<name>"
    if rule.name.startswith(names.USER):
        do = "After 'user.': letters, digits, '_', '.' and '-', up to 100, the first a letter or a digit."
        return f"'{rule.name}'", allowed, do
    worst = f"{rule.name}.{names.MAX}"
    near = f"Did you mean '{worst}'?" if worst in known else did_you_mean(rule.name, known)
    do = near or f"Choose one of these; a metric of your own is posted, and is called {names.USER}<name>."
    return f"'{rule.name}', which is no metric of this model", allowed, do


# ---------------------------------------------------------------- slices


def _slices(monitoring: Monitoring, watched: Watched) -> _Found:
    may = [name for name in watched.categorical if name not in watched.not_logged]
    for at, name in enumerate(monitoring.slices):
        place = ("monitoring", "slices", at)
        if name in monitoring.slices[:at]:
            found, do = f"'{name}' a second time", "Remove one of them."
            yield refusal(place, name, found=found, allowed="each feature once", do=do)
        elif name not in may:
            yield refusal(
                place, name, found=_why_no_slice(name, watched), allowed=_or_none(may), do=_instead(name, may)
            )


def _why_no_slice(name: str, watched: Watched) -> str:
    if name in watched.not_logged:
        return f"'{name}', which stands in features.not_logged"
    return f"'{name}', which is {'a number' if name in watched.features else 'no feature'}"


def _or_none(may: Sequence[str]) -> str:
    return f"categorical features: {', '.join(may)}" if may else "categorical features, of which this model has none"


def _instead(name: str, may: Sequence[str]) -> str:
    return did_you_mean(name, may) or ("Choose one of these." if may else "Remove it.")


def _slice(place: Place, rule: MetricRule, monitoring: Monitoring) -> _Found:
    if rule.slice is None:
        return
    if not names.by_slice(rule.name):
        found, allowed = f"'slice' with {rule.name}", "a metric that is known of slices"
        do = "Remove 'slice': it is known of all rows together only."
        yield refusal((*place, "slice"), rule.slice, found=found, allowed=allowed, do=do)
    elif rule.slice not in monitoring.slices:
        allowed = f"one of monitoring.slices: {', '.join(monitoring.slices) or 'none so far'}"
        do = did_you_mean(rule.slice, monitoring.slices) or "Add it to monitoring.slices."
        yield refusal((*place, "slice"), rule.slice, found=f"'{rule.slice}'", allowed=allowed, do=do)


# ---------------------------------------------------------------- rules that do nothing


def _reach(place: Place, rule: MetricRule) -> _Found:
    """A limit that no value of the metric lies beyond, or that all do."""
    low, high = range_of(rule.name)
    is_above = rule.direction == "above"
    never = rule.limit >= high if is_above else rule.limit <= low
    always = rule.limit < low if is_above else rule.limit > high
    if not (never or always):
        return
    found = f"{rule.direction} {rule.limit:g}, which {rule.name} {'never is' if never else 'always is'}"
    ends = f"{low:g} and {high:g}" if math.isfinite(high) else f"{low:g} and anything"
    do = "As it stands the rule would never open an alert." if never else "As it stands its alert would never close."
    yield refusal((*place, rule.direction), rule.limit, found=found, allowed=f"between {ends}", do=do)


def _twice(place: Place, rule: MetricRule, first: Place) -> InitErrorDetails:
    where = ".".join(str(step) for step in first if isinstance(step, str))
    at = next(step for step in first if isinstance(step, int))
    return refusal(
        place,
        None,
        found=f"'{rule.words}' a second time",
        allowed=f"each limit once: {where.removesuffix('.metric')}[{at}] has it",
        do="Remove one of them: a trigger opens an alert too. Two severities of a metric need two limits.",
    )


def _unlogged(place: Place, what: str) -> InitErrorDetails:
    found = f"'{what}' with serving.log_sample 0"
    allowed = "what needs no logged rows: requests.error_rate, requests.latency_p99_ms, age.*, user.*"
    return refusal(place, None, found=found, allowed=allowed, do="Let a fraction of the requests be logged.")
