"""What every trainer keeps: XGBoost and its in-memory twin."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xgboost as xgb

from evergreen import wiring
from evergreen.adapters.sklearn_metrics import measure as sklearn_measure
from evergreen.adapters.xgboost_trainer import XGBoostTrainer, prepared
from evergreen.adapters.xgboost_trainer.scratch import scratch
from evergreen.core import memory_estimate
from evergreen.core.bundle import GOLDEN, MODEL, SCHEMA
from evergreen.core.errors import NotComparable, TrainingRefused
from evergreen.core.measure import all_values as measure
from evergreen.core.measure import auc
from evergreen.core.metrics import METRICS_BY_TASK, Task
from evergreen.core.monitoring.bins import CategoryBins, NumberBins
from evergreen.core.monitoring.reference import LOSS, REFERENCE, from_bytes
from evergreen.core.ports import Trainer
from evergreen.core.rows import Rows
from evergreen.fakes.trainer import FakeTrainer
from training_data import AS_OF, SPEC, make_rows, make_spec

TASKS = {"binary_classification": "y", "multiclass_classification": "klass", "regression": "amount"}
GATES = {"regression": [{"metric": "rmse", "max": 500}], "multiclass_classification": [{"metric": "logloss", "max": 1}]}


@pytest.fixture(params=["xgboost", "fake"])
def trainer(request: pytest.FixtureRequest) -> Trainer:
    return wiring.trainer() if request.param == "xgboost" else FakeTrainer()


_FITTED: dict[type, Mapping[str, bytes]] = {}


def files_of(trainer: Trainer) -> Mapping[str, bytes]:
    """A bundle's files of the default spec and rows, fitted once."""
    if type(trainer) not in _FITTED:
        _FITTED[type(trainer)] = trainer.fit(make_spec(), Rows.of(make_rows())).files
    return _FITTED[type(trainer)]


