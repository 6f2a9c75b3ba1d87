"""What a snapshot is called: hashes of its schema and of its part list. The same data has the same id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evergreen.core.bundle import canonical_json, sha256

if TYPE_CHECKING:
    from evergreen.core.records import Part


def schema_hash(schema: Mapping[str, str]) -> str:
    """Hash of the columns' names and types, in their order."""
    return sha256(canonical_json(list(schema.items())))


def snapshot_id(parts: Sequence[Part], schema: str) -> str:
    """Hash of the sorted part list and the schema's hash, whatever the parts' order or place in the store."""
    return sha256(canonical_json([schema, sorted([part.day.isoformat(), part.sha256] for part in parts)]))
