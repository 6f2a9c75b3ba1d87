"""Snapshots as per-day Parquet parts in the store, named by a hash of what they hold."""

from evergreen.adapters.parquet_snapshots.snapshots import ParquetSnapshots

__all__ = ["ParquetSnapshots"]
