"""What the tallies of each version look like, by the reference in its bundle; and how far off a regression will be."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from evergreen.core import bundle as bundles
from evergreen.core import logged_parts as parts
from evergreen.core.errors import NotComparable
from evergreen.core.metrics import Task
from evergreen.core.monitoring.reference import LOSS, REFERENCE, absent, from_bytes
from evergreen.core.monitoring.tally import Layout

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.ports import Ledger, Store

    Expected: TypeAlias = Callable[[Mapping[str, bytes], pl.DataFrame, np.ndarray], np.ndarray]

KEPT = 256  # bundles whose layouts stay in memory


@dataclass(frozen=True)
class Known:
    """`bare`: the bundle has no reference. Then there is no drift and no estimate to tell, only what is counted.
    `losses` are the files of a bundle that Trainer.expected_losses needs; empty where it has no loss.ubj."""

    layout: Layout
    bare: bool
    losses: Mapping[str, bytes] = field(default_factory=dict)


class Layouts:
    """Reads them from the store; those used last stay in memory. `expected`: Trainer.expected_losses."""

    def __init__(self, ledger: Ledger, store: Store, expected: Expected | None = None) -> None:
        self._ledger, self._store, self._expected = ledger, store, expected
        self._known: OrderedDict[tuple[str, Task], Known] = OrderedDict()

    def bundle_of(self, model: str, version: int) -> str:
        """The version's bundle; empty where the ledger knows no such version."""
        try:
            return self._ledger.models.candidate(model, version).bundle
        except KeyError:
            return ""

    def of(self, bundle: str, task: Task) -> Known:
        """The layout of the bundle's versions. Raises BundleRefused for a bundle that was changed."""
        key = (bundle, task)
        if key not in self._known:
            self._known[key] = self._read(bundle, task)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def losses(self, bundle: str, task: Task, rows: pl.DataFrame, prediction: np.ndarray) -> np.ndarray | None:
        """The absolute and the squared error that is expected of each logged row, shape (rows, 2); none where the
        bundle cannot say."""
        files = self.of(bundle, task).losses
        if not files or self._expected is None:
            return None
        features = {name: name.removeprefix("feature.") for name in rows.columns if name not in parts.OWN}
        try:
            return self._expected(files, rows.select(list(features)).rename(features), prediction)
        except NotComparable:  # what was logged is not what the bundle's schema says
            return None

    def _read(self, bundle: str, task: Task) -> Known:
        files = self._files(bundle, (REFERENCE,))
        if not files:  # made before there were references, or removed by housekeeping
            return Known(Layout(absent(task)), True)
        layout = Layout(from_bytes(files[REFERENCE]))
        estimates = layout.reference.task is Task.REGRESSION and self._expected is not None
        return Known(layout, False, self._files(bundle, (LOSS, bundles.SCHEMA)) if estimates else {})

    def _files(self, bundle: str, names: tuple[str, ...]) -> Mapping[str, bytes]:
        """These files of a bundle; none where one of them is not there."""
        if not bundle:
            return {}
        try:
            return {
                name: bundles.one_file(bundle, name, lambda n: self._store.get(bundles.key(bundle, n)))
                for name in names
            }
        except KeyError:
            return {}
