"""The example data can be learned: three months of flights say something of the next two weeks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from evergreen import wiring
from evergreen.core.measure import value
from evergreen.core.metrics import Metric
from evergreen.core.rows import Rows
from evergreen.demo.flights import flights
from training_data import make_spec


def test_three_months_of_flights_predict_delays_of_the_next_two_weeks() -> None:
    spec = make_spec(
        source={"connection": "warehouse", "table": "flights", "event_time": "time_hour", "key": "flight_id"},
        label={"column": "late", "arrives_after": "1d"},
        features={
            "columns": ["carrier", "origin", "dest", "hour", "weekday", "distance", "precip", "visib", "pressure"],
            "categorical": ["carrier", "origin", "dest"],
        },
    )
    end = datetime(2013, 4, 1, tzinfo=UTC)
    at = pl.col("time_hour")
    data = flights().filter(at > end - timedelta(days=90))
    trainer = wiring.trainer()
    trained = trainer.fit(spec, Rows.of(data.filter(at <= end)))
    fresh = data.filter((at > end + timedelta(days=1)) & (at <= end + timedelta(days=15)))
    known = fresh.drop_nulls("late")
    chances = trainer.predict(trained.files, known)
    assert value(Metric("auc"), known["late"].cast(pl.Float64).to_numpy(), chances) > 0.6
