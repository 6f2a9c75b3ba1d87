"""Fewer values for the library to judge, where they speak for others.

It takes a lambda and some passes over all values for an answer that many of them share. So it is asked once for each
distinct value where a column has few, and whether all lie between two limits first of the least, the greatest and
some more: what lies between two values that do, does. What it said of a value is remembered for the parts that come
after. Every answer is the library's own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from evergreen.adapters.gx_validator import frames, kinds
from evergreen.adapters.gx_validator.answers import Answers, Remembered
from evergreen.adapters.gx_validator.library import Config, Library, Result, error_of

FEW = 4  # a distinct value stands for this many rows at least
STEPS = 256  # so many values are asked for when many lie between two limits


class Witnesses:
    """The values of a column that are asked for. `every`: each distinct one of the column's is asked for, or known."""

    def __init__(self, column: pl.Series, answers: Answers) -> None:
        self.column, self._answers = column, answers
        self.missing = frames.is_missing(column)
        there = column.filter(~self.missing)
        self.every = False
        self.values = column.clear() if self._is_known(there) else self._chosen(there)
        first_missing = "missing" not in answers.asked and self.missing.any()
        self.a_missing = column.filter(self.missing).head(1 if first_missing else 0)
        if not len(self.values) and (first_missing or "value" not in answers.asked):
            self.values = there.head(1)  # company for the missing one

    @property
    def all(self) -> pl.Series:
        """The values, and a missing one."""
        return pl.concat([self.values, self.a_missing])

    def _is_known(self, there: pl.Series) -> bool:
        """Whether what was said before answers for all of them."""
        doubted = {at for at, one in self._answers.configs.items() if one["type"] not in kinds.NULLNESS}
        if not doubted or not len(there):
            return True
        fine = [self._answers.fine.get(at) for at in doubted]
        return all(ends is not None and ends.min() <= there.min() and there.max() <= ends.max() for ends in fine)  # type: ignore[operator]

    def _chosen(self, there: pl.Series) -> pl.Series:
        distinct = there.unique(maintain_order=True)
        if len(distinct) * FEW <= len(self.column):
            self.every = True
            return self._answers.new_among(distinct)
        ends = [there.filter(there == end).head(1) for end in (there.min(), there.max())]
        return pl.concat([*ends, there.gather_every(max(1, len(there) // STEPS))])

    def unexpected(self, at: int) -> pl.Series | None:
        """Which rows are; none where that does not follow from the answers."""
        answers = self._answers
        if answers.configs[at]["type"] in kinds.NULLNESS:
            rows = ~self.missing if at in answers.of_value else pl.repeat(False, len(self.column), eager=True)
        elif self.every:
            rows = ~self.missing & self.column.is_in(answers.unexpected[at].implode()).fill_null(False)
        elif self.doubtful(at).any():
            return None
        else:
            rows = pl.repeat(False, len(self.column), eager=True)
        return rows | self.missing if at in answers.of_missing else rows

    def doubtful(self, at: int) -> pl.Series:
        """The rows whose values do not lie between two that are expected; missing ones do not count."""
        if at not in self._answers.fine:
            return ~self.missing
        least, greatest = self._answers.fine[at]
        return ~self.missing & ~self.column.is_between(least, greatest).fill_null(False)


def judge(
    frame: pl.DataFrame, configs: Sequence[Config], nullable: Collection[str], remembered: Remembered
) -> dict[int, Any]:
    """Position in `configs` → which rows are unexpected (a mask), or the error, for those that need no more than this.

    The others are to be run on all rows. What the library says is remembered.
    """
    by_column: dict[str, dict[int, Config]] = {}
    for at, one in enumerate(configs):
        if one["type"] in kinds.BY_VALUE:
            by_column.setdefault(one["kwargs"]["column"], {})[at] = one
    known = {name: remembered.of(frame[name], those) for name, those in by_column.items()}
    witnesses = {name: Witnesses(frame[name], known[name]) for name in by_column}
    asked = {name: one.all for name, one in witnesses.items() if len(one.all)}
    found = _run(asked, {at: one for name in asked for at, one in by_column[name].items()}, nullable)
    for name in asked:
        known[name].add(
            witnesses[name].values,
            witnesses[name].a_missing,
            witnesses[name].every,
            {at: found[at] for at in by_column[name]},
        )
    answers: dict[int, Any] = {}
    for name, of_column in witnesses.items():
        for at, config in by_column[name].items():
            answer = known[name].errors.get(at) or of_column.unexpected(at)
            if answer is None and config["type"] == kinds.BETWEEN:
                answer = _judge_doubtful(of_column.column, config, of_column.doubtful(at), nullable)
            if answer is not None:
                answers[at] = answer if isinstance(answer, str) else np.asarray(answer, np.bool_)
    return answers


def _judge_doubtful(column: pl.Series, config: Config, rows: pl.Series, nullable: Collection[str]) -> Any:
    """One by one: the rows that could not be told from others."""
    (result,) = _run({column.name: column.filter(rows)}, {0: config}, nullable).values()
    if error := error_of(result):
        return error
    unexpected, where = np.zeros(len(column), np.bool_), np.flatnonzero(rows.to_numpy())
    unexpected[where[np.asarray(result["result"]["unexpected_index_list"], dtype=np.int64)]] = True
    return unexpected


def _run(columns: dict[str, pl.Series], configs: dict[int, Config], nullable: Collection[str]) -> dict[int, Result]:
    """The library on columns of their own lengths; the shorter ones go on with their first value."""
    longest = max(map(len, columns.values()), default=0)
    filled = {name: frames.to_numpy(_filled(one, longest), nullable=name in nullable) for name, one in columns.items()}
    return dict(zip(configs, Library(pd.DataFrame(filled)).run(list(configs.values())), strict=True)) if configs else {}


def _filled(column: pl.Series, length: int) -> pl.Series:
    more = column.head(1).new_from_index(0, length - len(column)) if len(column) < length else column.clear()
    return pl.concat([column, more])
