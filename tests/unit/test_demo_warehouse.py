"""The demo's data: what the flights are, and how batches land."""

from datetime import UTC, datetime
from pathlib import Path

from evergreen.demo.flights import COLUMNS, flights
from evergreen.demo.warehouse import BAD_HOUR, Warehouse, corrupted, months


def test_flights_hold_two_labels_and_nothing_else_known_only_after_departure() -> None:
    frame = flights()
    assert frame.height == 336_776
    assert frame.columns == COLUMNS
    assert frame["flight_id"].n_unique() == frame.height
    assert frame["late"].null_count() == frame["air_time"].null_count() == 9_430
    assert (frame["late"].is_null() == frame["air_time"].is_null()).all()
    assert (frame["air_time"].min(), frame["air_time"].max()) == (20, 695)
    assert not {"dep_time", "dep_delay", "arr_time", "arr_delay"} & set(frame.columns)


def test_a_batch_lands_once_and_a_repaired_one_replaces_it(tmp_path: Path) -> None:
    url, february = f"sqlite:///{tmp_path / 'warehouse.db'}", months(2, 2)
    warehouse = Warehouse(url)
    assert warehouse.newest() is None
    warehouse.load(corrupted(february))
    bad = "SELECT count(*) FROM flights WHERE hour = ?"
    assert _ask(url, bad, BAD_HOUR) == round(february.height / 20)
    warehouse.load(february)
    assert _ask(url, bad, BAD_HOUR) == 0
    assert _ask(url, "SELECT count(*) FROM flights WHERE 1 = ?", 1) == february.height
    assert warehouse.newest() == datetime(2013, 2, 28, 23, tzinfo=UTC)


def _ask(url: str, query: str, argument: int) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        (count,) = connection.execute(query, (argument,)).fetchone()
    return int(count)
