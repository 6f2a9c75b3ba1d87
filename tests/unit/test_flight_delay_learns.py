"""The example data can be learned: three months of flights say something of the next two weeks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from evergreen import wiring
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
    trained = trainer.fit(spec, data.filter(at <= end))
    fresh = data.filter((at > end + timedelta(days=1)) & (at <= end + timedelta(days=15)))
    assert trainer.score(spec, trained.files, fresh)["auc"] > 0.6
