"""training.engine dask: as good a model as one process fits, and the same again where a worker is lost on the way."""

from __future__ import annotations

import logging
import signal
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster

from clustered import Followed, Struck, command_of, wait_for
from evergreen.adapters.calibration import calibrate
from evergreen.adapters.dask_cluster import DaskCluster
from evergreen.adapters.file_store import FileStore
from evergreen.adapters.parquet_snapshots import ParquetSnapshots
from evergreen.adapters.sklearn_metrics import measure
from evergreen.adapters.xgboost_trainer import ENGINES, XGBoostTrainer
from evergreen.adapters.xgboost_trainer.by_cluster import grow_by_cluster
from evergreen.core.errors import ClusterFailed, SourceError
from evergreen.core.ports import TrainedModel
from evergreen.core.ports.cluster import Cluster
from evergreen.core.read_rows import rows_within
from evergreen.core.rows import Rows
from evergreen.core.spec import ModelSpec
from killing import Program
from training_data import AS_OF, make_rows, make_spec

ROWS, ROUNDS = 40_000, 40
BEGAN = AS_OF - timedelta(days=100)


def spec_for(engine: str) -> ModelSpec:
    return make_spec(
        training={
            "params": {"max_depth": 4, "learning_rate": 0.1},
            "rounds": {"max": ROUNDS, "early_stopping": ROUNDS},
            "engine": engine,
        }
    )


@dataclass(frozen=True)
class Snapshot:
    """Rows of some forty days, as parts of a store in the folder."""

    folder: Path
    rows: Rows

    @classmethod
    def written(cls, folder: Path) -> Snapshot:
        frame = make_rows(ROWS)
        snapshots = ParquetSnapshots(FileStore(str(folder / "store")))
        parts = snapshots.write("m", frame.with_columns(at=AS_OF - (AS_OF - frame["at"]) / 40), "at", "id")
        return cls(folder, rows_within(spec_for("dask"), snapshots, parts, [(BEGAN, AS_OF)]))

    def fit(self, cluster: Cluster | None) -> TrainedModel:
        """By the cluster; none: in this process."""
        engines = {**ENGINES, "dask": partial(grow_by_cluster, cluster)}
        trainer = XGBoostTrainer(measure, lambda *_: {}, calibrate, folder=self.folder / "scratch", engines=engines)
        return trainer.fit(spec_for("dask" if cluster else "local"), self.rows)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return Snapshot.written(tmp_path_factory.mktemp("snapshot"))


@pytest.fixture(scope="module")
def undisturbed(snapshot: Snapshot) -> TrainedModel:
    """By two workers, of which none is lost."""
    return snapshot.fit(DaskCluster.here(workers=2, threads=1, memory_mb=2000))


@pytest.fixture
def told(tmp_path: Path) -> Path:
    (folder := tmp_path / "told").mkdir()
    return folder


def workers_left() -> list[psutil.Process]:
    """Worker processes of this one."""
    return [one for one in psutil.Process().children(recursive=True) if "dask" in command_of(one)]


def test_it_is_as_good_as_that_of_one_process(snapshot: Snapshot, undisturbed: TrainedModel) -> None:
    local = snapshot.fit(None)
    assert abs(undisturbed.metrics["tail.auc"] - local.metrics["tail.auc"]) < 1e-3
    assert undisturbed.files.keys() == local.files.keys()
    assert undisturbed.data_end == local.data_end
    assert undisturbed.history.keys() == local.history.keys()
    assert not workers_left()


@pytest.mark.parametrize("lost", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
def test_a_training_that_loses_a_worker_begins_anew_and_ends_right(
    snapshot: Snapshot, undisturbed: TrainedModel, told: Path, lost: int, caplog: pytest.LogCaptureFixture
) -> None:
    followed = Followed(DaskCluster.here(workers=2, threads=1, memory_mb=2000, patience=10), told)
    with caplog.at_level(logging.WARNING), Struck(followed, number=1, at="round 5", signal=lost) as struck:
        trained = snapshot.fit(followed)
    assert struck.pid is not None
    assert trained.files == undisturbed.files
    assert "begins anew from the snapshot, 1 of 3" in caplog.text
    tries = followed.tries()
    assert sorted(number for number, *_ in tries) == [0, 0, 1, 1]  # one loss, one more try
    assert [said[-1] for _, _, said in tries[2:]] == [f"round {ROUNDS}"] * 2
    assert wait_for(lambda: not workers_left(), 30)


def train_in(folder: str) -> None:
    """A training in a process of its own, whose workers tell in '<folder>/told'."""
    (told := Path(folder, "told")).mkdir()
    Snapshot.written(Path(folder)).fit(Followed(DaskCluster.here(memory_mb=2000), told))


def test_workers_end_with_the_training_that_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "m" / "told"
    program = Program(train_in, tmp_path / "m", at_work=lambda: told.is_dir() and any(told.iterdir()))
    program.kill(after=0.1)  # and nothing of it runs on
    assert told.is_dir()


def test_a_damaged_part_ends_it_at_once(tmp_path: Path, told: Path) -> None:
    """Though the other worker breaks off first, nothing is begun anew."""
    snapshot = Snapshot.written(tmp_path)
    newest = max((tmp_path / "store").rglob("*.parquet"))
    newest.write_bytes(newest.read_bytes()[:-1])
    followed = Followed(DaskCluster.here(workers=2, threads=1, memory_mb=2000), told)
    with pytest.raises(SourceError, match=newest.name):
        snapshot.fit(followed)
    assert len(followed.tries()) == 2


def test_a_cluster_that_is_there_already_goes_on_after_it_lost_a_worker(
    snapshot: Snapshot, undisturbed: TrainedModel, told: Path
) -> None:
    """Its nannies are others than ours: what is left of the work is ended, and the next one finds it whole."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit="2GB"
    ) as there:
        followed = Followed(DaskCluster.at(there.scheduler_address), told)
        with Struck(followed, number=0, at="round 5", signal=signal.SIGKILL) as struck:
            trained = snapshot.fit(followed)
        assert struck.pid is not None
        assert trained.files == undisturbed.files
        assert snapshot.fit(followed).files == undisturbed.files


def test_a_scheduler_that_does_not_answer_is_named(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergreen.adapters.dask_cluster.opened._STARTS", 0.5)
    with pytest.raises(ClusterFailed, match=r"127\.0\.0\.1:9: found no scheduler that answers") as refused:
        snapshot.fit(DaskCluster.at("tcp://127.0.0.1:9"))
    assert refused.value.retryable