def spec_for(task: str, **changes):
    return make_spec(
        task=task,
        label={"column": TASKS[task], "arrives_after": "1d"},
        gates=GATES.get(task, SPEC["gates"]),
        **changes,
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_fitted_model_answers_each_row_and_learned_something(trainer: Trainer, task: str) -> None:
    spec, rows = spec_for(task), make_rows()
    trained = trainer.fit(spec, Rows.of(rows))
    fresh = make_rows(200, seed=2)
    answers = trainer.predict(trained.files, fresh)
    classes = 3 if task.startswith("multi") else None
    assert answers.shape == ((200, classes) if classes else (200,))
    assert answers.dtype == np.float64
    assert np.array_equal(answers[5:], trainer.predict(trained.files, fresh[5:]))  # a row's answer is its own
    assert trainer.predict(trained.files, fresh.clear()).shape == (0, *answers.shape[1:])
    learned = measure(spec.task, fresh[TASKS[task]].cast(pl.Float64).to_numpy(), answers)
    assert learned.get("auc", learned.get("accuracy", learned.get("r2"))) > 0.5
    assert trained.data_end == rows["at"].max()  # the early-stopping tail is part of what was fitted
    schema = json.loads(trained.files[SCHEMA])
    assert [feature["name"] for feature in schema["features"]] == spec.features.columns
    assert schema["features"][1]["categories"] == ["AA", "B6", "UA"]
    assert schema.get("classes") == classes


def test_what_the_bundle_says_counts_whatever_else_the_rows_hold(trainer: Trainer) -> None:
    files = files_of(trainer)
    rows = make_rows(200, seed=2)
    other = rows.select(reversed(rows.columns)).drop("y").with_columns(new=pl.lit(1))
    assert np.array_equal(trainer.predict(files, other), trainer.predict(files, rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop("x", "count"), "columns x, count: not in these rows, which hold id, at, carrier"),
        (lambda rows: rows.with_columns(x=pl.lit("7.5")), "column 'x': found type String, for example ['7.5']"),
        (lambda rows: rows.with_columns(carrier=pl.lit(0.5)), "column 'carrier': found type Float64"),
        (lambda rows: rows.with_columns(x=pl.lit(float("inf"))), "column 'x': found 50 infinite values"),
        (lambda rows: rows.with_columns(count=pl.col("at")), "column 'count': found type Datetime"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(trainer: Trainer, change, message: str) -> None:
    files = files_of(trainer)
    with pytest.raises(NotComparable) as refused:
        trainer.predict(files, change(make_rows(50)))
    assert message in str(refused.value)


@pytest.mark.parametrize("kind", [pl.String, pl.Float64, pl.Null])
def test_a_column_without_any_value_can_be_scored_whatever_its_type(trainer: Trainer, kind) -> None:
    files = files_of(trainer)
    rows = make_rows(50).with_columns(x=pl.lit(None, kind), carrier=pl.lit(None, kind))
    assert np.isfinite(trainer.predict(files, rows)).all()


def test_the_same_rows_and_spec_give_the_same_files(trainer: Trainer) -> None:
    first, second = (trainer.fit(make_spec(), Rows.of(make_rows())) for _ in range(2))
    assert first.files == second.files
    assert set(first.files) == {MODEL, SCHEMA, GOLDEN, REFERENCE}


@pytest.mark.parametrize("task", TASKS)
def test_the_bundle_tells_what_training_saw(trainer: Trainer, task: str) -> None:
    spec, rows = spec_for(task, features={**SPEC["features"], "not_logged": ["count"]}), make_rows()
    first, second = (trainer.fit(spec, Rows.of(rows)).files for _ in range(2))
    assert first == second
    assert (LOSS in first) is (spec.task is Task.REGRESSION)
    found = from_bytes(first[REFERENCE])
    assert (found.task, found.rows) == (spec.task, 600)
    x, carrier = found.features  # what is not logged cannot be compared
    assert isinstance(x, NumberBins)
    assert isinstance(carrier, CategoryBins)
    assert (sum(x.counts), x.counts[-1]) == (600, rows["x"].null_count())
    assert carrier.categories == ("AA", "B6", "UA")
    assert carrier.counts[:3] == tuple(rows["carrier"].drop_nulls().value_counts().sort("carrier")["count"])
    assert carrier.counts[3:] == (0, rows["carrier"].null_count())
    tail, label = rows.tail(90), rows.tail(90)[TASKS[task]].cast(pl.Float64).to_numpy()
    assert dict(found.quality) == pytest.approx(measure(spec.task, label, trainer.predict(first, tail)))
    assert sum(found.prediction.counts) == 90


def test_errors_of_a_regression_are_told_ahead(trainer: Trainer) -> None:
    spec = spec_for("regression", features={**SPEC["features"], "not_logged": ["count"]})
    rows, fresh = make_rows(3000), make_rows(500, seed=2)
    files = trainer.fit(spec, Rows.of(rows)).files
    answers = trainer.predict(files, fresh)
    logged = fresh.select("carrier", "x")  # as serving logs them, in any order
    told = trainer.expected_losses(files, logged, answers)
    assert (told.shape, told.dtype) == ((500, 2), np.float64)
    assert (told >= 0).all()
    assert (told[:, 1] >= told[:, 0] ** 2 - 1e-9).all()
    off = np.abs(answers - fresh["amount"].to_numpy())
    assert told.mean(axis=0) == pytest.approx([off.mean(), (off**2).mean()], rel=0.2)
    assert trainer.expected_losses(files, logged.clear(), answers[:0]).shape == (0, 2)
    assert np.array_equal(told[7:], trainer.expected_losses(files, logged[7:], answers[7:]))
    with pytest.raises(NotComparable, match="columns x"):
        trainer.expected_losses(files, logged.drop("x"), answers)


def test_a_bundle_without_such_a_file_tells_no_errors(trainer: Trainer) -> None:
    files = files_of(trainer)
    with pytest.raises(NotComparable, match=r"no loss\.ubj in this bundle"):
        trainer.expected_losses(files, make_rows(5), np.zeros(5))


def test_unlabelled_rows_are_not_fitted_on(trainer: Trainer) -> None:
    rows = make_rows()
    newest = rows["at"].max()
    unlabelled = rows.tail(5).with_columns(at=pl.col("at") + timedelta(days=1), y=pl.lit(None, pl.Int64))
    assert trainer.fit(make_spec(), Rows.of(pl.concat([rows, unlabelled]))).data_end == newest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.clear(), "found no row"),
        (lambda rows: rows.with_columns(y=pl.lit(None, pl.Int64)), "no value in any of 600 rows"),
        (lambda rows: rows.with_columns(y=pl.lit(1)), "one class only: 1 in all 600 rows"),
        (lambda rows: rows.with_columns(y=pl.col("y") + 1), "found 2; allowed: 0 and 1"),
        (lambda rows: rows.with_columns(y=pl.lit("late")), "type String; allowed: 0 and 1"),
        (lambda rows: rows.with_columns(x=pl.lit("7.5")), "feature 'x': found type String, for example ['7.5']"),
        (lambda rows: rows.with_columns(x=pl.lit(float("inf"))), "feature 'x': found 600 infinite values"),
        (lambda rows: rows.with_columns(carrier=pl.lit(0.5)), "feature 'carrier': found type Float64"),
        (lambda rows: rows.with_columns(carrier=pl.lit(None, pl.String)), "feature 'carrier': found no value in any"),
        (lambda rows: rows.drop("x"), "columns x: found not in the training rows"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(trainer: Trainer, change, message: str) -> None:
    with pytest.raises(TrainingRefused) as refused:
        trainer.fit(make_spec(), Rows.of(change(make_rows())))
    assert message in str(refused.value)


# ---------------------------------------------------------------- weights, monotone, imbalance


def fitted(trainer: Trainer, rows: pl.DataFrame, **training) -> Mapping[str, bytes]:
    return trainer.fit(make_spec(training={**SPEC["training"], **training}), Rows.of(rows)).files


def test_a_row_of_weight_0_teaches_nothing(trainer: Trainer) -> None:
    rows = make_rows(1000)
    wrong = pl.int_range(pl.len()) % 2 == 1
    turned = rows.with_columns(
        y=pl.when(wrong).then(1 - pl.col("y")).otherwise("y"), w=pl.when(wrong).then(0.0).otherwise(2.0)
    )
    fresh = make_rows(400, seed=2)
    scores = [
        auc(fresh["y"].to_numpy(), trainer.predict(fitted(trainer, turned, weights=column), fresh))
        for column in ("w", None)
    ]
    assert scores[0] > 0.75 > 0.65 > scores[1]


def test_weights_are_no_feature_unless_they_are_named(trainer: Trainer) -> None:
    rows = make_rows().with_columns(w=pl.lit(1.0))
    schema = json.loads(fitted(trainer, rows, weights="w")[SCHEMA])
    assert [feature["name"] for feature in schema["features"]] == ["x", "carrier", "count"]
    named = make_spec(
        training={**SPEC["training"], "weights": "count"}, features={"columns": ["x", "count"], "categorical": []}
    )
    assert json.loads(trainer.fit(named, Rows.of(rows)).files[SCHEMA])["features"][1]["name"] == "count"


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (pl.lit(-0.5), "600 rows such as -0.5 at 2013-02-"),
        (pl.when(pl.col("id") == "r7").then(None).otherwise(1.0), "1 rows such as None at 2013-"),
        (pl.lit(float("nan")), "600 rows such as nan"),
        (pl.lit("1"), "type String"),
        (pl.lit(0.0), "0 in all 600 rows"),
    ],
)
def test_weights_that_cannot_be_weighed_by_are_refused(trainer: Trainer, weight, message: str) -> None:
    with pytest.raises(TrainingRefused, match=r"training\.weights 'w'") as refused:
        fitted(trainer, make_rows().with_columns(w=weight), weights="w")
    assert message in str(refused.value)


@pytest.mark.parametrize("way", ["increasing", "decreasing"])
def test_answers_never_go_the_other_way_as_a_monotone_feature_grows(trainer: Trainer, way: str) -> None:
    files = fitted(trainer, make_rows(1000), monotone={"x": way})
    asked = make_rows(50, seed=5)
    grid = pl.concat([asked.with_columns(x=pl.lit(float(x))) for x in np.linspace(-3, 3, 25)])
    steps = np.diff(trainer.predict(files, grid).reshape(25, 50), axis=0)
    assert (steps >= 0).all() if way == "increasing" else (steps <= 0).all()
    assert bool(steps.any()) is (way == "increasing")  # y grows with x, so that the other way nothing is learned of it


def test_a_rare_class_weighs_as_much_as_a_frequent_one_if_balanced(trainer: Trainer) -> None:
    rows = make_rows(2000).with_columns(y=((pl.col("y") == 1) & (pl.int_range(pl.len()) % 5 == 0)).cast(pl.Int64))
    fresh = make_rows(500, seed=2)
    plain, balanced = (
        trainer.predict(fitted(trainer, rows, imbalance=how), fresh).mean() for how in (None, "balanced")
    )
    share = rows["y"].mean()
    assert plain < 2 * share < 0.25
    assert 0.3 < balanced < 0.7


def test_rare_classes_of_many_weigh_as_much_too(trainer: Trainer) -> None:
    rows = make_rows(3000).filter((pl.col("klass") == 1) | (pl.int_range(pl.len()) % 8 == 0))
    fresh = make_rows(500, seed=2)
    plain, balanced = (
        trainer.predict(
            trainer.fit(
                spec_for("multiclass_classification", training={**SPEC["training"], "imbalance": how}), Rows.of(rows)
            ).files,
            fresh,
        ).mean(axis=0)
        for how in (None, "balanced")
    )
    assert balanced[1] < plain[1] - 0.05


# ---------------------------------------------------------------- rows by parts


@pytest.fixture
def without_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a test are too many for one frame, and some fifty make a piece."""
    monkeypatch.setattr(memory_estimate, "FRAME_CELLS", 100)
    monkeypatch.setattr(prepared, "PIECE_CELLS", 256)


def in_parts(rows: pl.DataFrame, many: int = 7) -> Rows:
    size = -(-rows.height // many)
    return Rows(rows.height, lambda: rows.iter_slices(size))


@pytest.mark.parametrize("engine", ["local", "external_memory"])
@pytest.mark.parametrize("task", TASKS)
def test_rows_in_parts_give_the_files_of_one_frame(
    trainer: Trainer, task: str, engine: str, request: pytest.FixtureRequest
) -> None:
    more = {"params": {"subsample": 0.8}, "weights": "w", **({} if task == "regression" else {"imbalance": "balanced"})}
    rows = make_rows(997).with_columns(w=pl.col("count").cast(pl.Float64) + 0.5)
    rows = rows.with_columns(
        pl.when(pl.int_range(pl.len()) % 50 == 3).then(None).otherwise(TASKS[task]).alias(TASKS[task])
    )
    whole = trainer.fit(spec_for(task, training={**SPEC["training"], **more}), Rows.of(rows))
    request.getfixturevalue("without_frames")
    parted = trainer.fit(spec_for(task, training={**SPEC["training"], **more, "engine": engine}), in_parts(rows))
    assert parted.files == whole.files
    assert (parted.data_end, parted.metrics, parted.engine) == (whole.data_end, whole.metrics, engine)


def test_what_one_part_alone_would_not_teach_is_no_reason_to_stop(trainer: Trainer, without_frames: None) -> None:
    rows = make_rows(400).with_columns(
        carrier=pl.when(pl.int_range(pl.len()) < 100).then(None).otherwise("carrier"),
        y=pl.col("x").fill_null(0).rank() > 200,
    )
    rows = pl.concat([rows.filter("y"), rows.filter(~pl.col("y")), rows]).with_columns(y=pl.col("y").cast(pl.Int64))
    assert trainer.fit(make_spec(), in_parts(rows)).files
    with pytest.raises(TrainingRefused, match="one class only: 1 in all 400 rows"):
        trainer.fit(make_spec(), in_parts(make_rows(400).with_columns(y=pl.lit(1))))


def test_rows_that_need_more_memory_than_there_is_are_refused(tmp_path: Path) -> None:
    for trainer in (_limited(tmp_path), FakeTrainer(limit_mb=100)):
        with pytest.raises(TrainingRefused, match=r"allowed 100 MB.*EVERGREEN_TRAINING_MEMORY_MB"):
            trainer.fit(make_spec(), Rows.of(make_rows()))


# ---------------------------------------------------------------- fitted again


def refitted(trainer: Trainer, task: str, rows: pl.DataFrame, more: pl.DataFrame, rounds: int = 7, **training):
    """Fitted on rows, then again on these and more of them; both results."""
    spec = spec_for(task, training={**SPEC["training"], **training})
    first = trainer.fit(spec, Rows.of(rows))
    return first, trainer.refit(spec, Rows.of(pl.concat([rows, more])), rounds, first.files)


@pytest.mark.parametrize("task", TASKS)
def test_fitted_again_it_has_learned_the_newest_rows_and_measures_as_before(trainer: Trainer, task: str) -> None:
    more = make_rows(100, until=AS_OF + timedelta(days=5), seed=3)
    first, again = refitted(trainer, task, make_rows(), more)
    assert (again.data_end, again.rounds) == (more["at"].max(), 7)
    assert (again.metrics, again.history) == ({}, {})
    assert again.files.keys() == first.files.keys()
    assert again.files[MODEL] != first.files[MODEL]
    assert again.files[REFERENCE] == first.files[REFERENCE]
    asked = make_rows(50, seed=4)
    answers = trainer.predict(again.files, asked)
    assert answers.shape == trainer.predict(first.files, asked).shape
    assert not np.array_equal(answers, trainer.predict(first.files, asked))
    golden = json.loads(again.files[GOLDEN])
    assert golden["predictions"] != json.loads(first.files[GOLDEN])["predictions"]


def test_fitted_again_twice_gives_the_same_files(trainer: Trainer) -> None:
    rows, more = make_rows(), make_rows(100, until=AS_OF + timedelta(days=5), seed=3)
    found = [refitted(trainer, "regression", rows, more)[1].files for _ in range(2)]
    assert found[0] == found[1]


def test_categories_that_only_the_newest_rows_have_are_learned(trainer: Trainer) -> None:
    more = make_rows(100, until=AS_OF + timedelta(days=5), seed=3).with_columns(carrier=pl.lit("AB"))
    first, again = refitted(trainer, "regression", make_rows(), more)
    schema = json.loads(again.files[SCHEMA])["features"]
    assert next(one["categories"] for one in schema if one["name"] == "carrier") == ["AA", "AB", "B6", "UA"]
    before, now = (
        next(bins for bins in from_bytes(one.files[REFERENCE]).features if bins.name == "carrier")
        for one in (first, again)
    )
    assert isinstance(before, CategoryBins)
    assert isinstance(now, CategoryBins)
    aa, b6, ua, *others = before.counts
    assert (now.categories, now.counts) == (("AA", "AB", "B6", "UA"), (aa, 0, b6, ua, *others))
    asked = make_rows(300, seed=4)
    said = trainer.predict(first.files, asked)  # of the same answers the errors that are told are the same
    told = [trainer.expected_losses(one.files, asked, said) for one in (first, again)]
    assert np.array_equal(told[0], told[1])
    unknown = asked.with_columns(carrier=pl.lit("AB"))
    missing = asked.with_columns(carrier=pl.lit(None, pl.String))
    new, none = (trainer.expected_losses(again.files, rows, said) for rows in (unknown, missing))
    assert np.array_equal(new, none)


def test_a_class_that_the_judged_one_does_not_know_is_refused(trainer: Trainer) -> None:
    more = make_rows(100, until=AS_OF + timedelta(days=5), seed=3).with_columns(klass=pl.lit(3, pl.Int64))
    with pytest.raises(TrainingRefused, match=r"training\.refit: found class 3 in the holdout"):
        refitted(trainer, "multiclass_classification", make_rows(), more)


def test_fitted_again_it_needs_memory_too(tmp_path: Path) -> None:
    for trainer in (_limited(tmp_path), FakeTrainer(limit_mb=100)):
        files = files_of(FakeTrainer())
        with pytest.raises(TrainingRefused, match=r"allowed 100 MB.*EVERGREEN_TRAINING_MEMORY_MB"):
            trainer.refit(make_spec(), Rows.of(make_rows()), 5, files)


@pytest.mark.parametrize("engine", ["local", "external_memory"])
def test_fitted_again_in_parts_it_is_that_of_one_frame(
    trainer: Trainer, engine: str, request: pytest.FixtureRequest
) -> None:
    rows = make_rows(700).with_columns(w=pl.col("count").cast(pl.Float64) + 0.5)
    spec = make_spec(
        training={**SPEC["training"], "params": {"subsample": 0.8}, "weights": "w", "imbalance": "balanced"}
    )
    judged = trainer.fit(spec, Rows.of(rows.head(600))).files
    whole = trainer.refit(spec, Rows.of(rows), 9, judged)
    request.getfixturevalue("without_frames")
    held = spec.model_copy(update={"training": spec.training.model_copy(update={"engine": engine})})
    parted = trainer.refit(held, in_parts(rows), 9, judged)
    assert parted.files == whole.files
    assert parted.engine == engine


# ---------------------------------------------------------------- XGBoost only


def _limited(folder: Path, limit_mb: float = 100) -> XGBoostTrainer:
    return XGBoostTrainer(sklearn_measure, lambda *_: {}, lambda *_: (), limit_mb=limit_mb, folder=folder)


def test_what_a_fit_writes_meanwhile_is_gone_afterwards_also_after_an_error(tmp_path: Path) -> None:
    trainer, spec = _limited(tmp_path, 4000), make_spec(training={**SPEC["training"], "engine": "external_memory"})
    seen = []

    def parts(fail: bool):
        for part in make_rows().iter_slices(100):
            seen.append(len(list(tmp_path.glob("*/*"))))
            yield part
        if fail:
            raise OSError("the store went away")

    trainer.fit(spec, Rows(600, lambda: parts(fail=False)))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="went away"):
        trainer.fit(spec, Rows(600, lambda: parts(fail=True)))
    assert list(tmp_path.iterdir()) == []
    assert max(seen) > 0


def test_what_a_killed_fit_left_goes_with_the_next_and_what_another_one_uses_stays(tmp_path: Path) -> None:
    (tmp_path / "fit-dead").mkdir()
    (tmp_path / "fit-dead" / "fitted.gradient_index.page").write_bytes(b"left")
    with scratch(tmp_path) as one:
        (one / "rows.arrow").write_bytes(b"in use")
        assert [folder.name for folder in tmp_path.iterdir()] == [one.name]
        with scratch(tmp_path) as other:
            assert other != one
            assert (one / "rows.arrow").exists()
        assert [folder.name for folder in tmp_path.iterdir()] == [one.name]
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there_is_told_of() -> None:
    spec = make_spec(training={**SPEC["training"], "device": "cuda"})
    with pytest.raises(TrainingRefused, match=r"training\.device: found cuda, and no GPU"):
        wiring.trainer().fit(spec, Rows.of(make_rows(100)))


def test_another_seed_gives_another_model_and_the_same_seed_the_same() -> None:
    params = {"subsample": 0.5}
    found = [fitted(wiring.trainer(), make_rows(), params=params, seed=seed)[MODEL] for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_of_many_rows_reference_comes_from_some_and_its_ends_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "FRAME_CELLS", 100)
    monkeypatch.setattr(prepared, "picked", lambda rows: np.arange(0, rows, 3))
    rows = make_rows(600)
    found = from_bytes(fitted(wiring.trainer(), rows)[REFERENCE])
    x = found.features[0]
    assert (found.rows, sum(x.counts), sum(found.prediction.counts)) == (600, 200, 30)
    assert (x.bounds[0], x.bounds[-1]) == pytest.approx((rows["x"].min(), rows["x"].max()))


def served(files, rows: pl.DataFrame) -> np.ndarray:
    """Answers by serving's path: float32 codes and inplace_predict."""
    schema = json.loads(files[SCHEMA])["features"]
    columns = []
    for feature in schema:
        values = rows[feature["name"]].to_list()
        if feature["kind"] == "category":
            codes = {name: i for i, name in enumerate(feature["categories"])}
            values = [codes.get(value, math.nan) for value in values]
        columns.append(np.array([math.nan if v is None else v for v in values], dtype=np.float32))
    booster = xgb.Booster(model_file=bytearray(files[MODEL]))
    return booster.inplace_predict(np.column_stack(columns), validate_features=False)


@pytest.mark.parametrize("task", TASKS)
def test_golden_answers_are_those_of_the_serving_path(task: str) -> None:
    files = wiring.trainer().fit(spec_for(task), Rows.of(make_rows())).files
    golden = json.loads(files[GOLDEN])
    rows = pl.DataFrame(golden["rows"], infer_schema_length=None)
    assert len(golden["rows"]) == len(golden["predictions"]) == 21
    assert any(value is None for row in golden["rows"][:-1] for value in row.values())
    assert set(golden["rows"][-1].values()) == {None}
    assert np.array_equal(served(files, rows), np.array(golden["predictions"], dtype=np.float32))


def test_a_category_never_seen_counts_as_missing() -> None:
    trainer, spec = wiring.trainer(), make_spec()
    files = trainer.fit(spec, Rows.of(make_rows())).files
    rows = make_rows(100, seed=3)
    unseen, missing = (trainer.predict(files, rows.with_columns(carrier=pl.lit(v, pl.String))) for v in ("ZZ", None))
    assert np.array_equal(unseen, missing)


def test_only_the_trees_up_to_the_best_round_are_kept() -> None:
    spec = make_spec(training={"params": {"learning_rate": 1.0}, "rounds": {"max": 200, "early_stopping": 5}})
    trained = wiring.trainer().fit(spec, Rows.of(make_rows()))
    curve = trained.history["tail logloss"]
    assert trained.rounds == int(np.argmin(curve)) + 1 < len(curve) < 200
    assert xgb.Booster(model_file=bytearray(trained.files[MODEL])).num_boosted_rounds() == trained.rounds


@pytest.mark.parametrize("task", TASKS)
def test_the_tail_is_measured_by_every_metric_of_the_task(task: str) -> None:
    spec = spec_for(task)
    metrics = wiring.trainer().fit(spec, Rows.of(make_rows())).metrics
    assert set(metrics) == {f"tail.{name}" for name in METRICS_BY_TASK[spec.task]}
    assert all(map(math.isfinite, metrics.values()))


def test_a_class_that_the_model_never_saw_has_no_logloss() -> None:
    chances = np.array([[0.5, 0.5], [0.2, 0.8]])
    found = sklearn_measure(Task.MULTICLASS, np.array([0.0, 2.0]), chances)
    assert {name for name, value in found.items() if math.isnan(value)} == {"logloss", "brier"}


def test_the_model_learns_and_says_from_what() -> None:
    trained = wiring.trainer().fit(make_spec(), Rows.of(make_rows(2000)))
    assert trained.metrics["tail.auc"] > 0.8
    assert next(iter(trained.importances)) == "x"
    assert sum(trained.importances.values()) == pytest.approx(1)
    assert all(picture.startswith(b"\x89PNG") for picture in trained.plots.values())
    assert len(trained.plots) == 2


def test_a_number_without_any_value_is_no_reason_to_stop() -> None:
    trained = wiring.trainer().fit(make_spec(), Rows.of(make_rows().with_columns(x=pl.lit(None, pl.Float64))))
    assert trained.importances["x"] == 0


def test_an_infinite_label_is_refused() -> None:
    with pytest.raises(TrainingRefused, match="infinite"):
        wiring.trainer().fit(spec_for("regression"), Rows.of(make_rows().with_columns(amount=pl.lit(float("inf")))))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_depth": "deep"}, "max_depth"),
        ({"subsample": 7}, "value 7 for Parameter subsample exceed bound"),
        ({"monotone_constraints": "(1,0,0,0,1)"}, "monotone"),
    ],
)
def test_parameters_that_xgboost_does_not_accept_are_refused(params, message: str) -> None:
    spec = make_spec(training={"params": params, "rounds": {"max": 5}})
    with pytest.raises(TrainingRefused, match=r"training\.params") as refused:
        wiring.trainer().fit(spec, Rows.of(make_rows(100)))
    assert message in str(refused.value)
    assert "Stack trace" not in str(refused.value)


