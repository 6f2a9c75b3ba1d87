"""All model specs of a project: read, merged with `models/_defaults.yaml`, checked, with every problem at once.

Bad specs are left out of `specs` and told in `problems`: one bad spec takes no other model's DAG away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evergreen.core.layers import Layer, merge
from evergreen.core.marked_yaml import BrokenYaml, Document, read
from evergreen.core.problems import Problem, in_order, render
from evergreen.core.spec import ModelSpec
from evergreen.core.spec_errors import problems_of
from evergreen.core.spec_fields import shown
from evergreen.core.spec_shape import dotted
from evergreen.core.suites import check_suite
from evergreen.core.upstreams import upstream_problems

__all__ = ["Catalog", "Problem", "load_catalog", "read_changed", "read_defaults", "render"]

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
NAME_WORDS = "up to 60 lower-case letters, digits and -"
DEFAULTS = "models/_defaults.yaml"
TAKEN = frozenset({"monitoring", "platform", "rollback", "retraining", "model-spec-errors"})  # DAGs of Evergreen's own


@dataclass(frozen=True)
class Catalog:
    """The valid specs by name, sorted, and all that is wrong with the others."""

    specs: dict[str, ModelSpec] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def load_catalog(root: Path, only: str | None = None) -> Catalog:
    """Read and check `models/*/model.yaml`, and the suites they name. Raises nothing.

    `only` reads one model's folder: a running task needs no other.
    """
    defaults, problems = _read_defaults(root)
    specs: dict[str, ModelSpec] = {}
    suites: set[str] = set()
    layers: dict[str, Layer] = {}  # by folder: all that can be read
    for folder in _folders(root, only):
        spec, wrong = _check_folder(root, folder, defaults, layers)
        problems += wrong
        if spec:
            suites.add(spec.validation.suite)
        if spec and not wrong and defaults:
            specs[spec.name] = spec
    if only is None:
        problems += _other_suites(root, suites)
        problems += _without_their_upstream(specs, layers)
    return Catalog(dict(sorted(specs.items())), in_order(problems))


def read_changed(root: Path, model: str, file: Path) -> Catalog:
    """The spec of this model as another file has it, merged with `_defaults.yaml` and checked; what is wrong with it.

    `file` as it is to be named. The upstream models are not looked at. Raises OSError where it cannot be read.
    """
    defaults, problems = _read_defaults(root)
    own, wrong = _read_layer(Path(), str(file))
    if own is None or defaults is None:
        return Catalog(problems=in_order([*problems, *wrong]))
    layer = merge(defaults, own)
    spec, more = _spec(layer, partial=False)
    problems += [*wrong, *more]
    if spec:
        problems += check_suite(root, spec.validation.suite, spec=spec, named_at=layer.place(("validation", "suite")))
    if spec and spec.name != model:
        do = f"Write name: {model}, or replay {spec.name}."
        problems += [Problem(*layer.place(("name",)), "name", f"'{spec.name}'", f"'{model}', which is replayed", do)]
    return Catalog({model: spec} if spec and not problems else {}, in_order(problems))


def read_defaults(root: Path) -> dict[str, Any]:
    """What all models share, as `_defaults.yaml` has it; empty where that cannot be read."""
    layer, _ = _read_defaults(root)
    return dict(layer.value) if layer else {}


def _without_their_upstream(specs: dict[str, ModelSpec], layers: Mapping[str, Layer]) -> list[Problem]:
    """Take the specs out whose upstream models are not there, or wait for them; what is wrong with them."""
    wrong = upstream_problems(specs, layers, layers.keys())
    for name in wrong:
        del specs[name]
    return [problem for problems in wrong.values() for problem in problems]


def without_a_valid_spec(root: Path, specs: Mapping[str, ModelSpec]) -> frozenset[str]:
    """The models whose folder is there, and holds no spec that can be used."""
    return frozenset(folder.name for folder in _folders(root, None)) - frozenset(specs)


def _folders(root: Path, only: str | None) -> list[Path]:
    models = root / "models"
    folders = sorted(models.iterdir()) if models.is_dir() else []
    return [
        one for one in folders if one.is_dir() and only in (None, one.name) and not one.name.startswith((".", "__"))
    ]


# ---------------------------------------------------------------- files


def _read_layer(root: Path, file: str, *, may_be_empty: bool = False) -> tuple[Layer | None, list[Problem]]:
    """One YAML file as a layer; none where it cannot be used."""
    try:
        document = read((root / file).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        do = "Save the file as UTF-8."
        return None, [Problem(file, None, "", f"bytes that are not UTF-8 ({error.reason})", "UTF-8 text", do)]
    except BrokenYaml as error:
        do = "Correct the line: look at indentation, quotes, brackets and the space after ':'."
        return None, [Problem(file, error.line, "", f"broken YAML: {error}", "valid YAML", do)]
    if document.value is None and may_be_empty:
        return Layer({}, {(): (file, 1)}), []
    if not isinstance(document.value, dict):
        found = "an empty file" if document.value is None else shown(document.value)
        do = "Write the spec; docs/model-spec.md names every key."
        return None, [Problem(file, 1, "", found, "a map of 'key: value' lines", do)]
    return Layer.of(file, document), _twice(file, document)


def _twice(file: str, document: Document) -> list[Problem]:
    return [
        Problem(
            file,
            line,
            dotted(path),
            f"'{path[-1]}' a second time (first on line {document.lines[path]})",
            "each key once",
            "Keep one of them: YAML would silently take the last.",
        )
        for path, line in document.twice.items()
    ]


def _read_defaults(root: Path) -> tuple[Layer | None, list[Problem]]:
    """The shared layer; none where it is broken, and then no spec is valid."""
    if not (root / DEFAULTS).is_file():
        return Layer({}, {(): (DEFAULTS, 1)}), []
    layer, problems = _read_layer(root, DEFAULTS, may_be_empty=True)
    if layer is None:
        return None, problems
    if "name" in layer.value:
        do = "Remove it: each model names itself."
        problems += [Problem(*layer.place(("name",)), "name", "a name for all", "keys that models can share", do)]
    return layer, problems + _spec(layer, partial=True)[1]


def _spec(layer: Layer, *, partial: bool) -> tuple[ModelSpec | None, list[Problem]]:
    try:
        return ModelSpec.model_validate(layer.value), []
    except ValidationError as error:
        return None, problems_of(error, layer.place, partial=partial)


# ---------------------------------------------------------------- one model


def _check_folder(
    root: Path, folder: Path, defaults: Layer | None, layers: dict[str, Layer]
) -> tuple[ModelSpec | None, list[Problem]]:
    file = f"models/{folder.name}/model.yaml"
    if not (root / file).is_file():
        return None, [_no_spec(folder)]
    own, problems = _read_layer(root, file)
    if own is None:
        return None, problems
    layer = layers[folder.name] = merge(defaults, own) if defaults else own
    spec, wrong = _spec(layer, partial=defaults is None)
    problems += [*wrong, *_name_problems(root, folder, layer)]
    if spec:
        problems += check_suite(root, spec.validation.suite, spec=spec, named_at=layer.place(("validation", "suite")))
    return spec, problems


def _no_spec(folder: Path) -> Problem:
    near = next((file.name for file in sorted(folder.glob("*.y*ml"))), None)
    do = f"Rename {near} to model.yaml." if near else "Write one, or remove the folder."
    return Problem(
        f"models/{folder.name}", None, "", f"no model.yaml{f' but {near}' if near else ''}", "model.yaml", do
    )


def _name_problems(root: Path, folder: Path, layer: Layer) -> list[Problem]:
    name = layer.value.get("name")
    if not isinstance(name, str):
        return []
    place = layer.place(("name",))
    if not NAME.fullmatch(folder.name):
        do = "Rename the folder, and write the same as 'name'."
        return [Problem(f"models/{folder.name}", None, "", f"the folder name '{folder.name}'", NAME_WORDS, do)]
    if name != folder.name:
        taken = (root / "models" / name / "model.yaml").is_file() if name else False
        found = f"'{name}'" + (f", which models/{name} has already" if taken else "")
        do = f"Write name: {folder.name}" + ("." if taken else f", or rename the folder to {name}.")
        return [Problem(*place, "name", found, f"'{folder.name}', as the folder is called", do)]
    if name in TAKEN | _own_dag_files(root):
        do = "Choose another name, for the folder too."
        return [Problem(*place, "name", f"'{name}', which names a DAG of Evergreen", "a name not yet taken", do)]
    return []


def _own_dag_files(root: Path) -> set[str]:
    return {file.stem.replace("_", "-") for file in (root / "dags").glob("*.py")}


def _other_suites(root: Path, checked: set[str]) -> list[Problem]:
    """Suites that no readable spec names are checked too (but for their columns)."""
    names = sorted({file.stem for file in (root / "expectations").glob("*.json")} - checked)
    return [problem for name in names for problem in check_suite(root, name)]
