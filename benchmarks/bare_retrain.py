"""The peer of data_to_live.py: one retrain as a plain script would do it, without a platform around it.

Pull by pandas, validate by Great Expectations, train by XGBoost, log and register in MLflow, write the model file.
Started as a new process in the same venv, with the same rows, suite, parameters and MLflow server.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import great_expectations as gx
import mlflow
import pandas as pd
import sqlalchemy
import xgboost as xgb
import yaml
from sklearn.metrics import roc_auc_score

TAIL = 0.15  # of the training rows, to stop by: as Evergreen does


def main() -> None:
    """Retrain once, and print the seconds of each part as JSON."""
    options = _parser().parse_args()
    spec = yaml.safe_load((options.model / "model.yaml").read_text())
    suite = json.loads(options.suite.read_text())
    times: dict[str, float] = {}
    began = time.perf_counter()

    def lap(name: str) -> None:
        times[name] = round(time.perf_counter() - began - sum(times.values()), 2)

    rows = pull(spec, options)
    lap("pull")
    rows = validate(rows, suite)
    lap("validate")
    booster, auc = train(spec, rows)
    lap("train")
    log(spec, booster, auc, options)
    booster.save_model(options.out)
    lap("log and write")
    print(json.dumps({"rows": len(rows), "auc": round(auc, 4), "seconds": times}))


def pull(spec: dict, options: argparse.Namespace) -> pd.DataFrame:
    """The window's labelled rows."""
    source, label = spec["source"], spec["label"]["column"]
    columns = [source["key"], source["event_time"], *spec["features"]["columns"], label]
    query = sqlalchemy.text(
        f"SELECT {', '.join(columns)} FROM {source['table']} "  # noqa: S608  (names of our own spec)
        f"WHERE {source['event_time']} BETWEEN :start AND :end ORDER BY {source['event_time']}"
    )
    with sqlalchemy.create_engine(options.source).connect() as connection:
        rows = pd.read_sql(query, connection, params={"start": options.start, "end": options.end})
    rows[source["event_time"]] = pd.to_datetime(rows[source["event_time"]])
    return rows[rows[label].notna()].reset_index(drop=True)


def validate(rows: pd.DataFrame, suite: dict) -> pd.DataFrame:
    """Stop where an expectation does not hold; the few rows that break a tolerated one are left in."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows})
    result = batch.validate(gx.ExpectationSuite(name="suite", expectations=suite["expectations"]))
    if not result.success:
        failed = [found.expectation_config.type for found in result.results if not found.success]
        raise SystemExit(f"validation failed: {failed}")
    return rows


def train(spec: dict, rows: pd.DataFrame) -> tuple[xgb.Booster, float]:
    """Fit on all but the holdout, stop by the newest of those, measure on the holdout."""
    at, label = rows[spec["source"]["event_time"]], rows[spec["label"]["column"]]
    inputs = rows[spec["features"]["columns"]].copy()
    for name in spec["features"]["categorical"]:
        inputs[name] = inputs[name].astype("category")
    holdout_start = at.max() - pd.Timedelta(spec["window"]["holdout"]["length"])
    fit = at <= holdout_start - pd.Timedelta(spec["label"]["arrives_after"])
    head = fit & (fit.cumsum() <= fit.sum() * (1 - TAIL))
    fitted = xgb.QuantileDMatrix(inputs[head], label[head], enable_categorical=True)
    tail = xgb.QuantileDMatrix(inputs[fit & ~head], label[fit & ~head], ref=fitted, enable_categorical=True)
    booster = xgb.train(
        {**spec["training"]["params"], "objective": "binary:logistic", "eval_metric": "logloss", "seed": 2013},
        fitted,
        num_boost_round=spec["training"]["rounds"]["max"],
        early_stopping_rounds=spec["training"]["rounds"]["early_stopping"],
        evals=[(tail, "tail")],
        verbose_eval=False,
    )
    booster = booster[: booster.best_iteration + 1]
    fresh = at > holdout_start
    chance = booster.predict(xgb.DMatrix(inputs[fresh], enable_categorical=True))
    return booster, float(roc_auc_score(label[fresh], chance))


def log(spec: dict, booster: xgb.Booster, auc: float, options: argparse.Namespace) -> None:
    """A run with parameters, the metric and the model, which is registered."""
    mlflow.set_tracking_uri(options.mlflow)
    name = "bare-script"
    if mlflow.get_experiment_by_name(name) is None:
        mlflow.create_experiment(name, artifact_location=str(options.out.parent / "artifacts"))
    with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name(name).experiment_id):
        mlflow.log_params(spec["training"]["params"])
        mlflow.log_metric("auc", auc)
        mlflow.xgboost.log_model(
            booster,
            name="model",
            model_format="ubj",
            registered_model_name=name,
            pip_requirements=[f"xgboost=={xgb.__version__}"],  # without it MLflow spends 6 s guessing
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of model.yaml, defaults merged")
    parser.add_argument("--suite", type=Path, required=True, help="the expectation suite's JSON")
    parser.add_argument("--source", required=True, help="SQLAlchemy URL")
    parser.add_argument("--start", required=True, help="of the window, as the table writes it")
    parser.add_argument("--end", required=True, help="of the window")
    parser.add_argument("--mlflow", required=True, help="URL of the tracking server")
    parser.add_argument("--out", type=Path, required=True, help="model file to write")
    return parser


if __name__ == "__main__":
    main()
