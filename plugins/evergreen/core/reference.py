"""The spec told to others: JSON Schema for editors, and the reference page. Both come from `core.spec`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from evergreen.core.spec import ModelSpec
from evergreen.core.spec_fields import Strict, format_duration
from evergreen.core.spec_shape import keys_of, part_of, parts
from evergreen.core.spec_window import AUTO

SCHEMA_FILE, PAGE_FILE = "docs/model-spec.schema.json", "docs/model-spec.md"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PAGE = """\
# The model spec

Every key of `models/<name>/model.yaml`, written by `evergreen schema --write`. What all models share stands in
`models/_defaults.yaml` and is merged key by key: a model's own value wins, and its lists replace those of the defaults.
Unknown keys are errors. `evergreen check` tells every problem at once, with file and line.
"""


def json_schema(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What an editor needs to check one `model.yaml`: keys that the defaults give are not required."""
    schema = _schema_of(ModelSpec)
    _without_given(schema, defaults, schema["$defs"])
    about = {"$schema": DIALECT, "title": "Evergreen model spec"}
    return {**about, **{key: value for key, value in schema.items() if key != "title"}}


def as_text(schema: Mapping[str, Any]) -> str:
    """The schema as its file holds it."""
    return json.dumps(schema, indent=2) + "\n"


def _without_given(node: dict[str, Any], given: Any, definitions: Mapping[str, Any]) -> None:
    if not isinstance(given, Mapping):
        return
    required = [key for key in node.get("required", []) if key not in given or isinstance(given[key], Mapping)]
    inner = {key: definitions[ref] for key in node["properties"] if (ref := _ref(node["properties"][key]))}
    for key, part in inner.items():
        _without_given(part, given.get(key), definitions)
    # a part that the defaults give whole is not required; one that they give in part is, for the rest of it
    node["required"] = [key for key in required if not (key in given and not inner.get(key, {}).get("required"))]


def _schema_of(part: type[Strict]) -> dict[str, Any]:
    """pydantic's schema, with the defaults of durations as a spec writes them (24h, not P1D)."""
    schema = part.model_json_schema()
    for kind in (part, *(below for _, below in parts(part))):
        node = schema if kind is part else schema["$defs"][kind.__name__]
        for name, field in keys_of(kind).items():
            if isinstance(field.default, timedelta):
                node["properties"][name]["default"] = format_duration(field.default)
            elif isinstance(field.default, list) and all(isinstance(one, timedelta) for one in field.default):
                node["properties"][name]["default"] = [format_duration(one) for one in field.default]
            elif part_of(field):
                node["properties"][name].pop("default", None)  # the part's own keys tell theirs
    return schema


def _ref(node: Mapping[str, Any]) -> str | None:
    ref = node.get("$ref")
    return ref.removeprefix("#/$defs/") if isinstance(ref, str) else None


# ---------------------------------------------------------------- the page


def markdown() -> str:
    """The reference page."""
    return "\n".join([_PAGE, *(line for path, _ in parts() for line in _section(path)), *_run_parameters()])


def _run_parameters() -> Iterator[str]:
    from evergreen.core.run_params import table

    yield "## Parameters of a run\n"
    asked = "Not in the file: Airflow's trigger form asks for them, the REST API takes them as `conf`."
    yield f"{asked} All may be left out.\n"
    yield table()


def _section(path: str) -> Iterator[str]:
    part = dict(parts())[path]
    yield f"## {f'`{path}`' if path else 'The top'}\n"
    if path:
        yield f"{' '.join((part.__doc__ or '').split())}\n"
    yield "| key | value | default | what it is |"
    yield "|---|---|---|---|"
    schema = _schema_of(part)
    for name, node in schema["properties"].items():
        yield f"| `{name}` | {_kind(part, name, node)} | {_default(schema, name, node)} | {node['description']} |"
    yield ""


def _kind(part: Any, name: str, node: Mapping[str, Any]) -> str:
    below = part_of(keys_of(part)[name])
    if below:
        return "list of maps" if node.get("type") == "array" else "map"
    if choices := node.get("enum") or _choices(part, name):
        return " or ".join(f"`{choice}`" for choice in choices)
    options = [option for option in node.get("anyOf", [node]) if option.get("type") != "null"]
    return _limits(options[0])


def _choices(part: Any, name: str) -> list[str]:
    kind: Any = keys_of(part)[name].annotation
    return [member.value for member in kind] if hasattr(kind, "__members__") else []


def _limits(node: Mapping[str, Any]) -> str:
    words = {"string": "text", "integer": "whole number", "number": "number", "array": "list of texts", "object": "map"}
    words["boolean"] = "true or false"
    if node.get("items", {}).get("type") == "integer":
        words["array"] = "list of whole numbers"
    elif "90d" in node.get("items", {}).get("examples", []):
        words["array"] = "list of durations"
    examples = node.get("examples", [])
    text = "duration" if "90d" in examples else words[node["type"]]
    if AUTO in examples:
        text += f" or `{AUTO}`"
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f"{text}, {low:,} to {high:,}"
    return text if low is None else f"{text}, at least {low:,}"


def _default(schema: Mapping[str, Any], name: str, node: Mapping[str, Any]) -> str:
    if name in schema.get("required", []):
        return "**needed**"
    value = node.get("default")
    if value is None or isinstance(value, dict):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
