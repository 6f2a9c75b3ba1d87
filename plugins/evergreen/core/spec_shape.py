"""What the model spec looks like from outside: which keys stand where, told by path."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from evergreen.core.spec import ModelSpec
from evergreen.core.spec_fields import Strict

Path = tuple[str | int, ...]


def field_at(path: Path) -> FieldInfo | None:
    """The field that stands at a path, none where there is none."""
    above = part_at(path[:-1])
    return keys_of(above).get(str(path[-1])) if above and path else None


def keys_of(part: type[Strict]) -> dict[str, FieldInfo]:
    """The keys that a part has in the file, each with its field: `for` is a word that Python keeps to itself."""
    return {field.alias or name: field for name, field in part.model_fields.items()}


def part_at(path: Path) -> type[Strict] | None:
    """The part of the spec (a map with fixed keys) that stands at a path; ModelSpec for the empty one."""
    part: type[Strict] | None = ModelSpec
    for step in path:
        if isinstance(step, int):
            continue  # an entry of a list: what its list holds
        field = keys_of(part).get(step) if part else None
        part = part_of(field) if field else None
    return part


def part_of(field: FieldInfo) -> type[Strict] | None:
    """The part that a field holds, itself or as a list of it."""
    return next((kind for kind in _leaves(field.annotation) if issubclass(kind, Strict)), None)


def homes_of(key: str) -> list[str]:
    """The paths of the parts that have this key: `min_rows` stands under `window.holdout`, ..."""
    return [path for path, part in parts() if key in keys_of(part)]


def parts(part: type[Strict] = ModelSpec, at: str = "") -> Iterator[tuple[str, type[Strict]]]:
    """Every part of the spec with its path ('' for the top, `gates[]` for a list's entries)."""
    yield at, part
    for name, field in keys_of(part).items():
        if below := part_of(field):
            entry = f"{name}[]" if _is_list(field.annotation) else name
            yield from parts(below, f"{at}.{entry}" if at else entry)


def dotted(path: Path) -> str:
    """`gates[0].metric` for ('gates', 0, 'metric')."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list


def _leaves(annotation: Any) -> Iterator[type]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif origin in (Union, UnionType, list):
        for inner in get_args(annotation):
            yield from _leaves(inner)
    elif isinstance(annotation, type) and annotation is not NoneType:
        yield annotation
