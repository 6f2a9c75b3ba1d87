"""Keeps the report on a version where people look for it: beside its evidence in the store, and with its run in MLflow.

There is one of each version, the newest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from evergreen.core import evidence
from evergreen.core.reported import ARTIFACT, FILE

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Registry, Store


def keep_report(
    model: str, version: int, page: bytes, ledger: Ledger, store: Store, registry: Callable[[], Registry]
) -> str:
    """Keep it; why MLflow has not got it, empty where it has. The store's is the one that pages show."""
    store.put(evidence.key(model, version, FILE), page)
    run = ledger.models.candidate(model, version).mlflow_run
    try:
        registry().log_file(run, ARTIFACT, page)
    except Exception as error:  # MLflow is away: the report is there all the same
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return ""
