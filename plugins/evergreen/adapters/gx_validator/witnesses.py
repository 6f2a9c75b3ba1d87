"""Fewer values for the library to judge, where they speak for others.

It takes a lambda and some passes over all values for an answer that many of them share. So it is asked once for each
distinct value where a column has few, and whether all lie between two limits first of the least, the greatest and
some more: what lies between two values that do, does. Every answer is the library's own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from evergreen.adapters.gx_validator import frames, kinds
from evergreen.adapters.gx_validator.library import Config, Library, Result, error_of

FEW = 4  # a distinct value stands for this many rows at least
STEPS = 256  # so many values are asked for when many lie between two limits


@dataclass(frozen=True)
class Witnesses:
    """Values of a column that are asked for, and a missing one last where the column has one."""

    column: pl.Series
    values: pl.Series
    missing: pl.Series  # which rows are
    all_values: bool  # each distinct value is among them

    @classmethod
    def of(cls, column: pl.Series, *, asked_for_missing_alone: bool) -> Witnesses:
        """What is to be asked for: any one value if only whether it is missing counts."""
        missing = frames.is_missing(column)
        there = column.filter(~missing)
        if asked_for_missing_alone:
            return cls(column, there.head(1), missing, all_values=False)
        distinct = there.unique(maintain_order=True)
        if len(distinct) * FEW <= len(column):
            return cls(column, distinct, missing, all_values=True)
        ends = pl.concat([there.filter(there == there.min()).head(1), there.filter(there == there.max()).head(1)])
        return cls(column, pl.concat([ends, there.gather_every(max(1, len(there) // STEPS))]), missing, False)

    @property
    def asked(self) -> pl.Series:
        """The values, and a missing one."""
        return pl.concat([self.values, self.column.filter(self.missing).head(1)])

    def rows(self, unexpected: Sequence[int]) -> np.ndarray:
        """The rows that answers stand for, by the positions of those in `asked` that were unexpected."""
        found = self.values.gather([at for at in unexpected if at < len(self.values)])
        rows = self.column.is_in(found.implode()).fill_null(False) & ~self.missing
        if len(self.values) in unexpected:
            rows = rows | self.missing
        return rows.to_numpy()

    def missing_rows(self, unexpected: Sequence[int]) -> np.ndarray:
        """The same where only whether a value is missing counts."""
        rows = np.zeros(len(self.column), np.bool_)
        for at in unexpected:
            rows |= (self.missing if at >= len(self.values) else ~self.missing).to_numpy()
        return rows

    def doubtful(self, unexpected: Sequence[int]) -> pl.Series:
        """The rows whose values do not lie between two that are expected; missing ones do not count."""
        fine = self.values.filter(~pl.Series(np.isin(np.arange(len(self.values)), unexpected)))
        if not len(fine):
            return ~self.missing
        return ~self.missing & ~self.column.is_between(fine.min(), fine.max()).fill_null(False)


def judge(frame: pl.DataFrame, configs: Sequence[Config], nullable: Collection[str]) -> dict[int, Any]:
    """Position in `configs` → which rows are unexpected (a mask), or the error, for those that need no more than this.

    The others are to be run on all rows.
    """
    able = {at: one for at, one in enumerate(configs) if one["type"] in kinds.BY_VALUE}
    by_column: dict[str, list[Config]] = {}
    for one in able.values():
        by_column.setdefault(one["kwargs"]["column"], []).append(one)
    asked = {name: _witnesses(frame[name], ones) for name, ones in by_column.items()}
    found = _run({name: one.asked for name, one in asked.items()}, able, nullable)
    answers: dict[int, Any] = {}
    between: dict[int, pl.Series] = {}
    for at, config in able.items():
        witnesses, result = asked[config["kwargs"]["column"]], found[at]
        if error_of(result):
            answers[at] = error_of(result)
            continue
        unexpected = [row for row in result["result"]["unexpected_index_list"] if row < len(witnesses.asked)]
        if config["type"] in kinds.NULLNESS:
            answers[at] = witnesses.missing_rows(unexpected)
        elif witnesses.all_values:
            answers[at] = witnesses.rows(unexpected)
        elif config["type"] == kinds.BETWEEN:
            between[at] = witnesses.doubtful(unexpected)
    return answers | _judge_doubtful(frame, configs, between, nullable)


def _witnesses(column: pl.Series, configs: Sequence[Config]) -> Witnesses:
    return Witnesses.of(column, asked_for_missing_alone=all(one["type"] in kinds.NULLNESS for one in configs))


def _judge_doubtful(
    frame: pl.DataFrame, configs: Sequence[Config], doubtful: dict[int, pl.Series], nullable: Collection[str]
) -> dict[int, Any]:
    """One by one: the rows that could not be told from others."""
    answers: dict[int, Any] = {}
    for at, rows in doubtful.items():
        name, unexpected = configs[at]["kwargs"]["column"], np.zeros(frame.height, np.bool_)
        answers[at] = unexpected
        if rows.any():
            (result,) = _run({name: frame[name].filter(rows)}, {at: configs[at]}, nullable).values()
            if error_of(result):
                answers[at] = error_of(result)
            else:
                where = np.flatnonzero(rows.to_numpy())
                unexpected[where[np.asarray(result["result"]["unexpected_index_list"], dtype=np.int64)]] = True
    return answers


def _run(columns: dict[str, pl.Series], configs: dict[int, Config], nullable: Collection[str]) -> dict[int, Result]:
    """The library on columns of their own lengths; the shorter ones go on with their first value."""
    longest = max(map(len, columns.values()), default=0)
    filled = {name: frames.to_numpy(_filled(one, longest), nullable=name in nullable) for name, one in columns.items()}
    return dict(zip(configs, Library(pd.DataFrame(filled)).run(list(configs.values())), strict=True)) if configs else {}


def _filled(column: pl.Series, length: int) -> pl.Series:
    more = column.head(1).new_from_index(0, length - len(column)) if len(column) < length else column.clear()
    return pl.concat([column, more])