def test_older_rows_of_one_class_are_refused_though_the_tail_has_two() -> None:
    rows = make_rows(100).with_columns(y=(pl.int_range(100) >= 98).cast(pl.Int64))
    with pytest.raises(TrainingRefused, match="one class only"):
        wiring.trainer().fit(make_spec(), Rows.of(rows))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("rows", [30, 100])
def test_few_rows_are_enough(task: str, rows: int) -> None:
    files = wiring.trainer().fit(spec_for(task), Rows.of(make_rows(rows))).files
    found = from_bytes(files[REFERENCE])
    assert found.spread == {}
    if LOSS in files:
        assert np.isfinite(wiring.trainer().expected_losses(files, make_rows(5), np.full(5, 1000.0))).all()


def test_rows_that_are_missed_by_more_are_told_apart() -> None:
    random = np.random.default_rng(4)
    rows = make_rows(6000)
    noise = random.normal(scale=np.where(rows["carrier"].fill_null("") == "UA", 300, 30))
    files = wiring.trainer().fit(spec_for("regression"), Rows.of(rows.with_columns(amount=1000 + noise))).files
    asked = make_rows(200, seed=3)
    told = wiring.trainer().expected_losses(files, asked, wiring.trainer().predict(files, asked))[:, 0]
    loud = (asked["carrier"].fill_null("") == "UA").to_numpy()
    assert told[loud].mean() > 5 * told[~loud].mean()
    assert from_bytes(files[REFERENCE]).spread["mae"] < 30


