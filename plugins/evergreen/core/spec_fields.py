"""What the model spec's fields are made of: durations, cron lines, XGBoost parameters, and refusals that teach."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from evergreen.core.cron_jitter import ALLOWED, BadJitter, resolve

_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LONGEST = timedelta(days=36_500)
DURATION_WORDS = "a whole number and a unit, such as 30s, 10m, 6h or 90d, up to 36500d"


Name = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[a-z0-9][a-z0-9-]*$")]
Column = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """A part of the spec: unknown keys are errors, and a text is not taken for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def did_you_mean(word: object, allowed: Iterable[str]) -> str:
    """'Did you mean 'x'?' for a near miss, else an empty text."""
    names = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(str(word).lower(), names, n=1, cutoff=0.6)
    return f"Did you mean '{names[near[0]]}'?" if near else ""


def refusal(at: tuple[str | int, ...], value: Any, *, found: str, allowed: str, do: str) -> InitErrorDetails:
    """One thing that is wrong with the key `at` (relative to the part that is being checked)."""
    facts = {"found": found, "allowed": allowed, "do": do}
    error = PydanticCustomError("evergreen", "found {found}; allowed: {allowed}. {do}", facts)
    return InitErrorDetails(type=error, loc=at, input=value)


def refuse(refusals: list[InitErrorDetails]) -> None:
    """Raise all refusals at once, if there are any (pydantic puts the part's own path before theirs)."""
    if refusals:
        raise ValidationError.from_exception_data("model spec", refusals)


def refuse_one(value: Any, *, found: str, allowed: str, do: str) -> None:
    """Raise one refusal of the value itself."""
    refuse([refusal((), value, found=found, allowed=allowed, do=do)])


# ---------------------------------------------------------------- durations


def parse_duration(value: Any) -> Any:
    """'90d', '6h', '10m' or '0s' as a timedelta; anything else is refused."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    length = timedelta(seconds=int(match[1]) * _SECONDS[match[2]]) if match else None
    if length is None or length > _LONGEST:
        refuse_one(value, found=shown(value), allowed=DURATION_WORDS, do="Write the duration with its unit.")
    return length


def format_duration(length: timedelta) -> str:
    """The shortest text that `parse_duration` reads as this length: '90d', '6h', '0s'."""
    seconds = int(length.total_seconds())
    unit = next(unit for unit, size in _SECONDS.items() if seconds % size == 0 and (seconds or unit == "s"))
    return f"{seconds // _SECONDS[unit]}{unit}"


def longer_than_zero(value: Any) -> Any:
    """As `parse_duration`; '0s' is refused too."""
    length = parse_duration(value)
    if not length:
        refuse_one(value, found=shown(value), allowed="longer than 0s", do="Write how long it is, such as 14d.")
    return length


_DURATION_SCHEMA = WithJsonSchema(
    {"type": "string", "pattern": r"^[0-9]{1,9}[smhd]$", "examples": ["90d", "6h", "10m"]}
)
_AS_TEXT = PlainSerializer(format_duration, return_type=str, when_used="json")
Duration = Annotated[timedelta, BeforeValidator(parse_duration), _AS_TEXT, _DURATION_SCHEMA]
LongerThanZero = Annotated[timedelta, BeforeValidator(longer_than_zero), _AS_TEXT, _DURATION_SCHEMA]


# ---------------------------------------------------------------- cron lines


def check_cron(line: str) -> str:
    """Refuse a line that Airflow's cron parser would refuse, or that names a day that never comes.

    An `H` stays (core.cron_jitter): the model's name puts a value in its place.
    """
    from croniter import CroniterError, croniter  # type: ignore[import-untyped]  # Airflow's own parser

    why = "" if len(line.split()) == 5 else "not five fields"
    try:
        croniter(_with_values(line)).get_next()
    except CroniterError as error:
        why = why or str(error)
    if why:
        refuse_one(
            line,
            found=f"'{line}' ({why})",
            allowed="a cron line of five fields in UTC: minute, hour, day of month, month, day of week",
            do="Write it as '0 3 * * *' for 03:00 UTC each day.",
        )
    return line


def _with_values(line: str) -> str:
    """Any model's, for its H."""
    try:
        return resolve(line, "")
    except BadJitter as error:
        do = "Write it as 'H 3 * * *': a minute of the model's own between 03:00 and 03:59 UTC each day."
        refuse_one(line, found=f"'{line}' ({error})", allowed=ALLOWED, do=do)
        raise


Cron = Annotated[str, Field(strict=True), BeforeValidator(lambda v: check_cron(v) if isinstance(v, str) else v)]


# ---------------------------------------------------------------- XGBoost parameters

SET_BY_EVERGREEN = {
    "objective": "it follows from 'task'",
    "eval_metric": "it follows from 'task'",
    "num_class": "it follows from 'task' and the labels",
    "booster": "only trees are served",
    "device": "write training.device",
    "seed": "write training.seed",
    "random_state": "write training.seed",
    "nthread": "the machine decides",
    "n_jobs": "the machine decides",
    "verbosity": "Evergreen logs",
    "num_boost_round": "write training.rounds.max",
    "n_estimators": "write training.rounds.max",
    "early_stopping_rounds": "write training.rounds.early_stopping",
}
TREE_PARAMS = (
    "alpha", "base_score", "colsample_bylevel", "colsample_bynode", "colsample_bytree", "eta", "gamma",
    "grow_policy", "interaction_constraints", "lambda", "learning_rate", "max_bin", "max_cat_threshold",
    "max_cat_to_onehot", "max_delta_step", "max_depth", "max_leaves", "min_child_weight", "min_split_loss",
    "monotone_constraints", "num_parallel_tree", "reg_alpha", "reg_lambda", "sampling_method", "scale_pos_weight",
    "subsample", "tree_method",
)  # fmt: skip


def check_params(params: dict[str, Any]) -> dict[str, Any]:
    """Refuse parameters that XGBoost would ignore, that Evergreen sets, or whose value is no scalar."""
    refuse([wrong for name, value in params.items() if (wrong := _wrong_param(name, value))])
    return params


def _wrong_param(name: str, value: Any) -> InitErrorDetails | None:
    if why := SET_BY_EVERGREEN.get(name):
        allowed, do = "tree parameters that Evergreen does not set itself", f"Remove it: {why}."
        return refusal((name,), value, found=f"'{name}'", allowed=allowed, do=do)
    if name not in TREE_PARAMS:
        do = did_you_mean(name, TREE_PARAMS) or "Remove it: XGBoost would ignore it."
        return refusal((name,), value, found=f"unknown parameter '{name}'", allowed=", ".join(TREE_PARAMS), do=do)
    if not isinstance(value, bool | int | float | str):
        allowed = "a number, a text, true or false"
        return refusal((name,), value, found=shown(value), allowed=allowed, do="Write one value.")
    return None


# ---------------------------------------------------------------- telling what was found

_LONGEST_SHOWN = 60


def shown(value: Any) -> str:
    """A value as YAML would hold it, cut to what a reader can take in."""
    match value:
        case None:
            text = "nothing (null)"
        case bool():
            text = "true" if value else "false"
        case str():
            text = f"'{value}'"
        case dict():
            text = f"a map with {', '.join(map(str, value))}" if value else "an empty map"
        case list():
            text = f"a list of {len(value)}: {', '.join(map(str, value))}" if value else "an empty list"
        case _:
            text = str(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
