"""Times kept as text, as SQLite does: one form for the whole column, so that text order is time order.

2013-01-31 05:00:00            UTC; 'T' for the space; a fraction of up to six digits
2013-01-31T05:00:00.25+00:00   the same with '+00:00', or with 'Z' and always the same number of digits
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

ALLOWED = "UTC times as text in one form, '2013-01-31 05:00:00' (or with 'T', a fraction, and Z or +00:00)"
_FORM = re.compile(r"\d{4}-\d\d-\d\d([ T])\d\d:\d\d:\d\d(?:\.(\d{1,6}))?(Z|\+00:00)?")


@dataclass(frozen=True)
class TextTime:
    """The form of a column. `digits` of the fraction matter only before a 'Z', which sorts after any digit."""

    separator: str
    suffix: str
    digits: int

    @classmethod
    def of(cls, samples: Iterable[object]) -> TextTime:
        """The form that all samples have. Raises ValueError naming one that has another, or none."""
        forms = {sample: cls._of_one(sample) for sample in samples}
        first, *others = forms
        for other in others:
            if forms[other] != forms[first]:
                raise ValueError(f"{first!r} and {other!r}")
        return forms[first]

    @classmethod
    def _of_one(cls, sample: object) -> TextTime:
        match = _FORM.fullmatch(sample) if isinstance(sample, str) else None
        if match is None:
            raise ValueError(repr(sample))
        suffix = match[3] or ""
        form = cls(match[1], suffix, len(match[2] or "") if suffix == "Z" else 6)
        form.parse(sample)  # type: ignore[arg-type]  # the 31st of February
        return form

    def parse(self, text: str) -> datetime:
        """The time; ValueError naming the text if there is no such day or hour."""
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:
            raise ValueError(repr(text)) from None

    def upper(self, time: datetime) -> str:
        """Text that is not below any text of a time up to this one, and below that of every later one."""
        text = f"{time.astimezone(UTC):%Y-%m-%d{self.separator}%H:%M:%S}"
        fraction = f"{time.microsecond:06d}"[: self.digits]
        return f"{text}.{fraction}{self.suffix}" if fraction else text + self.suffix

    def lower(self, time: datetime) -> str:
        """Text that is not above any text of this time or of a later one, and above that of every earlier one.

        Before a 'Z', earlier times whose difference the column's digits cannot show are not told apart.
        """
        text = f"{time.astimezone(UTC):%Y-%m-%d{self.separator}%H:%M:%S}"
        fraction = f"{time.microsecond:06d}"[: self.digits].rstrip("0" if self.suffix != "Z" else "")
        return f"{text}.{fraction}" if fraction else text

    @property
    def pattern(self) -> str:
        """Regular expression of the form, for checking a whole column."""
        fraction = r"(\.\d{1,6})?"
        if self.suffix == "Z":
            fraction = rf"\.\d{{{self.digits}}}" if self.digits else ""
        return rf"^\d{{4}}-\d\d-\d\d{self.separator}\d\d:\d\d:\d\d{fraction}{re.escape(self.suffix)}$"
