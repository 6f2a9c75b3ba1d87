"""NannyML over the folders that benchmarks/drift.py lays out; a line of JSON for each period.

Its own defaults: univariate drift by Jensen-Shannon's distance and missing values by column, auc estimated (CBPE) and
realised (when labels come), each with limits of three standard deviations over the reference's chunks.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
warnings.filterwarnings("ignore")
import nannyml  # noqa: E402
import pandas as pd  # noqa: E402


def calculators(
    columns: dict[str, Any], fitted: pd.DataFrame, tail: pd.DataFrame, rows: int
) -> Iterator[tuple[str, Callable[[pd.DataFrame], Any], bool]]:
    """By name what watches, fitted, its method, and whether it needs labels."""
    features, categories, label = columns["features"], columns["categories"], columns["label"]
    quality = {
        "problem_type": "classification_binary",
        "y_pred_proba": "prediction",
        "y_pred": "class",
        "y_true": label,
        "metrics": ["roc_auc"],
        "chunk_size": rows,
    }
    univariate, missing = nannyml.UnivariateDriftCalculator, nannyml.MissingValuesCalculator
    of_features = univariate(column_names=features, treat_as_categorical=categories, chunk_size=rows).fit(fitted)
    yield "drift", of_features.calculate, False
    yield "drift", univariate(column_names=["prediction"], chunk_size=rows).fit(tail).calculate, False
    yield "missing", missing(column_names=features, chunk_size=rows).fit(fitted).calculate, False
    yield "estimated", nannyml.CBPE(**quality).fit(tail).estimate, False
    yield "realised", nannyml.PerformanceCalculator(**quality).fit(tail).calculate, True


def alarms(name: str, result: Any, labels: bool) -> Iterator[dict[str, Any]]:
    """What is beyond its limits."""
    frame = result.filter(period="analysis").to_df()
    for column in frame.columns:
        if column[-1] == "alert" and bool(frame[column].iloc[0]):
            about = "quality" if name in ("estimated", "realised") else column[0]
            yield {"metric": f"{name} {column[0]}", "about": about, "labels": labels}


def main(folder: Path) -> None:
    """Every period of every stream."""
    columns = json.loads((folder / "columns.json").read_text())
    fitted, tail, periods = (pd.read_parquet(folder / f"{name}.parquet") for name in ("fitted", "tail", "periods"))
    for frame in (fitted, tail, periods):
        frame["class"] = (frame["prediction"] >= 0.5).astype(int)
    groups = periods.groupby(["stream", "period"], sort=True)
    rows = len(next(iter(groups))[1])
    watching = list(calculators(columns, fitted, tail, rows))
    for (stream, period), chunk in groups:
        chunk = chunk.drop(columns=["stream", "period"]).reset_index(drop=True)
        began = time.perf_counter()
        found = [one for name, ask, labels in watching for one in alarms(name, ask(chunk), labels)]
        seconds = time.perf_counter() - began
        print(json.dumps({"stream": stream, "period": int(period), "seconds": seconds, "alarms": found}), flush=True)


if __name__ == "__main__":
    for one in sys.argv[1:]:
        print(json.dumps({"folder": one}))
        main(Path(one))
