"""Brings the labels of a spec's own source (monitoring.labels) into the log, as parts of ground truth.

Read is what was written since the last time, by `told_at`, and once more what was written in the OVERLAP before: rows
that became visible late, and labels that came before their answers. What was joined already is known by its hash, and
not written again. What becomes of the parts is as with posted labels (count_labels): the label told last counts.

Written in this order, chunk by chunk: parts, then the state. Killed in between, a chunk is joined again: its labels
are there twice, and count once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core import logged_parts as parts
from evergreen.core import notices
from evergreen.core.forgotten import Forgotten
from evergreen.core.monitoring.day import days_of
from evergreen.core.monitoring.label_state import LabelState, from_bytes, key_of, to_bytes
from evergreen.core.records import Truth
from evergreen.steps.find_answers import Answers, keys_of, one_a_request
from evergreen.steps.watch_model import reach_of

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import Ledger, LoggedParts, PartWriter, Source, Store
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_monitoring import LabelSource

OVERLAP = timedelta(hours=1)
ENOUGH = 100  # labels that were read of which none is of an answer: people are told
_TOLD, _HASH = "told_at", "_hash"


@dataclass(frozen=True)
class Reading:
    """What labels are read with. `link`: the model's page."""

    ledger: Ledger
    store: Store
    log: LoggedParts
    writer: PartWriter
    link: str


@dataclass
class Read:
    """How many rows were new, joined with an answer, and of a request with several rows."""

    rows: int = 0
    joined: int = 0
    ambiguous: int = 0


def read_labels(reading: Reading, spec: ModelSpec, source: Source, now: datetime) -> list[str]:
    """Read what is new until now; what people should know of it, in sentences. Raises SourceError.

    A label that is told in the future, by a clock that is ahead, is read when its time has come.
    """
    described, done = spec.monitoring.labels, Read()
    assert described is not None, "only of a spec with a source of labels"
    name = described.model_dump_json()
    state = _load(reading.store, spec.name, name)
    start = state.until - OVERLAP if state.until else now - reach_of(spec)
    days = days_of(now - reach_of(spec), now + timedelta(hours=1))
    for chunk in source.read([described.key, described.label, described.told_at], start, now):
        if chunk.height:
            _take(reading, spec, _labels(chunk, described), days, state, done)
            reading.store.put(key_of(spec.name), to_bytes(state, name))
    return list(_told(reading, spec, done, now))


def _labels(chunk: pl.DataFrame, described: LabelSource) -> pl.DataFrame:
    """Rows with a key and a label: key, label (a number) or label_text, told_at, and a hash of all."""
    import polars as pl

    is_text = chunk.schema[described.label] in (pl.String, pl.Categorical)
    number = pl.lit(None, pl.Float64) if is_text else pl.col(described.label).cast(pl.Float64)
    text = pl.col(described.label).cast(pl.String) if is_text else pl.lit(None, pl.String)
    rows = chunk.select(
        keys_of(chunk, described.key).alias(parts.KEY),
        number.alias(parts.LABEL),
        text.alias(parts.LABEL_TEXT),
        pl.col(described.told_at).cast(pl.Datetime("ms", "UTC")).alias(_TOLD),
    )
    given = pl.col(parts.KEY).is_not_null() & (
        pl.col(parts.LABEL).is_not_null() | pl.col(parts.LABEL_TEXT).is_not_null()
    )
    return rows.with_columns(pl.struct(pl.all()).hash().alias(_HASH), given.alias("_given"))


def _take(
    reading: Reading, spec: ModelSpec, rows: pl.DataFrame, days: list[date], state: LabelState, done: Read
) -> None:
    """Join the rows that are new, write what comes of them, and note it in the state."""
    import polars as pl

    known = pl.Series(_HASH, state.hashes)
    new = rows.filter("_given", ~pl.col(_HASH).is_in(known.implode()))
    answers = Answers(reading.store, reading.log, spec.name).of(new[parts.KEY], days)
    single = one_a_request(answers)
    joined = single.join(new, on=parts.KEY, how="inner").sort(_TOLD, maintain_order=True)
    for (day,), told in joined.group_by(pl.col(parts.AT).dt.date(), maintain_order=True):
        _put_part(reading, spec, day, told.unique(parts.ID, keep="last", maintain_order=True))
    found = new.filter(pl.col(parts.KEY).is_in(answers[parts.KEY].unique().implode()))
    done.rows, done.joined = done.rows + new.height, done.joined + joined[_HASH].n_unique()
    done.ambiguous += found.height - joined[_HASH].n_unique()
    newest: datetime = rows[_TOLD].max()  # type: ignore[assignment]
    state.remember(newest, found[_HASH].to_numpy(), found[_TOLD].dt.epoch("ms").to_numpy(), OVERLAP)


def _load(store: Store, model: str, source: str) -> LabelState:
    """As it was kept; from the beginning where it is damaged, or of another source."""
    try:
        return from_bytes(store.get(key_of(model)), source)
    except (KeyError, ValueError):
        return LabelState.empty()


# ---------------------------------------------------------------- parts of ground truth


def _put_part(reading: Reading, spec: ModelSpec, day: date, told: pl.DataFrame) -> None:
    """One part, once more where somebody was forgotten in the meantime."""
    caller = f"source {spec.monitoring.labels.words}" if spec.monitoring.labels else ""
    records = [
        Truth(inference_id, text if text is not None else number, at, caller)
        for inference_id, number, text, at in told.select(
            parts.ID, parts.LABEL, parts.LABEL_TEXT, told[_TOLD].dt.epoch("ms").alias(_TOLD)
        ).iter_rows()
    ]
    newest = max(one.at for one in records)
    content = hashlib.sha256(repr([(one.inference_id, one.label, one.at) for one in records]).encode()).hexdigest()
    key = parts.part_key(parts.TRUTH, spec.name, day, f"{max(newest, 0):012x}{content[:20]}")
    known: set[str] | None = None
    while known != (now_known := set(reading.store.keys(parts.FORGOTTEN))):
        known, gone = now_known, _forgotten(reading.store, now_known)
        left = [one for one in records if one.inference_id not in gone]
        if left:
            reading.store.put(key, reading.writer.truth(left))
        else:
            reading.store.remove(key)


def _forgotten(store: Store, keys: set[str]) -> set[str]:
    return {one for key in keys for one in Forgotten.from_json(store.get(key)).ids}


# ---------------------------------------------------------------- what is told


def _told(reading: Reading, spec: ModelSpec, done: Read, now: datetime) -> Iterator[str]:
    """Labels that nothing can be made of, once a day."""
    for kind, is_so, text in (
        (
            "unjoined",
            done.rows >= ENOUGH and not done.joined + done.ambiguous,
            f"none of {done.rows:,} labels of monitoring.labels is of an answer that was logged; its 'key' is to be "
            "what callers send as x-request-key",
        ),
        (
            "ambiguous",
            done.ambiguous > 0,
            f"{done.ambiguous:,} labels of monitoring.labels are of requests with several rows, and are not counted; a "
            "request whose label comes by its key is to have one row",
        ),
    ):
        key = f"labels:{kind}:{now.astimezone(UTC).date()}"
        if is_so and notices.reported(reading.ledger, spec.name, text, key, reading.link, now):
            yield f"{spec.name}: {text}"
