"""What keeps data: ledger, store and what lies in it, and the sources that are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from evergreen.faults import watched, watched_ledger
from evergreen.wiring.settings import Settings, connection_url, project_root

if TYPE_CHECKING:
    from evergreen.adapters.label_file import LabelFile
    from evergreen.core.ports import Ledger, LoggedParts, PartWriter, Predictions, Snapshots, Source, Store
    from evergreen.core.spec import Source as SourceSpec


def ledger(settings: Settings) -> Ledger:
    """The control ledger, its tables up to date."""
    from evergreen.adapters.ledger import open_ledger

    return watched_ledger(open_ledger(settings.ledger_url))


def store(settings: Settings) -> Store:
    """The store of snapshots, quarantine and bundles."""
    from evergreen.adapters.file_store import FileStore

    return watched("store", FileStore(settings.store_url))


def snapshots(settings: Settings) -> Snapshots:
    """Snapshots in the store."""
    from evergreen.adapters.parquet_snapshots import ParquetSnapshots

    return ParquetSnapshots(store(settings))


def part_writer() -> PartWriter:
    """Parquet with arro3, for what serving logs."""
    from evergreen.adapters.parquet_parts import ArrowParts

    return ArrowParts()


def predictions(settings: Settings) -> Predictions:
    """What serving logged, in the store."""
    from evergreen.adapters.logged_predictions import LoggedPredictions

    return LoggedPredictions(store(settings))


def logged_parts(settings: Settings) -> LoggedParts:
    """The same, part by part."""
    from evergreen.adapters.logged_predictions import LoggedPredictions

    return LoggedPredictions(store(settings))


def label_file(path: str) -> LabelFile:
    """A file of labels, Parquet or CSV."""
    from evergreen.adapters.label_file import LabelFile

    return LabelFile(path)


def source(described: SourceSpec, connections: Callable[[str], str | None] = lambda name: None) -> Source:
    """A spec's source: files by their URL, tables and queries over their connection (see connection_url)."""
    if described.files is not None:
        from evergreen.adapters.files_source import FilesSource

        return FilesSource(described, project_root())
    from evergreen.adapters.sql_source import SqlSource

    return SqlSource(connection_url(str(described.connection), connections), described)
