"""What every trainer keeps: XGBoost and its in-memory twin."""

from __future__ import annotations

import json
import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
import xgboost as xgb

from evergreen import wiring
from evergreen.core.bundle import GOLDEN, MODEL, SCHEMA
from evergreen.core.errors import TrainingRefused
from evergreen.core.metrics import METRICS_BY_TASK
from evergreen.core.ports import Trainer
from evergreen.fakes.trainer import FakeTrainer
from training_data import SPEC, make_rows, make_spec

TASKS = {"binary_classification": "y", "multiclass_classification": "klass", "regression": "amount"}
GATES = {"regression": [{"metric": "rmse", "max": 500}], "multiclass_classification": [{"metric": "logloss", "max": 1}]}


@pytest.fixture(params=["xgboost", "fake"])
def trainer(request: pytest.FixtureRequest) -> Trainer:
    return wiring.trainer() if request.param == "xgboost" else FakeTrainer()


def spec_for(task: str, **changes):
    return make_spec(
        task=task,
        label={"column": TASKS[task], "arrives_after": "1d"},
        gates=GATES.get(task, SPEC["gates"]),
        **changes,
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_fitted_model_scores_every_metric_of_its_task(trainer: Trainer, task: str) -> None:
    spec, rows = spec_for(task), make_rows()
    trained = trainer.fit(spec, rows)
    scores = trainer.score(spec, trained.files, make_rows(200, seed=2))
    assert set(scores) == set(METRICS_BY_TASK[spec.task])
    assert all(math.isfinite(value) for value in scores.values())
    assert trained.data_end == rows["at"].max()  # the early-stopping tail is part of what was fitted
    schema = json.loads(trained.files[SCHEMA])
    assert [feature["name"] for feature in schema["features"]] == spec.features.columns
    assert schema["features"][1]["categories"] == ["AA", "B6", "UA"]
    assert schema.get("classes") == (3 if task.startswith("multi") else None)


def test_the_same_rows_and_spec_give_the_same_files(trainer: Trainer) -> None:
    first, second = (trainer.fit(make_spec(), make_rows()) for _ in range(2))
    assert first.files == second.files
    assert set(first.files) == {MODEL, SCHEMA, GOLDEN}


def test_unlabelled_rows_are_not_fitted_on(trainer: Trainer) -> None:
    rows = make_rows()
    newest = rows["at"].max()
    unlabelled = rows.tail(5).with_columns(at=pl.col("at") + timedelta(days=1), y=pl.lit(None, pl.Int64))
    assert trainer.fit(make_spec(), pl.concat([rows, unlabelled])).data_end == newest


def test_rows_of_one_class_give_no_auc(trainer: Trainer) -> None:
    trained = trainer.fit(make_spec(), make_rows())
    scores = trainer.score(make_spec(), trained.files, make_rows().filter(pl.col("y") == 1))
    assert math.isnan(scores["auc"])
    assert math.isfinite(scores["logloss"])


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
        trainer.fit(make_spec(), change(make_rows()))
    assert message in str(refused.value)


# ---------------------------------------------------------------- XGBoost only


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
    files = wiring.trainer().fit(spec_for(task), make_rows()).files
    golden = json.loads(files[GOLDEN])
    rows = pl.DataFrame(golden["rows"], infer_schema_length=None)
    assert len(golden["rows"]) == len(golden["predictions"]) == 21
    assert any(value is None for row in golden["rows"][:-1] for value in row.values())
    assert set(golden["rows"][-1].values()) == {None}
    assert np.array_equal(served(files, rows), np.array(golden["predictions"], dtype=np.float32))


def test_a_category_never_seen_counts_as_missing() -> None:
    trainer, spec = wiring.trainer(), make_spec()
    files = trainer.fit(spec, make_rows()).files
    rows = make_rows(100, seed=3)
    unseen, missing = (
        trainer.score(spec, files, rows.with_columns(carrier=pl.lit(v, pl.String))) for v in ("ZZ", None)
    )
    assert unseen == missing


def test_only_the_trees_up_to_the_best_round_are_kept() -> None:
    spec = make_spec(training={"params": {"learning_rate": 1.0}, "rounds": {"max": 200, "early_stopping": 5}})
    trained = wiring.trainer().fit(spec, make_rows())
    curve = trained.history["tail logloss"]
    assert trained.rounds == int(np.argmin(curve)) + 1 < len(curve) < 200
    assert xgb.Booster(model_file=bytearray(trained.files[MODEL])).num_boosted_rounds() == trained.rounds


def test_the_model_learns_and_says_from_what() -> None:
    trained = wiring.trainer().fit(make_spec(), make_rows(2000))
    assert trained.metrics["tail.auc"] > 0.8
    assert next(iter(trained.importances)) == "x"
    assert sum(trained.importances.values()) == pytest.approx(1)
    assert all(picture.startswith(b"\x89PNG") for picture in trained.plots.values())
    assert len(trained.plots) == 2


def test_a_number_without_any_value_is_no_reason_to_stop() -> None:
    trained = wiring.trainer().fit(make_spec(), make_rows().with_columns(x=pl.lit(None, pl.Float64)))
    assert trained.importances["x"] == 0


def test_an_infinite_label_is_refused() -> None:
    with pytest.raises(TrainingRefused, match="infinite"):
        wiring.trainer().fit(spec_for("regression"), make_rows().with_columns(amount=pl.lit(float("inf"))))


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
        wiring.trainer().fit(spec, make_rows(100))
    assert message in str(refused.value)
    assert "Stack trace" not in str(refused.value)


def test_older_rows_of_one_class_are_refused_though_the_tail_has_two() -> None:
    rows = make_rows(100).with_columns(y=(pl.int_range(100) >= 98).cast(pl.Int64))
    with pytest.raises(TrainingRefused, match="one class only"):
        wiring.trainer().fit(make_spec(), rows)
