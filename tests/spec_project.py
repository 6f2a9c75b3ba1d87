"""A small project of model specs and suites in a temporary folder, right in every part until a test breaks one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DEFAULTS = """\
owner: ops@example.com
approval: {mode: manual, timeout: 24h}
validation:
  quarantine: {max_fraction: 0.01}
"""
SPEC = """\
name: NAME
task: binary_classification
source:
  connection: warehouse
  table: flights
  event_time: at
  key: id
label: {column: late, arrives_after: 1d}
features:
  columns: [carrier, hour]
  categorical: [carrier]
window:
  train: 90d
  holdout: {length: 14d, min_rows: 1000}
triggers:
  - new_data: {min_rows: 5000}
  - schedule: "0 3 * * *"
validation:
  suite: NAME
gates:
  - {metric: auc, min: 0.6}
"""
SUITE: dict[str, Any] = {
    "name": "NAME",
    "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}, "meta": {}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "hour", "min_value": 0, "max_value": 23}},
    ],
    "meta": {},
}


def make_project(root: Path, *names: str) -> Path:
    """Models of these names (default: 'delay'), each with its suite."""
    for folder in ("models", "expectations", "dags"):
        (root / folder).mkdir()
    (root / "models" / "_defaults.yaml").write_text(DEFAULTS)
    for name in names or ("delay",):
        write_spec(root, name)
        write_suite(root, name)
    return root


def write_spec(root: Path, name: str, *changes: tuple[str, str], text: str = SPEC) -> None:
    """A model's spec, with texts replaced by others; each must be there."""
    text = text.replace("NAME", name)
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    folder = root / "models" / name
    folder.mkdir(exist_ok=True)
    (folder / "model.yaml").write_text(text)


def write_suite(root: Path, name: str, /, *expectations: dict[str, Any], **changes: Any) -> None:
    """A suite of these expectations (default: two that are right); whole top-level keys are replaced."""
    suite = {**SUITE, "name": name, **({"expectations": list(expectations)} if expectations else {}), **changes}
    (root / "expectations" / f"{name}.json").write_text(json.dumps(suite, indent=2))
