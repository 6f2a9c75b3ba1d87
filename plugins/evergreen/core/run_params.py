"""What whoever starts a run may ask for: the trigger form's fields, the REST API's `conf`, and what admit takes.

One pydantic model gives the form (`form`), the check (`RunParams.of`) and the table of the docs (`table`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator

from evergreen.core.errors import FoundProblem
from evergreen.core.spec_fields import (
    DURATION_WORDS,
    LongerThanZero,
    Strict,
    did_you_mean,
    refusal,
    refuse,
    refuse_one,
    shown,
)

NOTED = frozenset({"user", "triggered_by"})  # what Evergreen adds to a request's detail beside the parameters
MOMENT = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)"
MOMENT_WORDS = "a time with its zone, such as 2013-12-01T00:00:00Z"
_ALLOWED = {
    "window_end": MOMENT_WORDS,
    "window_train": DURATION_WORDS,
    "force": "true or false",
    "dry_run": "true or false",
    "tune": "true or false",
    "override": "the number of a version",
}


class BadRunParameter(FoundProblem):
    """Raised when a run was started with a parameter that is unknown or has no such value; a retry does not help."""


def _moment(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC)
    try:
        if isinstance(value, str) and re.fullmatch(MOMENT, value):
            return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # the 31st of February, a zone before the year 1
    return refuse_one(value, found=shown(value), allowed=MOMENT_WORDS, do="Write day, hour and zone.")


Moment = Annotated[
    datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time", "pattern": MOMENT})
]


class RunParams(Strict):
    """The parameters of one run. All may be left out; null and an empty text count as left out."""

    reason: str | None = Field(
        default=None, max_length=1000, title="Reason", description="Why; kept in the ledger and shown on the run"
    )
    force: bool = Field(
        default=False,
        title="Force",
        description="Retrain whatever hold, cooldown and min_rows say, and take up a candidate again that was "
        "rejected, declined or rolled back; the gates and the approval still decide",
    )
    window_end: Moment | None = Field(
        default=None,
        title="End of the window",
        description="Use no row later than this, a time with its zone; empty: the newest row whose label is complete",
    )
    window_train: LongerThanZero | None = Field(
        default=None,
        title="Length of the training window",
        description="Instead of the spec's window.train, such as 120d",
    )
    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Everything up to the verdict, whatever hold and cooldown say; then the run ends: nobody is asked, "
        "nothing is released",
    )
    tune: bool = Field(
        default=False,
        title="Tune",
        description="Look for better tree parameters before the fit, although the last tuning is younger than "
        "training.tuning.every; nothing happens where the spec has no training.tuning",
    )
    override: int | None = Field(
        default=None,
        ge=1,
        title="Override",
        description="A version that was refused and is wanted all the same: it is judged again as it is, and a person "
        "decides with a reason, whatever its gates say. A person's runs only; needs `reason`",
    )
    requested_by: str | None = Field(
        default=None,
        max_length=200,
        title="On behalf of",
        description="For scripts that start runs for a person: who asks; such a run counts as a person's",
    )

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, values: Any) -> Any:
        return _given(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _override_stands_alone(self) -> RunParams:
        if self.override is None:
            return self
        beside = [name for name in ("force", "window_end", "window_train", "dry_run", "tune") if getattr(self, name)]
        if beside:
            found, do = f"{' and '.join(beside)} beside it", "Leave them out: the version is judged as it was made."
            refuse([refusal(("override",), self.override, found=found, allowed="override with a reason", do=do)])
        if not (self.reason or "").strip():
            found, do = "no reason", "Say in 'reason' why it is wanted although it was refused: others will read it."
            refuse([refusal(("override",), self.override, found=found, allowed="override with a reason", do=do)])
        return self

    @classmethod
    def of(cls, conf: Mapping[str, Any]) -> RunParams:
        """Check a run's conf, or the detail of its request. Raises BadRunParameter for the first thing wrong."""
        try:
            return cls.model_validate({name: value for name, value in conf.items() if name not in NOTED})
        except ValidationError as error:
            raise _told(error) from None


def given(conf: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's conf is worth keeping: all but what was left out."""
    return {name: value for name, value in _given(conf).items() if value is not False}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _told(error: ValidationError) -> BadRunParameter:
    first = error.errors(include_url=False)[0]
    name, facts = str(first["loc"][0]), first.get("ctx", {})
    where = f"run parameter '{name}'"
    if first["type"] == "evergreen":
        return BadRunParameter(where, found=facts["found"], allowed=facts["allowed"], do=facts["do"])
    names = list(RunParams.model_fields)
    if first["type"] == "extra_forbidden":
        do = did_you_mean(name, names) or "Leave it out."
        return BadRunParameter(where, found="no such parameter", allowed=", ".join(names), do=do)
    allowed = _ALLOWED.get(name) or f"a text of up to {_longest(name)} characters"
    return BadRunParameter(where, found=shown(first["input"]), allowed=allowed, do="Correct it, and start a new run.")


def _longest(name: str) -> int:
    limits = (getattr(part, "max_length", 0) for part in RunParams.model_fields[name].metadata)
    return max(limits, default=0)


# ---------------------------------------------------------------- told to others


def form() -> dict[str, dict[str, Any]]:
    """By parameter: its JSON Schema with `default`, `title` and `description`, each also accepting null.

    Patterns also accept an empty text: that is what a form sends for a field that was cleared.
    """
    return {name: _field(node) for name, node in RunParams.model_json_schema()["properties"].items()}


def _field(node: Mapping[str, Any]) -> dict[str, Any]:
    kind = next((one for one in node.get("anyOf", [node]) if one.get("type") != "null"), node)
    schema = {key: value for key, value in {**node, **kind}.items() if key not in ("anyOf", "examples")}
    if "pattern" in schema:
        schema["pattern"] = f"^({schema['pattern'].strip('^$')})?$"
    return {**schema, "type": [kind["type"], "null"]}


def table() -> str:
    """A Markdown table of all parameters, for the docs."""
    lines = [
        f"| `{name}` | {_ALLOWED.get(name, 'a text')} | {node['description']} |"
        for name, node in RunParams.model_json_schema()["properties"].items()
    ]
    return "\n".join(["| parameter | value | what it does |", "|---|---|---|", *lines]) + "\n"
