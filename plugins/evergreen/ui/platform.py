"""What the pages read from: the specs, the ledger, the store and the prediction log in it. Nothing is written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen import wiring
from evergreen.core.catalog import load_catalog

if TYPE_CHECKING:
    from evergreen.core.catalog import Catalog
    from evergreen.core.ports import Ledger, Predictions, Store

Made = TypeVar("Made")


@dataclass(frozen=True)
class Platform:
    """Each is asked for when a page needs it. `catalog` takes the one model to read, or none for all."""

    catalog: Callable[[str | None], Catalog]
    ledger: Callable[[], Ledger]
    store: Callable[[], Store]
    predictions: Callable[[], Predictions]
    mlflow_url: str

    @classmethod
    def of(cls, settings: wiring.Settings) -> Platform:
        """The project's own. Ledger and store are opened once, at the first page that needs them."""
        return cls(
            catalog=lambda only: load_catalog(settings.root, only),
            ledger=_once(lambda: wiring.ledger(settings)),
            store=_once(lambda: wiring.store(settings)),
            predictions=_once(lambda: wiring.predictions(settings)),
            mlflow_url=settings.mlflow_pages,
        )


def _once(make: Callable[[], Made]) -> Callable[[], Made]:
    """Made by the first caller; one that fails is tried again by the next."""
    made: list[Any] = []
    lock = threading.Lock()

    def get() -> Made:
        with lock:
            if not made:
                made.append(make())
        return made[0]  # type: ignore[no-any-return]

    return get
