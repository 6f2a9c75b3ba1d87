"""How far each feature has moved between the rows that were fitted on and the fresh ones: PSI.

The population stability index over bins of a feature, core.guarding.psi. Numbers go by the deciles of the fitted rows,
categories by value, and missing values are a bin of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen.core.guarding import psi
from evergreen.core.sampling import sample

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.spec import ModelSpec

METHOD = "PSI (Siddiqi, Credit Risk Scorecards, 2006): under 0.1 is small, over 0.25 is large"
MOST_FEATURES, TOP_VALUES, MOST_VALUES, MOST_TEXT = 10, 3, 50, 40


def shifts(spec: ModelSpec, fitted: pl.DataFrame, fresh: pl.DataFrame) -> dict[str, Any]:
    """{method, features: the 10 that moved most}, each {feature, psi, kind, fitted, fresh}.

    The last two are {missing: share, mean} of a number, {missing: share, top: [[value, share]]} of a category. A
    feature that one of the frames lacks is left out.
    """
    before, after = sample(fitted), sample(fresh)
    if not (before.height and after.height):
        return {"method": METHOD, "features": []}
    found = [
        _category(before[name], after[name])
        if name in spec.features.categorical
        else _number(before[name], after[name])
        for name in spec.features.columns
        if name in before.columns and name in after.columns
    ]
    return {"method": METHOD, "features": sorted(found, key=lambda one: -one["psi"])[:MOST_FEATURES]}


def _number(fitted: pl.Series, fresh: pl.Series) -> dict[str, Any]:
    import numpy as np
    import polars as pl

    before, after = (values.cast(pl.Float64).fill_nan(None).to_numpy() for values in (fitted, fresh))
    known = before[~np.isnan(before)]
    edges = np.unique(np.quantile(known, np.linspace(0.1, 0.9, 9))) if len(known) else np.empty(0)

    def counts(values: np.ndarray) -> np.ndarray:
        missing = np.isnan(values)
        return np.append(
            np.bincount(np.searchsorted(edges, values[~missing], "left"), minlength=len(edges) + 1), missing.sum()
        )

    def told(values: np.ndarray) -> dict[str, Any]:
        missing = np.isnan(values)
        return {"missing": float(missing.mean()), "mean": float(values[~missing].mean()) if not missing.all() else None}

    return {
        "feature": fitted.name,
        "kind": "number",
        "psi": psi(counts(before).tolist(), counts(after).tolist()),
        "fitted": told(before),
        "fresh": told(after),
    }


def _category(fitted: pl.Series, fresh: pl.Series) -> dict[str, Any]:
    import numpy as np
    import polars as pl

    before, after = (values.cast(pl.String) for values in (fitted, fresh))
    names = _by_rows(before)[:MOST_VALUES]

    def counts(values: pl.Series) -> np.ndarray:
        have = dict(values.value_counts(name="n").rows())
        own = [have.get(name, 0) for name in names]
        missing = values.null_count()
        return np.array([*own, len(values) - sum(own) - missing, missing], dtype=np.float64)

    def told(values: pl.Series) -> dict[str, Any]:
        top = [
            [name[:MOST_TEXT], float((values == name).sum() / len(values))] for name in _by_rows(values)[:TOP_VALUES]
        ]
        return {"missing": values.null_count() / len(values), "top": top}

    return {
        "feature": fitted.name,
        "kind": "category",
        "psi": psi(counts(before).tolist(), counts(after).tolist()),
        "fitted": told(before),
        "fresh": told(after),
    }


def _by_rows(values: pl.Series) -> list[str]:
    """The values, most rows first; of equally many the first in the alphabet."""
    counted = values.drop_nulls().value_counts(name="n")
    return counted.sort(["n", values.name], descending=[True, False])[values.name].to_list()
