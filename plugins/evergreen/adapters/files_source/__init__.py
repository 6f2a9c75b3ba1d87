"""A source of Parquet or CSV files, by fsspec."""

from evergreen.adapters.files_source.source import FilesSource

__all__ = ["FilesSource"]
