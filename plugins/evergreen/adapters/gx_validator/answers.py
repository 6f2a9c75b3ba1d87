"""What the library said of single values of a column, remembered for the parts that come after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from evergreen.adapters.gx_validator import frames, kinds
from evergreen.adapters.gx_validator.library import Config, Result, error_of

REMEMBERED = 200_000  # values of a column
_WRITTEN = 5_000  # of them, for the next run: a note of some ten kilobytes


@dataclass
class Answers:
    """What the library said of values of one column, by the expectations' positions. `unexpected` are some of the
    `known` values, `fine` the least and the greatest of those that lie between two limits.
    """

    configs: Mapping[int, Config]
    known: pl.Series | None = None
    unexpected: dict[int, pl.Series] = field(default_factory=dict)
    fine: dict[int, pl.Series] = field(default_factory=dict)
    of_value: set[int] = field(default_factory=set)  # a value was unexpected
    of_missing: set[int] = field(default_factory=set)
    errors: dict[int, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)  # 'value' and 'missing'

    def add(self, values: pl.Series, a_missing: pl.Series, every: bool, results: Mapping[int, Result]) -> None:
        """What it said of these values and a missing one after them. `every`: they are all that were not known."""
        if every:
            self.known = values if self.known is None else pl.concat([self.known, values])
        self.asked |= {name for name, many in (("value", values), ("missing", a_missing)) if len(many)}
        for at, result in results.items():
            if error := error_of(result):
                self.errors[at] = error
                continue
            bad = np.zeros(len(values) + 1, np.bool_)
            asked = len(values) + len(a_missing)
            bad[[row for row in result["result"]["unexpected_index_list"] if row < asked]] = True
            self.of_missing |= {at} if len(a_missing) and bad[-1] else set()
            bad = bad[:-1]
            self.of_value |= {at} if bad.any() else set()
            if every:
                before = self.unexpected.get(at, values.clear())
                self.unexpected[at] = pl.concat([before, values.filter(pl.Series(bad))])
            if self.configs[at]["type"] == kinds.BETWEEN:
                self._widen(at, values.filter(pl.Series(~bad)))

    def new_among(self, values: pl.Series) -> pl.Series:
        """Those that it was not asked for. So many are not remembered: then these are all new again."""
        if self.known is not None and len(self.known) + len(values) > REMEMBERED:
            self.known, self.unexpected = None, {}
        return values if self.known is None else values.filter(~values.is_in(self.known.implode()))

    def _widen(self, at: int, fine: pl.Series) -> None:
        every = pl.concat([fine, self.fine[at]]) if at in self.fine else fine
        if len(every):
            self.fine[at] = pl.concat([every.filter(every == end).head(1) for end in (every.min(), every.max())])

    def written(self) -> dict[str, Any]:
        """As JSON has it. TypeError for values that it does not have."""
        few = self.known is not None and len(self.known) <= _WRITTEN
        return {
            "known": _listed(self.known) if few else None,
            "unexpected": {at: _listed(some) for at, some in self.unexpected.items()} if few else {},
            "fine": {at: _listed(ends) for at, ends in self.fine.items()},
            "of": [sorted(self.of_value), sorted(self.of_missing), sorted(self.asked)],
        }

    @classmethod
    def read(cls, configs: Mapping[int, Config], written: Mapping[str, Any], dtype: pl.DataType) -> Answers:
        """What was written of a column of that type."""
        known, (of_value, of_missing, asked) = written["known"], written["of"]
        return cls(
            configs,
            None if known is None else frames.from_physical(known, dtype),
            {int(at): frames.from_physical(some, dtype) for at, some in written["unexpected"].items()},
            {int(at): frames.from_physical(ends, dtype) for at, ends in written["fine"].items()},
            {*of_value},
            {*of_missing},
            asked={*asked},
        )


class Remembered:
    """The answers of all columns."""

    def __init__(self) -> None:
        self._written: dict[str, Any] = {}
        self._answers: dict[str, tuple[str, Answers]] = {}

    def recall(self, written: bytes) -> None:
        """Begin with what an earlier run wrote."""
        self._written = json.loads(written)

    def of(self, column: pl.Series, configs: Mapping[int, Config]) -> Answers:
        """Of a column, which must always be asked for with the same expectations."""
        name, dtype = column.name, str(column.dtype)
        if name not in self._answers:
            then, written = self._written.get(name, ("", {}))
            answers = Answers.read(configs, written, column.dtype) if then == dtype else Answers(configs)
            self._answers[name] = dtype, answers
        return self._answers[name][1]

    def written(self) -> bytes:
        """For a later run. TypeError for values that JSON does not have, ValueError where some could not be judged."""
        if any(one.errors for _, one in self._answers.values()):
            raise ValueError("errors are not kept")
        return json.dumps({name: (dtype, one.written()) for name, (dtype, one) in self._answers.items()}).encode()


def _listed(values: pl.Series) -> list[Any]:
    return values.to_physical().to_list()
