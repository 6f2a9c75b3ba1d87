"""Passes of the reconciler over this project, one after the other, and what lasts from one to the next."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen import wiring
from evergreen.core.catalog import load_catalog
from evergreen.core.reconciling import RECONCILER
from evergreen.orchestration.pages import addresses
from evergreen.steps.reconcile import Outside, Pace, Report, reconcile

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Source
    from evergreen.core.spec import ModelSpec


class Passes:
    """Makes passes. `connections` gives the URL of an Airflow connection, none where there is no such connection."""

    def __init__(self, connections: Callable[[str], str | None]) -> None:
        self._connections = connections
        self._settings = wiring.Settings.load()
        self._specs = Specs(self._settings.root, self._settings.kept_specs)
        self._pace = Pace()
        self._ledger: Ledger | None = None
        self._runs, self._aliases = wiring.runs(), wiring.aliases(self._settings)
        self._edge = wiring.edge(self._settings)
        self._files: dict[str, Source] = {}

    @property
    def ledger(self) -> Ledger:
        """Opened when it is needed first: it may be away then, and is tried again."""
        if self._ledger is None:
            self._ledger = wiring.ledger(self._settings)
        return self._ledger

    @property
    def specs(self) -> Mapping[str, ModelSpec]:
        """The valid ones, as they are now."""
        return self._specs.now()

    def once(self, name: str = RECONCILER) -> Report:
        """Make a pass, and beat `name`. Blocking. Raises where the ledger is away."""
        outside = Outside(self.specs, self._runs, self._aliases, self._open_source, addresses(), self._edge)
        return reconcile(self.ledger, outside, self._pace, lambda: datetime.now(UTC), name=name)

    def _open_source(self, spec: ModelSpec) -> Source:
        """A source of files is kept: it knows those that it has seen, and asks for new ones only."""
        described = spec.source
        if described.files is None:
            return wiring.source(described, self._connections)
        if described.id not in self._files:
            self._files[described.id] = wiring.source(described)
        return self._files[described.id]


class Specs:
    """The valid specs of a project, read again when a file has changed."""

    def __init__(self, root: Path, kept: Path | None = None) -> None:
        self._root, self._kept = root, kept
        self._known: set[tuple[str, int, int]] | None = None
        self._specs: Mapping[str, ModelSpec] = {}

    def now(self) -> Mapping[str, ModelSpec]:
        """By name. A spec that has an error is not among them, until it is repaired."""
        found = set(self._files())
        if found != self._known:
            self._specs, self._known = load_catalog(self._root, kept=self._kept).specs, found
        return self._specs

    def _files(self) -> Iterator[tuple[str, int, int]]:
        """All that load_catalog looks at: path, time of change, size."""
        for pattern in ("models/*", "models/*/*.y*ml", "expectations/*.json", "dags/*.py"):
            # Not pathlib's, which raises where a folder goes meanwhile.
            for path in glob.glob(pattern, root_dir=self._root):  # noqa: PTH207
                try:
                    stat = (self._root / path).stat()
                except FileNotFoundError:  # removed this very moment
                    continue
                yield path, stat.st_mtime_ns, stat.st_size
