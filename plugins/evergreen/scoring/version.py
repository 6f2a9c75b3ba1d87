"""Which version scores, and its booster: verified as serving verifies it, on all cores."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xgboost

from evergreen.core import bundle as bundles
from evergreen.core import champion
from evergreen.core.errors import FoundProblem
from evergreen.core.ports import Ledger, Store
from evergreen.core.records import Candidate
from evergreen.serving.models.encoder import Schema
from evergreen.serving.models.loaded_model import load
from evergreen.serving.state import Released


class NoVersion(FoundProblem):
    """Raised where a model has no champion, or not the version that was asked for."""


@dataclass(frozen=True, eq=False)
class Version:
    """A version of a model, ready to score."""

    model: str
    number: int
    bundle: str
    schema: Schema
    booster: xgboost.Booster

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """float32: one number a row, or one a class. `matrix` comes from ColumnEncoder."""
        if not len(matrix):
            return np.empty((0, self.schema.classes) if self.schema.classes else 0, np.float32)
        answer: np.ndarray = self.booster.inplace_predict(matrix, missing=np.nan, validate_features=False)
        return answer


def version_of(ledger: Ledger, store: Store, model: str, number: int | None) -> Version:
    """The version, none: the champion. Raises NoVersion; BundleRefused where its bundle is not what was registered."""
    candidate = _candidate(ledger, model, number)
    files = champion.load(store, candidate.bundle)
    schema = _checked(files, model, candidate)
    # A second booster from the same bytes: serving's own answers row by row, on one core.
    booster = xgboost.Booster(model_file=bytearray(files[bundles.MODEL]))
    return Version(model, candidate.version, candidate.bundle, schema, booster)


def _candidate(ledger: Ledger, model: str, number: int | None) -> Candidate:
    if number is None:
        found = champion.reign_of(ledger, model).candidate
        if found is None:
            do = f"Release one (`evergreen retrain {model}`), or name a version that was trained: --version N."
            raise NoVersion(f"model '{model}'", found="no champion", allowed="a model that was released", do=do)
        return found
    try:
        return ledger.models.candidate(model, number)
    except KeyError:
        known = ", ".join(str(one.version) for one in ledger.models.candidates(model)) or "none yet"
        do = f"`evergreen history {model}` tells what became of each."
        raise NoVersion(f"model '{model}', version {number}", found="no such version", allowed=known, do=do) from None


def _checked(files: dict[str, bytes], model: str, candidate: Candidate) -> Schema:
    """The schema, once serving itself has loaded these files and answered the golden rows as they were recorded."""
    with tempfile.TemporaryDirectory(prefix="evergreen-score-") as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        return load(Path(folder), model, Released(candidate.version, "", candidate.bundle, 0)).schema
