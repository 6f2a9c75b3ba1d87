"""A fit on a cluster: what a worker holds of the rows, and that the trees are those of all of them."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from evergreen.adapters.calibration import calibrate
from evergreen.adapters.sklearn_metrics import measure
from evergreen.adapters.xgboost_trainer import ENGINES, XGBoostTrainer, shares
from evergreen.adapters.xgboost_trainer.by_cluster import grow_by_cluster
from evergreen.adapters.xgboost_trainer.inputs import TAIL, categories_of
from evergreen.adapters.xgboost_trainer.prepared import LABEL
from evergreen.adapters.xgboost_trainer.shares import Share, share_of
from evergreen.core.errors import TrainingRefused
from evergreen.core.ports import TrainedModel
from evergreen.core.ports.cluster import Place
from evergreen.core.rows import Rows
from evergreen.core.spec import ModelSpec
from evergreen.fakes.cluster import OneProcess
from training_data import make_rows, make_spec

FRAME = make_rows().with_columns(
    y=pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise(pl.col("y")),  # rows without a label
    x=pl.int_range(pl.len()).cast(pl.Float64),  # which row it is
    w=pl.int_range(pl.len()) % 3 + 1,
)
LABELLED = FRAME.filter(pl.col("y").is_not_null())
CUT = LABELLED.height - round(LABELLED.height * TAIL)


def in_parts(count: int) -> Rows:
    """The rows, in parts of different sizes, one of them without a row."""
    ends = [0, *sorted(np.random.default_rng(count).choice(np.arange(1, 600), count - 1, replace=False)), 600]
    parts = [FRAME[start:end] for start, end in pairwise(ends)]
    parts.insert(1, FRAME.clear())
    return Rows(FRAME.height, lambda: [part for part in parts if part.height], [partial(_self, part) for part in parts])


def _self(part: pl.DataFrame) -> pl.DataFrame:
    return part


def places(count: int) -> list[Place]:
    return [Place(number, count, 1, lambda _: None) for number in range(count)]


@pytest.mark.parametrize(("parts", "workers"), [(1, 3), (5, 2), (90, 2), (90, 4), (500, 3)])
def test_each_row_is_held_once_by_about_as_many_workers_as_there_are(
    parts: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, spec = in_parts(parts), make_spec()
    share = Share(spec, tuple(rows.elsewhere), categories_of(spec, FRAME), CUT)
    heights = [part().filter(pl.col("y").is_not_null()).height for part in rows.elsewhere]
    monkeypatch.setattr(shares.collective, "allreduce", lambda own, _: np.array(heights))  # what all of them say
    heads, tails = zip(*(map(pl.concat, share_of(share, place)) for place in places(workers)), strict=True)
    assert sorted(pl.concat(heads)["x"]) == LABELLED["x"].head(CUT).to_list()
    assert sorted(pl.concat(tails)["x"]) == LABELLED["x"].tail(LABELLED.height - CUT).to_list()
    assert min(frame.height for frame in heads) > CUT / workers / 2
    assert min(frame.height for frame in tails) > (LABELLED.height - CUT) / workers / 3
    assert heads[0].columns == ["x", "carrier", "count", LABEL]
    assert heads[0]["carrier"].dtype == pl.Enum(["AA", "B6", "UA"])


def test_parts_of_very_different_sizes_are_not_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all of the tail were with one worker, and XGBoost fails on one without a row."""
    spec, parts = make_spec(), [*(FRAME[at : at + 4] for at in range(0, 400, 4)), FRAME[400:]]
    share = Share(spec, tuple(partial(_self, part) for part in parts), categories_of(spec, FRAME), CUT)
    heights = [part.filter(pl.col("y").is_not_null()).height for part in parts]
    monkeypatch.setattr(shares.collective, "allreduce", lambda own, _: np.array(heights))
    tails = [pl.concat(share_of(share, place)[1]).height for place in places(2)]
    assert max(tails) - min(tails) <= 1


def test_too_few_rows_for_so_many_workers_are_refused() -> None:
    spec, few = make_spec(), LABELLED.head(12)  # 10 older ones, 2 of the tail
    share = Share(spec, (partial(_self, few),), categories_of(spec, few), 10)
    assert [pl.concat(share_of(share, place)[1]).height for place in places(2)] == [1, 1]
    with pytest.raises(TrainingRefused, match="2 choose the rounds, for 3 workers"):
        share_of(share, places(3)[0])


def fit(spec: ModelSpec, rows: Rows, folder: Path, cluster: OneProcess | None = None) -> TrainedModel:
    engines = {**ENGINES, "dask": partial(grow_by_cluster, cluster)}
    return XGBoostTrainer(measure, lambda *_: {}, calibrate, folder=folder, engines=engines).fit(spec, rows)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training": {"weights": "w", "imbalance": "balanced"}},
        {"task": "multiclass_classification", "label": {"column": "klass", "arrives_after": "1d"}},
    ],
    ids=["plain", "weighted", "multiclass"],
)
def test_the_trees_are_those_of_all_rows(tmp_path: Path, changes: dict) -> None:
    rows = in_parts(5)
    given = {"gates": [{"metric": "logloss", "max": 2}], **changes}
    training = {"rounds": {"max": 12, "early_stopping": 12}, **given.pop("training", {})}
    local = fit(make_spec(**given, training=training), rows, tmp_path)
    found = fit(make_spec(**given, training={**training, "engine": "dask"}), rows, tmp_path, cluster := OneProcess())
    assert found.files.keys() == local.files.keys()
    assert found.engine == "dask"
    for name, curve in local.history.items():  # bins differ a little
        assert found.history[name] == pytest.approx(curve, rel=0.02)
    assert "round 12" in cluster.told


def test_rows_that_no_other_process_can_read_are_not_sent(tmp_path: Path) -> None:
    spec = make_spec(training={"engine": "dask"})
    with pytest.raises(ValueError, match="in memory only"):
        fit(spec, Rows.of(make_rows()), tmp_path, OneProcess())
