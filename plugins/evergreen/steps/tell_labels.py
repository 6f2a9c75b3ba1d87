"""Posts the labels of a file to serving, in requests of bounded size: a label that is posted twice counts once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from evergreen.core import logged_parts as parts
from evergreen.core.errors import FoundProblem
from evergreen.steps.find_answers import keys_of, one_a_request

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import ServingConnection
    from evergreen.steps.find_answers import Answers

TOGETHER = 1_000  # records of a request: with labels of any length less than the 1 MB that serving takes
_ROW = "_row"


@dataclass
class Told:
    """How many rows were read, labels posted, rows left out for want of a label, and rows by key of which no answer was
    found or whose request had several rows."""

    rows: int = 0
    posted: int = 0
    without_label: int = 0
    unknown: int = 0
    ambiguous: int = 0


def tell_labels(
    connection: ServingConnection,
    answers: Answers,
    frames: Iterable[pl.DataFrame],
    days: Sequence[date],
    progress: Callable[[int], None] = lambda rows: None,
) -> Told:
    """Post each row's label. Rows by key are of the answers of these days. `progress` is told how many rows are done.

    Raises FoundProblem for a row that is wrong, by its number from 0; those before it may have been posted.
    """
    import polars as pl

    done = Told()
    for frame in frames:
        numbered = frame.with_row_index(_ROW, offset=done.rows)
        rows = numbered.filter(pl.col(parts.LABEL).is_not_null())
        done.without_label += frame.height - rows.height
        by_id = rows if parts.ID in frame.columns else _joined(answers, rows, days, done)
        records = list(_records(by_id))
        for begin in range(0, len(records), TOGETHER):
            done.posted += connection.tell(answers.model, records[begin : begin + TOGETHER])
            progress(done.rows + min(begin + TOGETHER, frame.height))
        done.rows += frame.height
        progress(done.rows)
    return done


def _joined(answers: Answers, rows: pl.DataFrame, days: Sequence[date], done: Told) -> pl.DataFrame:
    """Rows by key with the inference ids of the answers to it, of which there may be several."""
    import polars as pl

    keyed = rows.with_columns(keys_of(rows, parts.KEY).alias(parts.KEY))
    found = answers.of(keyed[parts.KEY].drop_nulls(), days)
    single = one_a_request(found)
    known, clear = (pl.col(parts.KEY).is_in(one[parts.KEY].unique().implode()) for one in (found, single))
    done.unknown += keyed.filter(~known.fill_null(value=False)).height
    done.ambiguous += keyed.filter(known & ~clear).height
    return keyed.join(single.select(parts.KEY, parts.ID), on=parts.KEY, how="inner")


def _records(rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """As serving takes them, of each id the last: twice in one request is refused."""
    names = [name for name in (_ROW, parts.ID, parts.LABEL, parts.AT) if name in rows.columns]
    last = rows.unique(parts.ID, keep="last", maintain_order=True)
    for row in last.select(names).iter_rows(named=True):
        number, inference_id = row[_ROW], str(row[parts.ID])
        if parts.milliseconds_of(inference_id) is None:
            raise _wrong(number, parts.ID, inference_id, "an inference id as an answer has it")
        record = {parts.ID: inference_id.lower(), parts.LABEL: _label(number, row[parts.LABEL])}
        at = row.get(parts.AT)
        yield record if at is None else {**record, parts.AT: _time(number, at)}


def _label(row: int, value: Any) -> float | str:
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        raise _wrong(row, parts.LABEL, value, "a finite number, or the name of a class")
    return float(value)


def _time(row: int, value: Any) -> str:
    """With its zone; UTC where it names none."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()
    except (AttributeError, ValueError):
        raise _wrong(row, parts.AT, value, "a time such as 2013-06-01T12:00:00Z") from None


def _wrong(row: int, column: str, value: Any, allowed: str) -> FoundProblem:
    do = "Correct it and run the command again: labels that were posted already are not counted twice."
    return FoundProblem(f"row {row}, column '{column}'", found=f"'{str(value)[:60]}'", allowed=allowed, do=do)