def test_a_small_model_answers_rows_that_came_later_and_the_same_each_time(trainer: Trainer) -> None:
    rows = make_rows()
    before, ahead = rows.head(500), rows.tail(100)
    said = trainer.try_out(make_spec(), before, ahead)
    assert (said.shape, said.dtype) == ((100,), np.dtype("float64"))
    assert auc(ahead["y"].to_numpy(), said) > 0.6
    assert (trainer.try_out(make_spec(), before, ahead) == said).all()
    with pytest.raises(TrainingRefused):
        trainer.try_out(make_spec(), before.with_columns(y=pl.lit(1)), ahead)


def test_fitted_again_it_has_as_many_trees_as_it_is_told_and_all_rows_in_them() -> None:
    """What bare XGBoost makes of the same rows."""
    rows, more = make_rows(), make_rows(100, until=AS_OF + timedelta(days=5), seed=3)
    _, again = refitted(wiring.trainer(), "regression", rows, more, rounds=11)
    booster = xgb.Booster(model_file=bytearray(again.files[MODEL]))
    assert booster.num_boosted_rounds() == 11
    both = pl.concat([rows, more])
    inputs = both.select(
        pl.col("x").cast(pl.Float32),
        pl.col("carrier").cast(pl.Enum(["AA", "B6", "UA"])),
        pl.col("count").cast(pl.Float32),
    )
    matrix = xgb.QuantileDMatrix(inputs, label=both["amount"].to_numpy(), enable_categorical=True)
    params = {**SPEC["training"]["params"], "objective": "reg:squarederror", "seed": 2013}
    bare = xgb.train(params, matrix, num_boost_round=11)
    told = wiring.trainer().predict(again.files, both)
    assert np.allclose(told, bare.predict(xgb.DMatrix(inputs, enable_categorical=True)), rtol=1e-5)
