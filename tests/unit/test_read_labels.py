"""Labels from a spec's own source come into the log by request key: late, twice, out of order, corrected, killed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.adapters.parquet_parts import ArrowParts
from evergreen.core import logged_parts as parts
from evergreen.core.errors import SourceUnavailable
from evergreen.core.forgotten import Forgotten, hash_of
from evergreen.core.monitoring import names
from evergreen.core.monitoring.key_index import key_of
from evergreen.core.spec_monitoring import LabelSource
from evergreen.fakes.source import FakeSource
from evergreen.steps.monitor import Labels, Report
from monitored import A_DAY, HOUR, MINUTES, Monitored
from watched import DAY, NOON

SECOND = timedelta(seconds=1)
SPEC = {"connection": "w", "table": "outcomes", "key": "booking", "label": "late", "told_at": "updated"}
SCHEMA = {"booking": pl.String, "late": pl.Float64, "updated": pl.Datetime("us", "UTC")}


class Labelled(Monitored):
    """With a table of outcomes, that a test writes into."""

    def __init__(self, *versions: int, schema: dict[str, Any] = SCHEMA, chunk_rows: int = 50_000, **spec: Any) -> None:
        monitoring = {"labels": SPEC, "min_rows": 1, **spec.pop("monitoring", {})}
        super().__init__(*versions, monitoring=monitoring, **spec)
        described = LabelSource(**SPEC)
        self.table = FakeSource(pl.DataFrame(schema=schema), described.as_source, chunk_rows=chunk_rows)

    def writes(self, *rows: tuple[Any, Any, datetime]) -> None:
        more = pl.DataFrame(list(rows), schema=self.table.frame.schema, orient="row")
        self.table.frame = pl.concat([self.table.frame, more])

    def once(self, after: timedelta = MINUTES, **changes: Any) -> Report:
        return super().once(after, **{"labels": Labels(lambda described: self.table, ArrowParts()), **changes})

    @property
    def truths(self) -> list[tuple[str, float | None, str | None]]:  # type: ignore[override]
        """What the log has, by id, the last told last."""
        keys = self.store.keys(f"{parts.TRUTH}m/")
        frames = [self.log.part(key) for key in keys]
        rows = pl.concat([frame for frame in frames if frame is not None]) if keys else pl.DataFrame(schema=SCHEMA)
        order = rows.sort(parts.AT, parts.ID) if keys else rows
        return order.select(parts.ID, parts.LABEL, parts.LABEL_TEXT).rows() if keys else []

    def accuracy(self) -> tuple[float, int]:
        """As it counts now: the fraction, and on how many labels."""
        points = self.ledger.points.latest("m")
        (point,) = [one for one in points if one.name == "quality.realised.accuracy"]
        return point.value, point.rows


def test_labels_are_joined_by_the_key_of_the_request_and_counted_in_the_same_pass() -> None:
    world = Labelled()
    ids = world.answers([0.9, 0.2, 0.8], keys=["b1", "b2", "b3"])
    world.writes(("b1", 1.0, NOON), ("b2", 1.0, NOON + SECOND), ("elsewhere", 1.0, NOON))
    report = world.once()
    assert (report.labels, report.failures) == (2, {})
    assert world.accuracy() == (0.5, 2)
    assert world.truths == [(ids[0], 1.0, None), (ids[1], 1.0, None)]
    world.once()
    assert len(world.truths) == 2, "what is read again in the overlap is not written again"


def test_a_correction_counts_in_place_of_what_was_told_before_whichever_is_seen_first() -> None:
    world = Labelled()
    world.answers([0.9], keys=["b1"])
    world.writes(("b1", 0.0, NOON - HOUR / 2))
    world.once()
    world.writes(("b1", 1.0, NOON))
    world.once()
    world.writes(("b1", 0.0, NOON - HOUR / 4))  # told between the two, and seen last
    world.once(A_DAY)
    assert world.accuracy() == (1.0, 1)
    start = datetime(2026, 3, 2, tzinfo=NOON.tzinfo)
    history = world.ledger.points.history("m", "quality.realised.accuracy", "", start)
    assert [one.value for one in history] == [0.0, 1.0], "what was computed before stays"


def test_a_label_that_is_visible_late_is_read_within_the_overlap_and_one_that_is_new_however_late() -> None:
    world = Labelled()
    world.answers([0.9, 0.9, 0.9], keys=["b1", "b2", "b3"])
    world.writes(("b1", 1.0, NOON))
    world.once()
    world.writes(("b2", 1.0, NOON - HOUR / 2))
    assert world.once().labels == 1
    world.writes(("b3", 1.0, NOON + 3 * A_DAY))
    assert world.once(3 * A_DAY).labels == 1


def test_a_label_that_comes_before_its_answer_is_joined_once_that_is_in_the_log() -> None:
    world = Labelled()
    world.writes(("b1", 1.0, NOON))
    assert world.once().labels == 0
    world.answers([0.9], keys=["b1"])
    assert world.once().labels == 1


def test_a_label_that_is_told_in_the_future_is_read_when_its_time_has_come_and_holds_up_no_other() -> None:
    world = Labelled()
    world.answers([0.9, 0.9], keys=["b1", "b2"])
    world.writes(("b1", 1.0, NOON + 5 * HOUR))
    assert world.once().labels == 0
    world.writes(("b2", 1.0, NOON))
    assert world.once().labels == 1
    assert world.once(5 * HOUR).labels == 1


def test_an_answer_by_a_replica_whose_clock_is_ahead_over_midnight_is_found() -> None:
    world = Labelled()
    world.now = datetime(2026, 3, 2, 23, 40, tzinfo=NOON.tzinfo)
    world.answers([0.9], keys=["b1"], at=world.now + HOUR / 2)
    world.writes(("b1", 1.0, world.now))
    world.once()
    assert len(world.truths) == 1
    assert world.once(HOUR / 2).labels == 1


def test_a_request_of_several_rows_is_ambiguous_and_a_key_that_is_asked_again_is_not() -> None:
    world = Labelled()
    world.answers([0.9, 0.2], keys=["batch", "batch"], step=timedelta(0))
    first, again = world.answers([0.9, 0.9], keys=["b1", "b1"], step=MINUTES)
    world.writes(("batch", 1.0, NOON), ("b1", 1.0, NOON))
    report = world.once()
    assert {one for one, *_ in world.truths} == {first, again}
    assert [told for told in report.done if "1 labels of monitoring.labels are of requests with several rows" in told]
    assert world.once().done == []


def test_where_no_label_is_of_an_answer_people_are_told_once_a_day() -> None:
    world = Labelled()
    world.answers([0.9], keys=["b1"])
    world.writes(*((f"customer-{at}", 1.0, NOON) for at in range(100)))
    (told,) = world.once().done
    assert "none of 100 labels of monitoring.labels is of an answer" in told
    assert "x-request-key" in told
    assert world.once().done == []


def test_answers_of_a_shadow_are_nobodys() -> None:
    world = Labelled()
    world.answers([0.9], keys=["b1"])
    world.answers([0.1], keys=["b1"], arm="shadow")
    world.writes(("b1", 1.0, NOON))
    world.once()
    assert len(world.truths) == 1


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        (pl.Boolean, True, (1.0, None)),
        (pl.Int64, 1, (1.0, None)),
        (pl.String, "late", (None, "late")),
        (pl.Float64, float("inf"), (float("inf"), None)),
    ],
)
def test_labels_of_each_type_are_kept_as_they_are_and_wrong_ones_are_told(kind: Any, value: Any, kept: Any) -> None:
    world = Labelled(schema={**SCHEMA, "late": kind})
    world.answers([0.9], keys=["b1"])
    world.writes(("b1", value, NOON), ("b1", None, NOON + SECOND), (None, value, NOON))
    report = world.once()
    assert [one[1:] for one in world.truths] == [kept]
    is_wrong = kept[0] != 1.0
    assert bool([told for told in report.done if "have labels that are none of a binary" in told]) is is_wrong


@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64])
def test_keys_that_are_numbers_are_those_that_callers_send_as_text(kind: Any) -> None:
    world = Labelled(schema={**SCHEMA, "booking": kind})
    world.answers([0.9], keys=["4711"])
    world.writes((4711, 1.0, NOON))
    assert world.once().labels == 1


def test_a_source_that_does_not_answer_is_told_and_the_model_is_watched_all_the_same() -> None:
    world = Labelled()
    world.answers([0.9] * 5)
    world.table.answers = False
    report = world.once()
    assert report.rows == 5
    assert report.failures["m"].error.startswith("SourceUnavailable: monitoring.labels: source 'w': found no answer")
    assert world.values()[names.VOLUME] == 5
    world.table.answers = True
    assert world.once().failures == {}


def test_without_a_way_to_labels_none_are_read() -> None:
    world = Labelled()
    world.answers([0.9], keys=["b1"])
    world.writes(("b1", 1.0, NOON))
    assert world.once(labels=None).labels == 0


def test_labels_are_read_in_chunks_and_a_damaged_state_or_another_source_begins_anew() -> None:
    world = Labelled(chunk_rows=7)
    count = 30
    world.answers([0.9] * count, keys=[f"b{at}" for at in range(count)])
    world.writes(*((f"b{at}", 1.0, NOON + at * SECOND) for at in range(count)))
    assert world.once().labels == count
    assert len(world.store.keys(f"{parts.TRUTH}m/")) == 5
    world.store.put("monitor/m/labels.state", b"damaged")
    assert world.once().labels == 0, "the same labels once more change nothing"
    assert len(world.truths) == count, "and replace the parts that they are in"
    assert world.accuracy() == (1.0, count)


class Killed(BaseException):
    """As SIGKILL."""


@pytest.mark.parametrize("put", range(1, 8))
def test_a_kill_after_any_write_counts_each_label_once(put: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world, left = Labelled(chunk_rows=4), [put]
    world.answers([0.9] * 10, keys=[f"b{at}" for at in range(10)])
    world.writes(*((f"b{at}", 1.0, NOON + at * SECOND) for at in range(10)))
    of = world.store.put

    def dies(key: str, data: bytes) -> None:
        of(key, data)
        left[0] -= 1
        if not left[0]:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "put", dies)
        with pytest.raises(Killed):
            world.once()
    world.turns = type(world.turns)()
    world.once(2 * MINUTES)
    assert world.accuracy() == (1.0, 10)


def test_who_was_forgotten_gets_no_label() -> None:
    world = Labelled()
    ids = world.answers([0.9, 0.9], keys=["ann", "bob"])
    world.writes(("ann", 1.0, NOON), ("bob", 1.0, NOON))
    asked = Forgotten(hash_of("ann"), 2**42, "m", (ids[0],))
    of = world.store.put

    def put(key: str, data: bytes) -> None:
        of(key, data)
        if key.startswith(parts.TRUTH) and not world.store.keys(parts.FORGOTTEN):
            of(asked.stored_at("m"), asked.to_json())  # in the very moment

    world.store.put = put  # type: ignore[method-assign]
    world.once()
    assert [one for one, *_ in world.truths] == [ids[1]]


def test_only_parts_that_may_hold_a_key_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Labelled()
    for at in range(5):
        world.answers([0.9], keys=[f"b{at}"], at=NOON + at * SECOND)
    world.writes(("b0", 1.0, NOON))
    world.once()
    assert world.store.exists(key_of("m", DAY))
    world.writes(("b3", 1.0, NOON + SECOND))
    read: list[str] = []
    of = world.log.part
    monkeypatch.setattr(world.log, "part", lambda key, *rest: read.append(key) or of(key, *rest))  # type: ignore
    world.once()
    answers = [key for key in read if key.startswith(parts.PREDICTIONS)]
    assert set(answers) == {world.log.parts("m", DAY)[3]}
    world.store.put(key_of("m", DAY), b"damaged")
    world.writes(("b4", 1.0, NOON + SECOND))
    assert world.once().labels == 1


def test_an_unreachable_table_in_another_models_spec_stops_nobody_else() -> None:
    world = Labelled()
    world.specs["other"] = replace_name(world, "other")
    sources = {"m": world.table, "other": None}

    def opened(described: LabelSource) -> Any:
        found = sources["other" if described.table == "gone" else "m"]
        if found is None:
            raise SourceUnavailable("source 'w'", found="no answer", allowed="one", do="Start it.")
        return found

    world.answers([0.9], keys=["b1"])
    world.writes(("b1", 1.0, NOON))
    report = world.once(labels=Labels(opened, ArrowParts()))
    assert (report.labels, set(report.failures)) == (1, {"other"})


def replace_name(world: Labelled, name: str) -> Any:
    labels = LabelSource(**{**SPEC, "table": "gone"})
    monitoring = world.spec.monitoring.model_copy(update={"labels": labels})
    return world.spec.model_copy(update={"name": name, "monitoring": monitoring})
