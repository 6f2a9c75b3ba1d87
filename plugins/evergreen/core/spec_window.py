"""The spec's `window`: which rows are fitted on and judged on."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from evergreen.core.spec_fields import (
    DURATION_WORDS,
    LongerThanZero,
    Strict,
    format_duration,
    longer_than_zero,
    refusal,
    refuse,
    shown,
)

AUTO: Literal["auto"] = "auto"
_TRIED = (timedelta(days=30), timedelta(days=90), timedelta(days=180))
_MOST_TRIED = 5  # each costs some small fits before every retrain


def _length_or_auto(value: Any) -> Any:
    if value == AUTO:
        return AUTO
    if isinstance(value, str) and not value[:1].isdigit():
        allowed = f"{DURATION_WORDS}; or {AUTO}"
        refuse([refusal((), value, found=shown(value), allowed=allowed, do=f"Write a duration, or {AUTO}.")])
    return longer_than_zero(value)


LengthOrAuto = Annotated[
    timedelta | Literal["auto"],
    BeforeValidator(_length_or_auto),
    PlainSerializer(lambda value: value if value == AUTO else format_duration(value), when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9]{1,9}[smhd]|auto)$", "examples": ["90d", "auto"]}),
]


class Holdout(Strict):
    """The newest rows, on which the candidate is judged and never fitted."""

    length: LongerThanZero = Field(description="How much of the newest data is held out")
    min_rows: int = Field(default=1000, ge=1, description="Fewer rows than this: not judged")


class Window(Strict):
    """Counted back from as_of: holdout, then a gap of label.arrives_after, then train."""

    train: LengthOrAuto = Field(
        description="How much data is fitted on; `auto`: before each retrain the lengths in `tried` are, on past data"
    )
    tried: list[LongerThanZero] = Field(
        default=list(_TRIED), min_length=1, max_length=_MOST_TRIED, description="Of train: auto, the lengths to try"
    )
    season: LongerThanZero | None = Field(
        default=timedelta(days=365),
        description="Of train: auto, one more to try: the shortest of `tried`, and as much as followed so long ago, "
        "where the source has it; null: none",
    )
    holdout: Holdout = Field(description="The newest rows, on which the candidate is judged")

    @model_validator(mode="after")
    def _tries_what_can_be_told_apart(self) -> Window:
        defaults = {key: field.default for key, field in type(self).model_fields.items()}
        given = [key for key in ("tried", "season") if not self.is_auto and getattr(self, key) != defaults[key]]
        allowed, do = f"'train: {AUTO}' with it", f"Write train: {AUTO}, or remove it: nothing is tried."
        idle = [refusal((key,), getattr(self, key), found=f"'{key}'", allowed=allowed, do=do) for key in given]
        twice = [
            refusal(
                ("tried", at),
                format_duration(length),
                found=f"{format_duration(length)} a second time",
                allowed="each length once",
                do="Remove one of them.",
            )
            for at, length in enumerate(self.tried)
            if length in self.tried[:at]
        ]
        refuse([*idle, *twice])
        return self

    @property
    def is_auto(self) -> bool:
        """Whether the length is chosen before each retrain."""
        return self.train == AUTO

    @property
    def lengths(self) -> list[timedelta]:
        """What may be fitted on, the shortest first: one, unless the length is chosen."""
        return sorted(self.tried) if self.train == AUTO else [self.train]

    @property
    def words(self) -> str:
        """For people: '90d', 'auto (30d, 90d, 180d, season 365d)'."""
        lengths = [format_duration(length) for length in self.lengths]
        if not self.is_auto:
            return lengths[0]
        return f"{AUTO} ({', '.join([*lengths, *([f'season {format_duration(self.season)}'] if self.season else [])])})"
