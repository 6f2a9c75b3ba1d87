"""One version of one model, ready to answer. Immutable: a request that holds it gets its version's answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from evergreen.core import bundle as bundles
from evergreen.core.errors import BundleRefused
from evergreen.core.golden import TOLERANCE
from evergreen.serving.models.booster import Booster, open_booster
from evergreen.serving.models.encoder import Encoder, Schema
from evergreen.serving.models.row_decoder import RowDecoder
from evergreen.serving.models.usage import Usage, memory_of
from evergreen.serving.refusals import Problems, RequestRefused
from evergreen.serving.state import Released


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A verified and warmed-up bundle."""

    name: str
    release: Released
    schema: Schema
    encoder: Encoder
    rows: RowDecoder
    booster: Booster
    usage: Usage = field(default_factory=Usage)  # kept by who asks it; all else never changes

    @cached_property
    def version(self) -> str:
        """The version as headers and labels have it."""
        return str(self.release.version)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """One number a row, or one a class. `matrix` comes from the encoder: the booster itself checks nothing."""
        return self.booster.predict(matrix)


def load(folder: Path, name: str, release: Released) -> LoadedModel:
    """Read, verify, load and warm up a bundle. Raises BundleRefused, naming what does not agree."""
    files = read_files(folder, release.bundle)
    _check_manifest(files[bundles.MANIFEST], name, release)
    try:
        schema = msgspec.json.decode(files[bundles.SCHEMA], type=Schema)
        booster = open_booster(files[bundles.MODEL])
        golden = json.loads(files[bundles.GOLDEN])
    except (KeyError, ValueError) as error:
        raise _refused(name, release, str(error).splitlines()[0], "files that can be read") from error
    usage = Usage(memory_of(len(files[bundles.MODEL])))
    model = LoadedModel(name, release, schema, Encoder(schema), RowDecoder(schema), booster, usage)
    _check_features(model)
    _check_golden(model, golden["rows"], golden["predictions"])
    return model


def read_files(folder: Path, bundle: str) -> dict[str, bytes]:
    """All files of a local bundle, verified. Raises BundleRefused."""
    try:
        return bundles.gather(bundle, lambda name: (folder / name).read_bytes())
    except FileNotFoundError as error:
        raise BundleRefused(
            f"bundle {bundle[:12]}",
            found=f"no file {Path(error.filename).name}",
            allowed="all files that its manifest names",
            do="It is fetched again from the store.",
        ) from error


def _check_manifest(manifest: bytes, name: str, release: Released) -> None:
    facts = json.loads(manifest)
    if facts.get("format") != 1:
        raise _refused(name, release, f"bundle format {facts.get('format')}", "format 1")
    if facts.get("model", name) != name:
        raise _refused(name, release, f"a bundle of model '{facts['model']}'", f"a bundle of '{name}'")


def _check_features(model: LoadedModel) -> None:
    expected = [(f.name, f.kind == "category") for f in model.schema.features]
    if [(name, kind == "c") for name, kind in model.booster.features()] != expected:
        text = "a booster with other features or categories than schema.json"
        raise _refused(model.name, model.release, text, ", ".join(model.encoder.names))


def _check_golden(model: LoadedModel, rows: list[dict[str, Any]], expected: list[Any]) -> None:
    """Offline = online: the answers of this process are those that were recorded at training."""
    if not rows:
        raise _refused(model.name, model.release, "no golden rows", "at least one golden row")
    try:
        columns = {name: [row[name] for row in rows] for name in model.encoder.names}
        encoded = model.encoder.encode(columns, len(rows), Problems())
    except (KeyError, RequestRefused) as error:
        raise _refused(model.name, model.release, f"golden rows: {error}", "rows of the schema") from error
    answers, wanted = model.predict(encoded.matrix), np.asarray(expected, dtype=np.float64)
    if answers.shape != wanted.shape:
        raise _refused(model.name, model.release, f"answers of shape {answers.shape}", f"{wanted.shape}")
    off = np.abs(answers - wanted) - (TOLERANCE + TOLERANCE * np.abs(wanted))
    if not (off <= 0).all():
        worst = int(np.argmax(off.reshape(len(rows), -1).max(axis=1)))
        text = f"golden row {worst} answered {answers[worst]}"
        raise _refused(model.name, model.release, text, f"{wanted[worst]} as recorded, ± 1e-6")


def _refused(name: str, release: Released, found: str, allowed: str) -> BundleRefused:
    return BundleRefused(
        f"{name} version {release.version}, bundle {release.bundle[:12]}",
        found=found,
        allowed=allowed,
        do="The version that was live goes on answering; retrain, or release another version.",
    )
