"""The prediction log: what a worker writes, and what becomes of it in the store."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event, get_native_id

import numpy as np
import polars as pl
import pytest
from tests.bundles import ROW
from tests.disks import fill, small_disk
from tests.logged import answer, asked, loaded, predictions_in, truth_in

from evergreen.adapters.parquet_parts import ArrowParts
from evergreen.core.forgotten import Forgotten, hash_of
from evergreen.core.logged_parts import FORGOTTEN, METRICS, PREDICTIONS, day_of
from evergreen.core.ports import Store
from evergreen.core.records import Truth, UserMetric
from evergreen.fakes.store import InMemoryStore
from evergreen.serving.limits import LogLimits
from evergreen.serving.log import prediction_log, segments
from evergreen.serving.log.answer_log import NoLog
from evergreen.serving.log.prediction_log import PredictionLog
from evergreen.serving.log.segments import Segment, finished, payloads
from evergreen.serving.log.shipper import Shipper
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.refusals import RequestRefused
from evergreen.serving.state import SHIPPING, Settings, Shipping, read, write

DROPPED = "evergreen_log_dropped_rows_total"


class Replica:
    """A worker's log and the supervisor's shipper, over one folder and a store in memory."""

    def __init__(self, folder: Path, **limits: float) -> None:
        self.folder, self.store, self.metrics = folder, InMemoryStore(), Metrics()
        self.settings = Settings()
        folder.mkdir(exist_ok=True)
        self._limits = LogLimits(**limits)  # type: ignore[arg-type]
        self.log = self.worker()
        self.shipper = Shipper(folder, self.open_store, ArrowParts)
        self.away = False

    def worker(self) -> PredictionLog:
        return PredictionLog(self.folder, lambda name: self.settings, self.metrics, self._limits)

    def open_store(self) -> Store:
        if self.away:
            raise ConnectionError("bucket does not answer")
        return self.store

    def segments(self) -> list[Path]:
        return sorted((self.folder / "log").glob("*.seg"))

    def ship(self) -> pl.DataFrame:
        """Close what is open, ship it; all predictions in the store."""
        self.log.close()
        assert self.shipper.ship_all()
        return predictions_in(self.store)

    def dropped(self) -> dict[str, int]:
        lines = self.metrics.families("0").get(DROPPED, [])
        return {line.split('reason="')[1].split('"')[0]: int(line.rsplit(" ")[-1]) for line in lines}


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return Replica(tmp_path / "pool")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded(tmp_path_factory.mktemp("model"))


# ---------------------------------------------------------------- what becomes of an answer


def test_answers_become_rows_with_their_ids_features_predictions_and_origin(
    replica: Replica, model: LoadedModel
) -> None:
    ids = answer(replica.log, model, asked(2, key="ann"), asked(key="", unseen="ZZ", first=7))
    ids += answer(replica.log, model, asked(first=9), arm="canary")
    rows = replica.ship()
    assert rows["inference_id"].to_list() == ids
    assert rows["distance"].to_list() == [0, 1, 7, 9]
    assert rows["hour"].null_count() == 4
    assert rows["carrier"].to_list() == ["DL", "DL", None, "DL"]
    assert rows["key"].to_list() == ["ann", "ann", None, None]
    assert rows["unseen"].to_list() == [None, None, '{"carrier": "ZZ"}', None]
    assert rows["arm"].to_list() == ["champion"] * 3 + ["canary"]
    assert set(rows["version"]) == {1}
    assert set(rows["release_id"]) == {"release-1"}
    expected = model.predict(np.array([[x, np.nan, c] for x, c in ((0, 1), (1, 1), (7, np.nan), (9, 1))], np.float32))
    assert rows["prediction"].to_list() == expected.tolist()
    assert abs((rows["at"][0] - datetime.now(UTC)).total_seconds()) < 60
    (key,) = replica.store.keys(PREDICTIONS)
    assert key.startswith(f"log/predictions/flight-delay/{rows['at'][0].date()}/")
    assert replica.segments() == []


def test_versions_and_models_of_one_segment_do_not_mix(replica: Replica, model: LoadedModel, tmp_path: Path) -> None:
    second, other = loaded(tmp_path / "2", 2), loaded(tmp_path / "o", 3, "other")
    ids = [answer(replica.log, one, asked())[0] for one in (model, second, other, model)]
    rows = replica.ship()
    assert len(replica.store.keys(PREDICTIONS)) == 2
    assert dict(rows.select("inference_id", "version").iter_rows()) == dict(zip(ids, (1, 2, 3, 1), strict=True))


def test_rows_of_other_columns_get_a_part_of_their_own(replica: Replica, model: LoadedModel) -> None:
    answer(replica.log, model, asked())
    replica.settings = Settings(not_logged=("carrier",))
    answer(replica.log, model, asked(unseen="SECRET", first=1))
    rows = replica.ship()
    first, second = replica.store.keys(PREDICTIONS)
    assert (second, rows.height) == (first.replace(".parquet", "-1.parquet"), 2) or first.endswith("-1.parquet")


def test_columns_that_are_not_to_be_logged_never_reach_the_disk(replica: Replica, model: LoadedModel) -> None:
    replica.settings = Settings(not_logged=("distance", "carrier"))
    request = asked(unseen="SECRET", first=123456.0)
    answer(replica.log, model, request)
    data = b"".join(path.read_bytes() for path in replica.segments())
    assert b"SECRET" not in data
    assert np.float32(123456.0).tobytes() not in data
    rows = replica.ship()
    assert not {"distance", "carrier"} & set(rows.columns)
    assert rows.select("hour", "unseen").rows() == [(None, None)]
    assert request.matrix[0, 0] == 123456.0  # the answer's own copy is untouched


def test_a_matrix_in_columns_order_is_logged_as_it_is(replica: Replica, model: LoadedModel) -> None:
    request = asked(3)
    request.matrix = np.asfortranarray(request.matrix)
    answer(replica.log, model, request)
    assert replica.ship()["distance"].to_list() == [0, 1, 2]


def test_several_numbers_a_row_become_a_list(replica: Replica, model: LoadedModel) -> None:
    ids = ["0190b1c2-0000-7000-8000-000000000001", "0190b1c2-0000-7000-8000-000000000002"]
    replica.log.add(model, "champion", [asked(2)], np.array([[0.25, 0.75], [0.5, 0.5]], np.float32), ids)
    assert replica.ship()["prediction"].to_list() == [[0.25, 0.75], [0.5, 0.5]]


def test_a_call_over_midnight_is_filed_by_each_id(replica: Replica, model: LoadedModel) -> None:
    midnight = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp() * 1000)
    ids = [f"{at >> 16:08x}-{at & 0xFFFF:04x}-7000-8000-{n:012x}" for n, at in enumerate((midnight - 1, midnight))]
    replica.log.add(model, "champion", [asked(2)], np.zeros(2, np.float32), ids)
    replica.ship()
    assert [key.split("/")[3] for key in replica.store.keys(PREDICTIONS)] == ["2026-03-01", "2026-03-02"]
    assert (day_of(midnight - 1), day_of(midnight)) == (date(2026, 3, 1), date(2026, 3, 2))


# ---------------------------------------------------------------- sampling


def test_a_share_of_requests_is_logged_whole_and_the_rest_is_counted(replica: Replica, model: LoadedModel) -> None:
    replica.settings = Settings(log_sample=0.5)
    requests = [answer(replica.log, model, asked(2)) for _ in range(400)]
    kept = set(replica.ship()["inference_id"])
    whole = [set(ids) <= kept for ids in requests]
    assert whole == [bool(set(ids) & kept) for ids in requests]  # never half of a request
    assert 140 < sum(whole) < 260  # six standard deviations
    assert replica.dropped() == {"sampled": 800 - len(kept)}


def test_no_share_logs_nothing(replica: Replica, model: LoadedModel) -> None:
    replica.settings = Settings(log_sample=0)
    answer(replica.log, model, asked())
    assert replica.segments() == []


# ---------------------------------------------------------------- rotation


def test_a_segment_is_closed_when_it_is_large(
    replica: Replica, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_log, "SEGMENT_BYTES", 1000)
    ids = [answer(replica.log, model, asked())[0] for _ in range(40)]
    assert len(replica.segments()) > 2
    assert replica.shipper.ship_all()
    assert len(replica.segments()) <= 1
    assert sorted(replica.ship()["inference_id"]) == sorted(ids)


def test_a_segment_is_closed_when_it_is_old_also_if_nobody_asks_any_more(tmp_path: Path, model: LoadedModel) -> None:
    replica = Replica(tmp_path / "pool", seconds=0)
    answer(replica.log, model, asked())
    assert replica.shipper.ship_all()
    assert len(replica.segments()) == 1  # it is still written
    replica.log.tick()
    assert replica.shipper.ship_all()
    assert replica.segments() == []


# ---------------------------------------------------------------- deaths


def test_a_torn_tail_is_told_from_data_wherever_it_is_torn(replica: Replica, model: LoadedModel) -> None:
    whole = answer(replica.log, model, asked(2))
    (path,) = replica.segments()
    begin = path.stat().st_size
    answer(replica.log, model, asked(2, key="a"))
    replica.log.close()
    data = path.read_bytes()
    for end in range(begin, len(data)):
        path.write_bytes(data[:end])
        with finished(path) as file:
            assert file is not None
            assert sum(1 for _ in payloads(file)) == 2  # who answers, and the rows
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert sorted(replica.ship()["inference_id"]) == sorted(whole)


def test_a_file_of_another_kind_is_set_aside_and_holds_up_nobody(replica: Replica, model: LoadedModel) -> None:
    (replica.folder / "log" / f"{'0' * 32}.seg").write_bytes(b"evergreen log 2\nsomething")
    ids = answer(replica.log, model, asked())
    assert replica.ship()["inference_id"].to_list() == ids
    (reason,) = read(replica.folder / SHIPPING, Shipping).reasons  # type: ignore[union-attr]
    assert "1 damaged segments" in reason.text
    assert not reason.blocks


class Dies(Exception):
    """As if the process had been killed."""


def test_a_shipper_that_dies_anywhere_ships_no_row_twice_and_loses_none(
    replica: Replica, model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = loaded(tmp_path / "o", 3, "other")
    ids = answer(replica.log, model, asked(2)) + answer(replica.log, other, asked(2))
    replica.log.add_truth("other", [Truth(ids[3], 1.0, 1_700_000_000_000)])
    replica.log.close()
    put, unlink = InMemoryStore.put, Path.unlink

    def dies_after(call: Callable[..., None], times: int) -> Callable[..., None]:
        left = [times]

        def dying(*arguments: object, **named: object) -> None:
            call(*arguments, **named)
            left[0] -= 1
            if left[0] == 0:
                raise Dies

        return dying

    for call in (1, 2, 3):
        with monkeypatch.context() as patched:
            patched.setattr(InMemoryStore, "put", dies_after(put, call))
            assert not Shipper(replica.folder, replica.open_store, ArrowParts).ship_all()
        assert len(replica.segments()) == 1
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", dies_after(lambda *a, **k: None, 1))
        Shipper(replica.folder, replica.open_store, ArrowParts).ship_all()
    assert unlink is Path.unlink
    assert len(replica.segments()) == 1
    assert sorted(replica.ship()["inference_id"]) == sorted(ids)
    assert truth_in(replica.store)["inference_id"].to_list() == [ids[3]]
    assert replica.segments() == []


def test_two_shippers_of_one_folder_ship_each_segment_once(replica: Replica, model: LoadedModel) -> None:
    ids = answer(replica.log, model, asked(3))
    replica.log.close()
    (path,) = replica.segments()
    with finished(path) as file:
        assert file is not None
        assert replica.shipper.ship_all()  # the other one has it: left alone
        assert replica.store.keys(PREDICTIONS) == []
    assert replica.ship()["inference_id"].to_list() == ids


def test_a_segment_of_a_worker_that_was_killed_is_shipped(replica: Replica, model: LoadedModel) -> None:
    child = os.fork()
    if child == 0:
        try:
            answer(replica.worker(), model, asked(2))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert replica.ship().height == 2


def test_what_a_death_left_without_a_name_is_cleared_away(replica: Replica) -> None:
    left = replica.folder / "log" / f".{'0' * 32}"
    left.write_bytes(b"")
    segment = Segment.open(replica.folder / "log")
    young = segment.path.rename(segment.path.with_name(f".{segment.path.stem}"))
    assert replica.shipper.ship_all()
    assert not left.exists()
    assert young.exists()
    segment.close()


# ---------------------------------------------------------------- disk and store


def test_on_a_full_disk_answers_go_on_drops_are_counted_and_it_comes_back(tmp_path: Path, model: LoadedModel) -> None:
    with small_disk(tmp_path / "small", "256k") as disk:
        replica = Replica(disk / "pool")
        ids = answer(replica.log, model, asked())
        fill(disk / "filler")
        while not replica.dropped():  # to the end of the segment's last page
            ids += answer(replica.log, model, asked(20))
        lost = set(ids[-20:])
        answer(replica.log, model, asked(5))
        assert replica.dropped() == {"disk_full": 25}
        (reason,) = replica.log.reasons()
        assert "No space left" in reason.text
        assert not reason.blocks
        with pytest.raises(RequestRefused) as refused:
            replica.log.add_truth("m", [Truth(ids[0], 1, 0)])
        assert refused.value.status == 503
        (disk / "filler").unlink()
        replica.log.tick()
        ids += answer(replica.log, model, asked())
        assert replica.log.reasons() == []
        assert set(replica.ship()["inference_id"]) == set(ids) - lost


def test_a_write_that_fails_by_half_leaves_nothing_behind(
    replica: Replica, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, write_all = answer(replica.log, model, asked()), os.write
    with monkeypatch.context() as patched:
        patched.setattr(segments.os, "write", lambda descriptor, data: write_all(descriptor, data[: len(data) // 2]))
        answer(replica.log, model, asked(), arm="canary")
    replica.log.tick()
    whole += answer(replica.log, model, asked(), arm="canary")
    rows = replica.ship()
    assert rows["inference_id"].to_list() == whole
    assert rows["arm"].to_list() == ["champion", "canary"]


def test_without_the_store_segments_wait_and_lag_and_backlog_are_told(replica: Replica, model: LoadedModel) -> None:
    replica.away = True
    ids = answer(replica.log, model, asked())
    replica.log.close()
    assert not replica.shipper.ship_all()
    replica.log.tick()
    told = replica.log.shipping()
    assert told.backlog == sum(path.stat().st_size for path in replica.segments())
    (reason,) = replica.log.reasons()
    assert "bucket does not answer" in reason.text
    assert not reason.blocks
    replica.away = False
    assert replica.ship()["inference_id"].to_list() == ids
    replica.log.tick()
    assert (replica.log.reasons(), replica.log.shipping().backlog, replica.log.shipping().rows) == ([], 0, 1)


def test_over_the_backlog_that_is_allowed_rows_are_dropped_until_it_is_shipped(
    tmp_path: Path, model: LoadedModel
) -> None:
    replica = Replica(tmp_path / "pool", backlog=100)
    write(replica.folder / SHIPPING, Shipping(backlog=101, written_at=1))
    replica.log.tick()
    answer(replica.log, model, asked(3))
    assert replica.dropped() == {"backlog": 3}
    assert "wait here for the store" in replica.log.reasons()[0].text
    write(replica.folder / SHIPPING, Shipping(backlog=99, written_at=2))
    replica.log.tick()
    answer(replica.log, model, asked())
    assert replica.ship().height == 1
    assert replica.log.reasons() == []


def test_a_fault_of_the_log_costs_no_answer(replica: Replica, model: LoadedModel) -> None:
    replica.log.add(model, "champion", [asked()], np.zeros(1, np.float32), ["not an id"])
    assert replica.dropped() == {"failed": 1}


def test_a_part_that_cannot_be_made_holds_up_no_other(
    replica: Replica, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(replica.log, model, asked())
    replica.log.close()
    with monkeypatch.context() as patched:
        patched.setattr(ArrowParts, "predictions", lambda *_: 1 / 0)
        assert replica.shipper.ship_all()
    assert [path.suffix for path in (replica.folder / "log").iterdir()] == [".damaged"]
    ids = answer(replica.log, model, asked())
    assert replica.ship()["inference_id"].to_list() == ids


def test_the_shipper_goes_on_until_it_is_stopped(replica: Replica, model: LoadedModel) -> None:
    answer(replica.log, model, asked())
    replica.log.close()
    stop = Event()
    stop.set()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(replica.shipper.run, stop).result(10)
        nice = threads.submit(lambda: os.getpriority(os.PRIO_PROCESS, get_native_id())).result(10)
    assert (nice, os.getpriority(os.PRIO_PROCESS, 0)) == (10, own)  # its thread makes way, no other
    assert len(replica.segments()) == 1
    replica.shipper.finish(10)
    assert replica.segments() == []


# ---------------------------------------------------------------- ground truth


def test_ground_truth_is_filed_by_the_day_of_the_answer(replica: Replica, model: LoadedModel) -> None:
    (told,) = answer(replica.log, model, asked())
    old = "0190b1c2-0000-7000-8000-000000000001"
    records = [Truth(told, 1, 1_700_000_000_000, "shop"), Truth(old, "late", 1_700_000_000_001)]
    replica.log.add_truth("flight-delay", records)
    replica.ship()
    rows = truth_in(replica.store).sort("at")
    assert rows.select("inference_id", "label", "label_text", "caller").rows() == [
        (told, 1.0, None, "shop"),
        (old, None, "late", None),
    ]
    days = [key.split("/")[3] for key in replica.store.keys("log/ground-truth/flight-delay/")]
    assert days == ["2024-07-14", str(rows["at"][0].date())][:1] + days[1:]
    assert len(days) == 2


def test_users_metrics_are_filed_by_the_day_that_they_are_of(replica: Replica) -> None:
    first, second = UserMetric("user.a", 1.5, 1_700_000_000_000, "shop"), UserMetric("user.b", 2, 1_700_100_000_000)
    replica.log.add_metrics("flight-delay", [first, second])
    replica.ship()
    keys = replica.store.keys(METRICS)
    assert [key.split("/")[2:4] for key in keys] == [["flight-delay", "2023-11-14"], ["flight-delay", "2023-11-16"]]
    rows = pl.concat(pl.read_parquet(io.BytesIO(replica.store.get(key))) for key in keys)
    assert rows.drop("at").rows() == [("user.a", 1.5, "shop"), ("user.b", 2.0, None)]
    assert rows["at"].dt.epoch("ms").to_list() == [first.at, second.at]


def test_a_server_without_a_log_takes_no_ground_truth(model: LoadedModel) -> None:
    log = NoLog()
    log.add(model, "champion", [asked()], np.zeros(1, np.float32), ["x"])
    assert (log.reasons(), log.shipping().backlog) == ([], 0)
    with pytest.raises(RequestRefused, match="keeps no log"):
        log.add_truth("m", [])
    with pytest.raises(RequestRefused, match="keeps no log"):
        log.add_metrics("m", [])


# ---------------------------------------------------------------- forgotten people


def forget(store: Store, key: str, before: int = 2**42, model: str = "") -> None:
    told = Forgotten(hash_of(key), before, model)
    store.put(told.stored_at("asked"), told.to_json())


def test_rows_of_a_forgotten_key_are_left_out_as_they_are_shipped_with_their_truth(
    replica: Replica, model: LoadedModel
) -> None:
    ids = answer(replica.log, model, asked(2, key="ann"), asked(key="bob", first=5, unseen="Q"))
    answer(replica.log, model, asked(key="ann"))
    replica.log.add_truth("flight-delay", [Truth(one, 1, 0) for one in ids])
    forget(replica.store, "ann")
    rows = replica.ship()
    assert rows.select("inference_id", "key", "distance", "unseen").rows() == [(ids[2], "bob", 5, '{"carrier": "Q"}')]
    assert truth_in(replica.store)["inference_id"].to_list() == [ids[2]]
    assert len(replica.store.keys(FORGOTTEN)) == 2
    replica.log.add_truth("flight-delay", [Truth(ids[0], 1, 0)])  # told a month later
    replica.ship()
    assert truth_in(replica.store)["inference_id"].to_list() == [ids[2]]


def test_forgotten_for_one_model_or_up_to_a_time_leaves_the_rest(
    replica: Replica, model: LoadedModel, tmp_path: Path
) -> None:
    other = loaded(tmp_path / "o", 3, "other")
    kept = answer(replica.log, model, asked(key="ann")) + answer(replica.log, other, asked(key="bob"))
    answer(replica.log, other, asked(key="ann"))
    forget(replica.store, "ann", model="other")
    forget(replica.store, "bob", before=1)
    assert sorted(replica.ship()["inference_id"]) == sorted(kept)


def test_who_is_forgotten_while_a_part_is_written_is_not_in_it(
    replica: Replica, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bob,) = answer(replica.log, model, asked(key="bob"))
    answer(replica.log, model, asked(key="ann"))
    put = InMemoryStore.put

    def slow_put(store: InMemoryStore, key: str, data: bytes) -> None:
        put(store, key, data)
        if key.startswith(PREDICTIONS) and not store.keys(FORGOTTEN):
            forget(store, "ann")

    monkeypatch.setattr(InMemoryStore, "put", slow_put)
    assert replica.ship()["inference_id"].to_list() == [bob]


def test_a_part_of_which_nothing_is_left_is_removed_when_it_is_shipped_again(
    replica: Replica, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(replica.log, model, asked(key="ann"))
    replica.log.close()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        replica.shipper.ship_all()
    assert len(replica.store.keys(PREDICTIONS)) == 1
    forget(replica.store, "ann")
    assert replica.ship().height == 0
    assert replica.store.keys(PREDICTIONS) == []


assert set(ROW) == {"distance", "hour", "carrier"}  # what tests.logged takes for granted
