"""What every log of predictions does, the one of Parquet parts and the one in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from evergreen.adapters.logged_predictions import LoggedPredictions
from evergreen.adapters.parquet_parts import ArrowParts
from evergreen.core import logged_parts as parts
from evergreen.core.ports import LoggedParts, Predictions
from evergreen.core.records import LoggedBy, LoggedFeature, LoggedRows, Truth, UserMetric
from evergreen.fakes.predictions import InMemoryPredictions
from evergreen.fakes.store import InMemoryStore

DAY = date(2026, 3, 2)
CATEGORIES = ("AA", "DL")
FEATURES = (LoggedFeature("distance"), LoggedFeature("carrier", CATEGORIES), LoggedFeature("version"))


def at(day: int, second: int = 0) -> int:
    """Unix ms."""
    return round(datetime(2026, 3, day, 12, 0, second, tzinfo=UTC).timestamp() * 1000)


def id_of(number: int, day: int = 2, second: int = 0) -> str:
    told = at(day, second)
    return f"{told >> 16:08x}-{told & 0xFFFF:04x}-7000-8000-{number:012x}"


class Filled:
    """A log of a kind, and how a test fills it."""

    def __init__(self, kind: str) -> None:
        self.store, self.memory = InMemoryStore(), InMemoryPredictions()
        self.log: Predictions = LoggedPredictions(self.store) if kind == "parquet" else self.memory
        self._kind, self._segment = kind, 0

    def answers(self, *ids: str, model: str = "m", key: str = "", version: int = 1, features: Any = FEATURES) -> None:
        """Rows with a distance of 1.5, a missing carrier and 3 for a feature called version; predicted 0.25."""
        if self._kind != "parquet":
            for one in ids:
                self.memory.answers.setdefault(model, []).append(row(one, key=key, version=version))
            return
        by = LoggedBy(model, version, f"release-{version}", "bundle", "champion", features)
        matrix = np.array([[1.5, np.nan, 3][: len(features)]] * len(ids), np.float32)
        packed = b"".join(bytes.fromhex(one.replace("-", "")) for one in ids)
        predictions = np.full(len(ids), 0.25, np.float32).tobytes()
        rows = LoggedRows(by, packed, matrix.tobytes(), predictions, keys=(key,) * len(ids) if key else ())
        self._put(parts.PREDICTIONS, model, ids[0], ArrowParts().predictions([rows]))

    def truths(self, *ids: str, label: float | str = 1.0, model: str = "m", told: int = 0) -> None:
        if self._kind == "parquet":
            records = [Truth(one, label, told, "shop") for one in ids]
            return self._put(parts.TRUTH, model, ids[0], ArrowParts().truth(records))
        for one in ids:
            text = isinstance(label, str)
            self.memory.truths.setdefault(model, []).append(
                {
                    parts.ID: one,
                    parts.LABEL: None if text else label,
                    parts.LABEL_TEXT: label if text else None,
                    parts.AT: datetime.fromtimestamp(told / 1000, UTC),
                    parts.CALLER: "shop",
                }
            )
        return None

    def metric(self, name: str, value: float, told: int, model: str = "m") -> None:
        if self._kind == "parquet":
            one = UserMetric(name, value, told, "shop")
            return self._put(parts.METRICS, model, told, ArrowParts().metrics([one]))
        when = datetime.fromtimestamp(told / 1000, UTC)
        row = {parts.NAME: name, parts.VALUE: value, parts.AT: when, parts.CALLER: "shop"}
        self.memory.metrics.setdefault(model, []).append(row)
        return None

    def _put(self, folder: str, model: str, first: str | int, data: bytes) -> None:
        self._segment += 1
        told = first if isinstance(first, int) else parts.milliseconds_of(first)
        assert told is not None
        self.store.put(parts.part_key(folder, model, parts.day_of(told), f"{told:012x}{self._segment:020x}"), data)


def row(inference_id: str, *, key: str = "", version: int = 1) -> dict[str, Any]:
    return {
        parts.ID: inference_id,
        parts.AT: parts.answered_at(inference_id),
        parts.VERSION: version,
        parts.RELEASE: f"release-{version}",
        parts.ARM: "champion",
        parts.KEY: key or None,
        "distance": 1.5,
        "carrier": None,
        "feature.version": 3.0,
        parts.PREDICTION: 0.25,
        parts.UNSEEN: None,
    }


@pytest.fixture(params=["parquet", "fake"])
def filled(request: pytest.FixtureRequest) -> Filled:
    return Filled(request.param)


def test_answers_are_read_by_day_in_order_of_their_ids(filled: Filled) -> None:
    filled.answers(id_of(2, 3), id_of(1, 3))
    filled.answers(id_of(1), key="ann")
    filled.answers(id_of(9), model="mm")
    log = filled.log
    assert log.models() == ["m", "mm"]
    assert log.days("m") == [DAY, date(2026, 3, 3)]
    assert log.days("none") == []
    assert log.read("m", DAY, date(2026, 3, 3))[parts.ID].to_list() == [id_of(1), id_of(1, 3), id_of(2, 3)]
    (found,) = log.read("m", DAY, DAY).iter_rows(named=True)
    assert found == row(id_of(1), key="ann")
    chosen = log.read("m", DAY, DAY, [parts.KEY, "distance", "never"])
    assert chosen.to_dict(as_series=False) == {parts.KEY: ["ann"], "distance": [1.5]}
    assert log.read("m", date(2026, 1, 1), date(2026, 1, 2)).is_empty()


def test_of_ground_truth_that_is_told_twice_the_later_counts(filled: Filled) -> None:
    filled.truths(id_of(1), label=0.0, told=2)
    filled.truths(id_of(1), label=1.0, told=3)
    filled.truths(id_of(2), label="late", told=3)
    filled.truths(id_of(1), label=0.5, told=1)
    filled.truths(id_of(3, 3))
    told = filled.log.truth("m", DAY, DAY)
    assert told.select(parts.ID, parts.LABEL, parts.LABEL_TEXT, parts.CALLER).rows() == [
        (id_of(1), 1.0, None, "shop"),
        (id_of(2), None, "late", "shop"),
    ]
    assert filled.log.truth("m", date(2026, 1, 1), date(2026, 1, 2)).is_empty()
    assert filled.log.models() == ["m"]


def test_an_answer_is_found_by_its_id(filled: Filled) -> None:
    for second in (0, 10, 20):
        filled.answers(*(id_of(second + n, second=second + n) for n in range(3)), version=second + 1)
    found = filled.log.find(id_of(12, second=12).upper())
    assert found is not None
    assert found.model == "m"
    assert found.features == {"distance": 1.5, "carrier": None, "version": 3.0}
    assert found.facts == {name: row(id_of(12, second=12), version=11)[name] for name in parts.OWN}
    assert filled.log.find(id_of(13, second=12)) is None
    assert filled.log.find("no id") is None


def test_rows_of_some_keys_are_listed_and_removed_with_their_truth(filled: Filled) -> None:
    filled.answers(id_of(1), id_of(2), key="ann")
    filled.answers(id_of(3), key="bob")
    filled.answers(id_of(4))
    filled.answers(id_of(5, 3), key="ann")
    filled.truths(id_of(1), id_of(3))
    asked: list[tuple[str, int]] = []
    ids = filled.log.ids_of("m", lambda key, when: asked.append((key, when)) or (key == "ann" and when < at(3)))  # type: ignore[func-returns-value]
    assert sorted(ids) == [id_of(1), id_of(2)]
    assert ("bob", at(2)) in asked
    assert len(asked) == 4
    done = filled.log.remove("m", ids)
    assert (done.predictions, done.truths) == (2, 1)
    assert filled.log.read("m", DAY, date(2026, 3, 3))[parts.ID].to_list() == [id_of(3), id_of(4), id_of(5, 3)]
    assert filled.log.truth("m", DAY, DAY)[parts.ID].to_list() == [id_of(3)]
    again = filled.log.remove("m", ids)
    assert (again.predictions, again.truths, again.parts) == (0, 0, [])


def test_parts_are_listed_by_day_and_read_one_by_one(filled: Filled) -> None:
    log = cast(LoggedParts, filled.log)
    filled.answers(id_of(1), id_of(2), key="ann")
    (first,) = log.parts("m", DAY)
    filled.answers(id_of(3, second=9))
    filled.answers(id_of(4, 3))
    filled.answers(id_of(5), model="mm")
    filled.truths(id_of(1), id_of(2))
    keys = log.parts("m", DAY)
    assert len(keys) == 2
    assert keys[0] == first, "what came later changes no part that was there"
    assert log.parts("none", DAY) == []
    rows = log.part(keys[0])
    assert rows is not None
    assert rows.to_dicts() == [row(id_of(1), key="ann"), row(id_of(2), key="ann")]
    later = log.part(keys[1], [parts.ID, "distance", "never"])
    assert later is not None
    assert later.to_dict(as_series=False) == {parts.ID: [id_of(3, second=9)], "distance": [1.5]}
    (told,) = log.truth_parts("m", DAY)
    assert log.truth_parts("m", date(2026, 3, 3)) == []
    labels = log.part(told, [parts.ID, parts.LABEL, parts.LABEL_TEXT])
    assert labels is not None
    assert labels.rows() == [(id_of(1), 1.0, None), (id_of(2), 1.0, None)]


def test_users_metrics_are_read_by_the_day_that_they_are_of(filled: Filled) -> None:
    log = cast(LoggedParts, filled.log)
    filled.metric("user.a", 1.5, at(2))
    filled.metric("user.b", -2.0, at(2, 9), model="mm")
    filled.metric("user.a", 3.0, at(3))
    (key,) = log.metric_parts("m", DAY)
    values = log.part(key, [parts.NAME, parts.VALUE, parts.AT])
    assert values is not None
    assert values.rows() == [("user.a", 1.5, datetime(2026, 3, 2, 12, tzinfo=UTC))]
    filled.metric("user.a", 2.5, at(2, 5))
    assert [len(log.metric_parts("m", day)) for day in (DAY, date(2026, 3, 3), date(2026, 3, 4))] == [2, 1, 0]
    assert log.parts("m", DAY) == log.truth_parts("m", DAY) == []


def test_a_part_is_rewritten_or_gone_once_rows_are_removed(filled: Filled) -> None:
    log = cast(LoggedParts, filled.log)
    filled.answers(id_of(1), id_of(2))
    (first,) = log.parts("m", DAY)
    filled.answers(id_of(3, second=9))
    second = log.parts("m", DAY)[1]
    filled.log.remove("m", [id_of(1), id_of(3, second=9)])
    assert log.parts("m", DAY) == [first]
    left = log.part(first, [parts.ID])
    assert left is not None
    assert left.rows() == [(id_of(2),)]
    assert log.part(second) is None


# ---------------------------------------------------------------- Parquet only


@pytest.fixture
def parquet() -> Filled:
    return Filled("parquet")


def test_versions_with_other_columns_are_read_together(parquet: Filled) -> None:
    parquet.answers(id_of(1), features=FEATURES[:1])
    parquet.answers(id_of(2), version=2)
    rows = parquet.log.read("m", DAY, DAY)
    assert rows.select(parts.VERSION, "distance", "feature.version").rows() == [(1, 1.5, None), (2, 1.5, 3.0)]
    by = LoggedBy("m", 3, "r", "b", "champion", FEATURES[:1])
    two = np.array([0.25, 0.75], np.float32).tobytes()
    listed = LoggedRows(by, bytes.fromhex(id_of(3).replace("-", "")), np.float32(1).tobytes(), two, outputs=2)
    parquet._put(parts.PREDICTIONS, "m", id_of(3), ArrowParts().predictions([listed]))
    assert parquet.log.read("m", DAY, DAY)[parts.PREDICTION].to_list() == [[0.25], [0.25], [0.25, 0.75]]


def test_only_the_parts_that_have_such_rows_are_written_anew_and_an_empty_one_goes(parquet: Filled) -> None:
    parquet.answers(id_of(1), id_of(2), key="ann")
    parquet.answers(id_of(3), key="bob")
    parquet.answers(id_of(4), key="ann")
    first, second, third = parquet.store.keys(parts.PREDICTIONS)
    written: list[str] = []
    put = parquet.store.put
    parquet.store.put = lambda key, data: written.append(key) or put(key, data)  # type: ignore
    before = pl.read_parquet_schema(parquet.store.files[first])
    assert parquet.log.remove("m", [id_of(1), id_of(4)]).parts == [first, third]
    assert written == [first]
    assert parquet.store.keys(parts.PREDICTIONS) == [first, second]
    assert pl.read_parquet_schema(parquet.store.files[first]) == before


def test_a_part_that_goes_while_it_is_read_has_no_rows(parquet: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.answers(id_of(1), key="ann")
    parquet.truths(id_of(1))

    def gone(key: str) -> bytes:
        raise KeyError(key)

    acts: list[Callable[[], object]] = [
        lambda: parquet.log.read("m", DAY, DAY).height,
        lambda: parquet.log.truth("m", DAY, DAY).height,
        lambda: len(parquet.log.ids_of("m", lambda key, when: True)),
        lambda: parquet.log.remove("m", [id_of(1)]).predictions,
    ]
    monkeypatch.setattr(parquet.store, "get", gone)
    assert [act() for act in acts] == [0, 0, 0, 0]
    assert parquet.log.find(id_of(1)) is None
