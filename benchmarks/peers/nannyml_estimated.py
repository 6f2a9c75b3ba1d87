"""What NannyML estimates of the periods that benchmarks/estimated.py lays out: CBPE of auc, DLE of mae.

Fitted on the tail, as ours: rows that the model was not grown on. Interval: its confidence band (3 standard errors of
what chance gives).
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
warnings.filterwarnings("ignore")
import nannyml  # noqa: E402
import pandas as pd  # noqa: E402


def estimator(columns: dict[str, Any], tail: pd.DataFrame) -> Any:
    """Fitted; a call of it makes one chunk of all rows."""
    if columns["metric"] == "auc":
        tail["class"] = (tail["prediction"] >= 0.5).astype(int)
        names = {"y_pred_proba": "prediction", "y_pred": "class", "y_true": columns["label"]}
        made = nannyml.CBPE(problem_type="classification_binary", metrics=["roc_auc"], chunk_number=1, **names)
    else:
        names = {"y_pred": "prediction", "y_true": columns["label"], "feature_column_names": columns["features"]}
        made = nannyml.DLE(metrics=["mae"], chunk_number=1, **names)
    return made.fit(tail)


def main(folder: Path) -> None:
    """A line of JSON for each model and period."""
    columns = json.loads((folder / "columns.json").read_text())
    for tail in sorted(folder.glob("*.tail.parquet")):
        name = tail.name.split(".")[0]
        made = estimator(columns, prepared(pd.read_parquet(tail), columns))
        for period, rows in prepared(pd.read_parquet(folder / f"{name}.rows.parquet"), columns).groupby("period"):
            rows = rows.reset_index(drop=True)
            rows["class"] = (rows["prediction"] >= 0.5).astype(int)
            frame = made.estimate(rows).filter(period="analysis").to_df()
            metric = "roc_auc" if columns["metric"] == "auc" else "mae"
            told = [float(frame[metric][key].iloc[0]) for key in ("value", "lower_confidence_boundary")]
            high = float(frame[metric]["upper_confidence_boundary"].iloc[0])
            print(json.dumps({"model": name, "period": period, "value": told[0], "low": told[1], "high": high}))


def prepared(rows: pd.DataFrame, columns: dict[str, Any]) -> pd.DataFrame:
    """Categories as pandas has them."""
    return rows.astype(dict.fromkeys(columns["categories"], "category"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
