"""A spec as layers: `_defaults.yaml` below, `model.yaml` above, merged key by key; every key keeps its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evergreen.core.marked_yaml import Document, Path

Where = dict[Path, tuple[str, int]]


@dataclass(frozen=True)
class Layer:
    """A value, and the file and line that each of its paths comes from."""

    value: Any
    where: Where

    @classmethod
    def of(cls, file: str, document: Document) -> Layer:
        """One file as a layer."""
        return cls(document.value, {path: (file, line) for path, line in document.lines.items()})

    def place(self, path: Path) -> tuple[str, int | None]:
        """File and line of a path, or of the nearest part around it."""
        return next(self.where[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.where)


def merge(below: Layer, above: Layer) -> Layer:
    """Maps are merged key by key; anything else above (lists too) replaces what is below."""
    where = {**below.where, **above.where}
    return Layer(_merge(below.value, above.value, (), where, above.where), where)


def _merge(below: Any, above: Any, at: Path, where: Where, own: Where) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        both = {key: _merge(below[key], above[key], (*at, str(key)), where, own) for key in below.keys() & above.keys()}
        return {**below, **above, **both}
    for path in [path for path in where if len(path) > len(at) and path[: len(at)] == at and path not in own]:
        del where[path]  # what was replaced has no place any more
    return above
