"""Evidently's drift preset over the folders that benchmarks/drift.py lays out; a line of JSON for each.

Its own defaults: by column the normed Wasserstein distance (numbers) or Jensen-Shannon's (categories), a limit of 0.1,
and a dataset has drifted when half of its columns have. The label is a column too, read when labels come.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

warnings.filterwarnings("ignore")
from evidently import DataDefinition, Dataset, Report  # noqa: E402
from evidently.presets import DataDriftPreset  # noqa: E402

SAMPLE = 5000  # rows of the reference: with all 40,000 a report takes 2.4 times as long
COLUMN = "ValueDrift(column="


def alarms(current: pd.DataFrame, reference: Any, definition: Any, label: str) -> Iterator[dict[str, Any]]:
    """What is beyond its limit, and whether labels are needed to know it."""
    dataset = Dataset.from_pandas(current, data_definition=definition)
    for metric in Report([DataDriftPreset()]).run(dataset, reference).dict()["metrics"]:
        name, value = metric["metric_name"], metric["value"]
        if name.startswith(COLUMN):
            column = name.removeprefix(COLUMN).split(",")[0]
            if value >= float(name.rsplit("threshold=", 1)[1].rstrip(")")):
                yield {"metric": f"drift of {column}", "about": column, "labels": column == label}
        elif value["share"] >= 0.5:
            yield {"metric": "dataset drift", "about": "*", "labels": False}


def main(folder: Path) -> None:
    """Each stream up to the first alarm that is about what has changed."""
    columns, about = (json.loads((folder / f"{name}.json").read_text()) for name in ("columns", "about"))
    fitted, tail, periods = (pd.read_parquet(folder / f"{name}.parquet") for name in ("fitted", "tail", "periods"))
    used = [*columns["features"], columns["label"], "prediction"]
    categories = [*columns["categories"], columns["label"]]
    numbers = [name for name in used if name not in categories]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    # Predictions are compared with those on rows that no tree was grown on.
    before = fitted[: -len(tail)].sample(SAMPLE, random_state=0)
    before["prediction"] = tail["prediction"].sample(SAMPLE, random_state=0).to_numpy()
    reference = Dataset.from_pandas(before[used], data_definition=definition)
    for (stream, period), rows in periods.groupby(["stream", "period"], sort=True):
        if stream in about and about[stream] is None:
            continue  # seen already
        began = time.perf_counter()
        found = list(alarms(rows[used].reset_index(drop=True), reference, definition, columns["label"]))
        seconds = time.perf_counter() - began
        print(json.dumps({"stream": stream, "period": int(period), "seconds": seconds, "alarms": found}), flush=True)
        if stream in about and any(one["about"] in (about[stream], "prediction", "late", "*") for one in found):
            about[stream] = None


if __name__ == "__main__":
    for one in sys.argv[1:]:
        print(json.dumps({"folder": one}))
        main(Path(one))
