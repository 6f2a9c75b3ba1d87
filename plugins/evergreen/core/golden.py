"""Golden rows: a few rows in each bundle with what the model answered to them at training. Offline must be online."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evergreen.core import bundle
from evergreen.core.errors import BundleRefused

TOLERANCE = 1e-6  # relative and absolute together: a regression in thousands cannot meet an absolute one


@dataclass(frozen=True)
class Golden:
    """Rows (feature: value or none), and for each a prediction: a number, or one a class."""

    rows: Sequence[Mapping[str, Any]]
    predictions: Sequence[Any]


def golden_of(sealed: str, read: Callable[[str], bytes]) -> Golden:
    """The golden rows of a bundle, whose files `read` gives by name (KeyError for one that is not there).

    Raises BundleRefused for a file that is missing, not the registered one, or without rows.
    """
    try:
        found = json.loads(bundle.one_file(sealed, bundle.GOLDEN, read))
        golden = Golden(found["rows"], found["predictions"])
    except (KeyError, ValueError, TypeError) as error:
        raise _refused(sealed, f"{type(error).__name__} {error}") from error
    if not golden.rows or len(golden.rows) != len(golden.predictions):
        raise _refused(sealed, f"{len(golden.rows)} rows and {len(golden.predictions)} predictions")
    return golden


def agrees(found: Any, wanted: Any) -> bool:
    """Whether an answer is the prediction of a golden row: numbers within TOLERANCE, classes one by one."""
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(agrees, found, wanted))
    if not isinstance(found, int | float):
        return False
    return bool(abs(found - wanted) <= TOLERANCE + TOLERANCE * abs(wanted))


def _refused(sealed: str, found: str) -> BundleRefused:
    return BundleRefused(
        f"bundle {sealed[:12]}, {bundle.GOLDEN}",
        found=found,
        allowed="a stored file with at least one row, and one prediction for each",
        do="Restore the bundle from the version's artifacts in MLflow (bundle/), or retrain.",
    )
