"""All model specs of a project: read, merged with `models/_defaults.yaml`, checked, with every problem at once.

Bad specs are left out of `specs` and told in `problems`: one bad spec takes no other model's DAG away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evergreen.core.kept_specs import KeptSpecs, made_from, suite_hash
from evergreen.core.layers import Layer, merge
from evergreen.core.marked_yaml import BrokenYaml, Document, read
from evergreen.core.problems import Problem, in_order, render
from evergreen.core.spec import ModelSpec
from evergreen.core.spec_errors import problems_of
from evergreen.core.spec_fields import shown
from evergreen.core.spec_shape import dotted
from evergreen.core.suites import check_suite, suite_path
from evergreen.core.upstreams import upstream_problems

__all__ = ["Catalog", "Problem", "load_catalog", "read_changed", "read_defaults", "render"]

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
NAME_WORDS = "up to 60 lower-case letters, digits and -"
DEFAULTS = "models/_defaults.yaml"
OWN_DAGS = ("abort", "hold", "housekeeping", "monitor", "platform", "promote", "reconciler", "rollback")
TAKEN = frozenset({*OWN_DAGS, "model-spec-errors", "monitoring", "retraining"})


@dataclass(frozen=True)
class Catalog:
    """The valid specs by name, sorted, and all that is wrong with the others."""

    specs: dict[str, ModelSpec] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def load_catalog(root: Path, only: str | None = None, kept: Path | None = None) -> Catalog:
    """Read and check `models/*/model.yaml`, and the suites they name. Raises nothing.

    `only` reads one model's folder: a running task needs no other. `kept` is the file of core.kept_specs, where what is
    right was kept before; none reads all anew.
    """
    shared = _bytes(root / DEFAULTS)
    defaults, problems = _read_defaults(root)
    reading = _Reading(root, defaults, shared, KeptSpecs(kept if only is None else None))
    for folder in _folders(root, only):
        problems += reading.folder(folder)
    specs = reading.specs
    if only is None:
        problems += _other_suites(root, reading.suites)
        problems += _without_their_upstream(specs, reading)
        reading.kept.write()
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


def _without_their_upstream(specs: dict[str, ModelSpec], reading: _Reading) -> list[Problem]:
    """Take the specs out whose upstream models are not there, or wait for them; what is wrong with them."""
    wrong = upstream_problems(specs, reading.layer, reading.readable)
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


def _bytes(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


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


@dataclass
class _Reading:
    """Folder after folder. `readable` are the models whose spec can be read at all, `suites` what valid specs name."""

    root: Path
    defaults: Layer | None
    shared: bytes  # what `defaults` was read from
    kept: KeptSpecs
    specs: dict[str, ModelSpec] = field(default_factory=dict)
    readable: set[str] = field(default_factory=set)
    suites: set[str] = field(default_factory=set)

    def folder(self, folder: Path) -> list[Problem]:
        """What is wrong with a model's folder; where nothing is, its spec is among `specs`."""
        file = f"models/{folder.name}/model.yaml"
        if not (self.root / file).is_file():
            return [_no_spec(folder)]
        made = self._made_from(self.shared, file)
        if self._read_before(folder, made):
            return []
        layer, problems = self._layer(file)
        if layer is None:
            return problems
        self.readable.add(folder.name)
        spec, wrong = _spec(layer, partial=self.defaults is None)
        problems += [*wrong, *_name_problems(self.root, self._taken, folder, layer)]
        if spec:
            suite, found = spec.validation.suite, self._suite_hash(spec.validation.suite)
            problems += check_suite(self.root, suite, spec=spec, named_at=layer.place(("validation", "suite")))
            self.suites.add(suite)
        if spec and not problems and self.defaults:
            self.specs[spec.name] = spec
            if self._made_from(_bytes(self.root / DEFAULTS), file) == made:  # not edited meanwhile
                self.kept.keep(made, found, layer.value)
        return problems

    def layer(self, model: str) -> Layer:
        """A readable model's spec with the place of each key."""
        layer, _ = self._layer(f"models/{model}/model.yaml")
        assert layer is not None, f"{model} could be read a moment ago"
        return layer

    def _layer(self, file: str) -> tuple[Layer | None, list[Problem]]:
        own, problems = _read_layer(self.root, file)
        return (merge(self.defaults, own) if own and self.defaults else own), problems

    def _read_before(self, folder: Path, made: str) -> bool:
        """Whether the same was read before and nothing was wrong, and nothing is now."""
        suite, value = self.kept.find(made) or ("", None)
        spec = _spec(Layer(value, {(): ("", 1)}), partial=False)[0] if suite else None
        if spec is None or spec.name != folder.name or spec.name in self._taken:
            return False
        if self._suite_hash(spec.validation.suite) != suite:
            return False
        self.kept.keep(made, suite, value)
        self.readable.add(spec.name)
        self.suites.add(spec.validation.suite)
        self.specs[spec.name] = spec
        return True

    def _made_from(self, shared: bytes, file: str) -> str:
        return made_from(shared, _bytes(self.root / file)) if self.kept.keeps else ""

    @cached_property
    def _taken(self) -> Set[str]:
        return TAKEN | _own_dag_files(self.root)

    @cached_property
    def _suite_hash(self) -> Callable[[str], str]:
        return cache(lambda name: suite_hash(self.root / suite_path(name)))


def _no_spec(folder: Path) -> Problem:
    near = next((file.name for file in sorted(folder.glob("*.y*ml"))), None)
    do = f"Rename {near} to model.yaml." if near else "Write one, or remove the folder."
    return Problem(
        f"models/{folder.name}", None, "", f"no model.yaml{f' but {near}' if near else ''}", "model.yaml", do
    )


def _name_problems(root: Path, taken: Set[str], folder: Path, layer: Layer) -> list[Problem]:
    name = layer.value.get("name")
    if not isinstance(name, str):
        return []
    place = layer.place(("name",))
    if not NAME.fullmatch(folder.name):
        do = "Rename the folder, and write the same as 'name'."
        return [Problem(f"models/{folder.name}", None, "", f"the folder name '{folder.name}'", NAME_WORDS, do)]
    if name != folder.name:
        other = (root / "models" / name / "model.yaml").is_file() if name else False
        found = f"'{name}'" + (f", which models/{name} has already" if other else "")
        do = f"Write name: {folder.name}" + ("." if other else f", or rename the folder to {name}.")
        return [Problem(*place, "name", found, f"'{folder.name}', as the folder is called", do)]
    if name in taken:
        do = "Choose another name, for the folder too."
        return [Problem(*place, "name", f"'{name}', which names a DAG of Evergreen", "a name not yet taken", do)]
    return []


def _own_dag_files(root: Path) -> set[str]:
    return {file.stem.replace("_", "-") for file in (root / "dags").glob("*.py")}


def _other_suites(root: Path, checked: set[str]) -> list[Problem]:
    """Suites that no readable spec names are checked too (but for their columns)."""
    names = sorted({file.stem for file in (root / "expectations").glob("*.json")} - checked)
    return [problem for name in names for problem in check_suite(root, name)]
