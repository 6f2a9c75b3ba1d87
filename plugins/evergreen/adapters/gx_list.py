"""Writes `core/gx_expectations.json`: the installed Great Expectations' own list of expectations and arguments."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args, get_origin

import great_expectations
from great_expectations.expectations import registry

from evergreen.core.gx_expectations import FILE

NOT_ARGUMENTS = frozenset({"id", "meta", "notes", "description", "severity", "rendered_content", "library_metadata"})
_READS_ANOTHER_TABLE = "expect_table_row_count_to_equal_other_table"
_PROBES: dict[str, list[Any]] = {
    "text": ["abc", "a"],
    "date": ["2013-01-31"],
    "number": [0.5, 2],
    "list": [["a"]],
    "true or false": [True],
}


def generate() -> str:
    """The file's text, from the installed library."""
    names = sorted(registry.list_registered_expectation_implementations())
    types = {name: _facts(registry.get_expectation_impl(name)) for name in names}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(facts)}" for name, facts in types.items())
    return f'{{"great_expectations": "{great_expectations.__version__}", "expectations": {{\n{lines}\n}}}}\n'


def _facts(kind: Any) -> dict[str, Any]:
    fields = {name: field for name, field in kind.__fields__.items() if name not in NOT_ARGUMENTS}
    required = sorted(name for name, field in fields.items() if field.required)
    return {
        "arguments": {name: _kinds(field) for name, field in sorted(fields.items())},
        "required": required,
        "bounded": _is_bounded(kind, fields, required),
        "needs_database": not _judges_frames(kind),
    }


def _kinds(field: Any) -> list[str]:
    """Found by trying, since the library's annotations are unions of its own classes."""
    if choices := _choices(field):
        return [f"={choice}" for choice in choices]
    kinds = [kind for kind, probes in _PROBES.items() if any(_accepts(field, probe) for probe in probes)]
    if "text" in kinds:
        return [kind for kind in kinds if kind != "date"]
    return [kind for kind in kinds if kind != "true or false"] if "number" in kinds else kinds


def _accepts(field: Any, value: Any) -> bool:
    return not field.validate(value, {}, loc="value")[1]


def _choices(field: Any) -> list[str]:
    inner = [part.outer_type_ for part in field.sub_fields or [field]]
    return [text for part in inner if get_origin(part) is Literal for text in get_args(part)]


def _is_bounded(kind: Any, fields: Any, required: list[str]) -> bool:
    if not {"min_value", "max_value"} <= fields.keys() or not set(required) <= {"column"}:
        return False
    try:
        kind(**dict.fromkeys(required, "x"))
    except ValueError:
        return True
    return False


def _judges_frames(kind: Any) -> bool:
    if kind.expectation_type == _READS_ANOTHER_TABLE:
        return False
    metric = getattr(kind, "map_metric", None)
    names = [f"{metric}.condition"] if metric else list(getattr(kind, "metric_dependencies", ()))
    providers = [registry._registered_metrics.get(name, {}).get("providers", {}) for name in names]
    return all("PandasExecutionEngine" in one for one in providers)


if __name__ == "__main__":
    FILE.write_text(generate(), encoding="utf-8")
