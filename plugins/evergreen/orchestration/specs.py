"""The project's specs for a DAG file: the dag-processor reads each of its files in a new process every few seconds."""

from __future__ import annotations

from pathlib import Path

from evergreen import wiring
from evergreen.core.catalog import Catalog, load_catalog


def specs_of(root: Path, only: str | None = None) -> Catalog:
    """As load_catalog; what was read before, by any process of this project, and has not changed is not read again."""
    return load_catalog(root, only, wiring.Settings.load().kept_specs)
