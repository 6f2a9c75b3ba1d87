"""Flights whose world is known to change, and when: the rows that benchmarks/drift.py shows to all monitors.

The flights of one season in random order, so that nothing changes but what is done to them: some train a model, the
others come period after period, the first of them clean, the rest drifted in one way, from a seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from evergreen import wiring
from evergreen.adapters.xgboost_trainer.inputs import TAIL
from evergreen.core import catalog
from evergreen.core.monitoring.reference import REFERENCE
from evergreen.core.rows import Rows
from evergreen.demo.warehouse import months

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
TRAINED, CLEAN, DRIFTED = 40_000, 5, 10  # rows; periods
SENSORS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "pressure", "visib")
NUMBERS = ("temp", "dewp", "humid", "wind_speed", "pressure", "visib", "distance")
SCALE, FLIPPED, CREEP = 1.2, 0.2, 0.1  # a factor; a share of the labels; standard deviations a period
LARGEST = 6  # carriers of which two are swapped
CLEAN_STREAM = "clean"

Random = np.random.Generator
Change = Callable[
    [pl.DataFrame, int], pl.DataFrame
]  # of a period's rows, and its number among the drifted ones, from 1


@dataclass(frozen=True)
class Drift:
    """A way in which rows change; `about`: the feature that does, none where only labels do."""

    about: str
    change: Change


def spec_of(model: str) -> ModelSpec:
    """A model of the demo, fitted by one thread: the same bytes, and no thread waits for another."""
    found = catalog.load_catalog(ROOT, model).specs[model]
    params = {**found.training.params, "nthread": 1}
    return found.model_copy(update={"training": found.training.model_copy(update={"params": params})})


def lay_out(folder: Path, seed: int, rows: int) -> None:
    """Write what every monitor reads: fitted.parquet, tail.parquet (with label and prediction), and periods.parquet:
    `rows` rows for each stream and period. Beside them about.json, the bundle's reference.json, and columns.json."""
    random, model = np.random.default_rng(seed), spec_of("flight-delay")
    flights = months(4, 6).filter(pl.col(model.label.column).is_not_null())
    flights = flights[random.permutation(flights.height)]
    fitted, later = flights[:TRAINED], flights[TRAINED : TRAINED + rows * (CLEAN + DRIFTED)]
    trainer = wiring.trainer(pictures=False)
    files = trainer.fit(model, Rows.of(fitted)).files
    drifts = dict(_drifts(random, fitted))
    streams = []
    for at in range(CLEAN):
        streams.append(_named(later[at * rows : (at + 1) * rows], CLEAN_STREAM, at + 1))
    for name, drift in drifts.items():
        for at in range(DRIFTED):
            period = later[(CLEAN + at) * rows : (CLEAN + at + 1) * rows]
            streams.append(_named(drift.change(period, at + 1), name, at + 1))
    columns = [*model.features.columns, model.label.column]
    tail = fitted.tail(round(TRAINED * TAIL))
    for file, frame in (("fitted", fitted), ("tail", tail), ("periods", pl.concat(streams, how="vertical_relaxed"))):
        said = pl.Series("prediction", trainer.predict(files, frame))
        kept = [name for name in ("stream", "period") if name in frame.columns]
        frame.select(*kept, *columns).with_columns(said).write_parquet(folder / f"{file}.parquet")
    (folder / "about.json").write_text(json.dumps({name: drift.about for name, drift in drifts.items()}))
    (folder / "reference.json").write_bytes(files[REFERENCE])
    told = {"features": model.features.columns, "categories": model.features.categorical, "label": model.label.column}
    (folder / "columns.json").write_text(json.dumps(told))


def _named(rows: pl.DataFrame, stream: str, period: int) -> pl.DataFrame:
    return rows.with_columns(pl.lit(stream).alias("stream"), pl.lit(period).alias("period"))


def _drifts(random: Random, fitted: pl.DataFrame) -> Iterator[tuple[str, Drift]]:
    scaled, creeping = (str(random.choice(NUMBERS)) for _ in range(2))
    sensor, station = str(random.choice(SENSORS)), str(random.choice(fitted["origin"].unique().sort().to_list()))
    carriers = fitted["carrier"].value_counts(sort=True)["carrier"].head(LARGEST).to_list()
    one, other = map(str, random.choice(carriers, 2, replace=False))
    step = CREEP * float(fitted[creeping].cast(pl.Float64).std())  # type: ignore[arg-type]
    flips = int(random.integers(1 << 31))
    yield "scaled feature", Drift(scaled, lambda rows, at: rows.with_columns(pl.col(scaled) * SCALE))
    swapped = pl.col("carrier").replace({one: other, other: one})
    yield "category swap", Drift("carrier", lambda rows, at: rows.with_columns(swapped))
    yield "label flip", Drift("", lambda rows, at: _flipped(rows, np.random.default_rng([flips, at])))
    silent = pl.when(pl.col("origin") != station).then(pl.col(sensor)).alias(sensor)
    yield "missing sensor", Drift(sensor, lambda rows, at: rows.with_columns(silent))
    yield "slow creep", Drift(creeping, lambda rows, at: rows.with_columns(pl.col(creeping) + at * step))


def _flipped(rows: pl.DataFrame, random: Random) -> pl.DataFrame:
    label = rows["late"].to_numpy()
    return rows.with_columns(pl.Series("late", np.where(random.random(len(label)) < FLIPPED, 1 - label, label)))
