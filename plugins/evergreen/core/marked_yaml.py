"""YAML (and JSON, which is YAML too) with the line of every key and every entry of a list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[str | int, ...]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is ten times as fast
_BOOL, _TEXT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:str"


class BrokenYaml(ValueError):
    """Raised when a text is not YAML. `line` counts from 1."""

    def __init__(self, line: int | None, what: str) -> None:
        self.line = line
        super().__init__(what)


@dataclass(frozen=True)
class Document:
    """A parsed text: its value, path → line, and keys written twice (path → the later line)."""

    value: Any
    lines: dict[Path, int]
    twice: dict[Path, int]


def read(text: str) -> Document:
    """Parse one document. Raises BrokenYaml."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(None, {(): 1}, {})
        lines: dict[Path, int] = {(): 1}
        twice: dict[Path, int] = {}
        for path, line in _walk(node, (), set()):
            if not any(path[:end] in twice for end in range(1, len(path))):
                (twice if path in lines else lines)[path] = line
        return Document(loader.construct_document(node), lines, twice)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BrokenYaml(mark.line + 1 if mark else None, _said(error)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BrokenYaml(None, " ".join(str(error).split())) from error
    finally:
        loader.dispose()


def _said(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.context, error.problem) if part) or "something that is no YAML"


def _walk(node: yaml.Node, path: Path, seen: set[int]) -> Iterator[tuple[Path, int]]:
    """Path and line of all that is below a node; what an alias repeats is not walked twice.

    On the way a key `on`, which YAML 1.1 takes for true, is made the text that stands there.
    """
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == _BOOL:
                key.tag = _TEXT
            here = (*path, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _walk(value, here, seen)
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            yield (*path, at), value.start_mark.line + 1
            yield from _walk(value, (*path, at), seen)
