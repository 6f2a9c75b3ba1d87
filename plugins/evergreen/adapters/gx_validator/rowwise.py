"""Expectations on single rows: the library judges some parts together, and each part gets its own counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from evergreen.adapters.gx_validator import frames, kinds, witnesses
from evergreen.adapters.gx_validator.answers import Remembered
from evergreen.adapters.gx_validator.counts import MOST_VALUES, Counts, positions
from evergreen.adapters.gx_validator.library import Config, Library, as_json, error_of

ROWS = 200_000  # judged at once: hides the cost of a run, and takes some ten megabytes


@dataclass(frozen=True)
class RowChecks:
    """The expectations of a suite that judge single rows. `nullable`: see kinds.kind_of."""

    configs: Sequence[Config]
    nullable: Collection[str]
    remembered: Remembered = field(default_factory=Remembered)

    def judge(self, read: Sequence[pl.DataFrame]) -> list[list[Counts]]:
        """For each part, whose rows are given with types that pandas has too, what each expectation found there."""
        if not self.configs:
            return [[] for _ in read]
        together = pl.concat(read)
        runs = [together.slice(start, ROWS) for start in range(0, together.height, ROWS)]
        found = [[*zip(*pieces, strict=True)] for pieces in zip(*(self._unexpected(run) for run in runs), strict=True)]
        return _by_part(read, self.configs, found)

    def _unexpected(self, frame: pl.DataFrame) -> list[tuple[np.ndarray, str]]:
        """For each expectation the rows (a mask) that are unexpected, or its error."""
        answers = witnesses.judge(frame, self.configs, self.nullable, self.remembered)
        rest = {at: one for at, one in enumerate(self.configs) if at not in answers}
        if rest:
            results = Library(frames.to_pandas(frame, self.nullable)).run(list(rest.values()))
            answers |= {at: _mask(frame.height, result) for at, result in zip(rest, results, strict=True)}
        none = np.zeros(frame.height, np.bool_)
        return [(none, one) if isinstance(one, str) else (one, "") for _, one in sorted(answers.items())]


def _mask(height: int, result: Mapping[str, Any]) -> np.ndarray | str:
    if error := error_of(dict(result)):
        return error
    unexpected = np.zeros(height, np.bool_)
    unexpected[np.asarray(result["result"]["unexpected_index_list"], dtype=np.int64)] = True
    return unexpected


def _by_part(read: Sequence[pl.DataFrame], configs: Sequence[Config], found: Sequence[Any]) -> list[list[Counts]]:
    of_parts: list[list[Counts]] = []
    start = 0
    masks = [(np.concatenate(pieces), next(filter(None, errors), "")) for pieces, errors in found]
    for frame in read:
        end, ignore = start + frame.height, _Ignored(frame)
        of_parts.append(
            [
                counted(frame, config, np.flatnonzero(mask[start:end]), ignore.count(config["kwargs"]), error)
                for config, (mask, error) in zip(configs, masks, strict=True)
            ]
        )
        start = end
    return of_parts


class _Ignored:
    """How many rows of a frame are left out, each answer worked out once."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame
        self._known: dict[tuple[Any, ...], int] = {}

    def count(self, kwargs: Mapping[str, Any]) -> int:
        about = (*kinds.columns_of(kwargs), kwargs.get("ignore_row_if"), "column_list" in kwargs)
        if about not in self._known:
            self._known[about] = int(ignored(self._frame, kwargs).sum())
        return self._known[about]


def counted(frame: pl.DataFrame, config: Config, rows: np.ndarray, missing: int, error: str = "") -> Counts:
    """What an expectation found in a part whose rows are these, at these positions."""
    values = _values(frame, config["kwargs"], rows) if len(rows) else []
    return Counts(frame.height, missing, positions(rows.tolist()), values, error)


def ignored(frame: pl.DataFrame, kwargs: Mapping[str, Any]) -> pl.Series:
    """Which rows the library leaves out because values are missing."""
    columns = kinds.columns_of(kwargs)
    missing = pl.DataFrame([frames.is_missing(frame[name]).alias(name) for name in columns])
    how = str(kwargs.get("ignore_row_if") or ("all_values" if "column_list" in kwargs else "both_values"))
    if len(columns) > 1 and how.startswith(("neither", "never")):
        return pl.repeat(False, frame.height, eager=True)
    every = how.startswith(("both", "all")) or len(columns) == 1
    named = pl.all_horizontal(columns) if every else pl.any_horizontal(columns)
    return missing.select(named.alias("ignored"))["ignored"]


def _values(frame: pl.DataFrame, kwargs: Mapping[str, Any], rows: np.ndarray) -> list[Any]:
    """The first unexpected values: of several columns a map, of a pair a list."""
    named = kinds.columns_of(kwargs)
    shown = frames.to_pandas(frame.select(named)[rows[:MOST_VALUES].tolist()]).astype(object)
    shown = shown.where(shown.notna(), None)
    if len(named) == 1:
        return list(as_json(shown[named[0]].tolist()))
    records = shown.to_dict("records")
    return list(as_json(records if "column_list" in kwargs else [list(one.values()) for one in records]))
