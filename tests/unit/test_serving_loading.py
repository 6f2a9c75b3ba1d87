"""Loading a bundle: verified, of the features it names, and answering as it did at training, or refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.bundles import make_bundle
from tests.training_data import make_rows, make_spec

from evergreen.core import bundle as bundles
from evergreen.core.errors import BundleRefused
from evergreen.core.rows import Rows
from evergreen.serving.models.loaded_model import LoadedModel, load
from evergreen.serving.protocols.records_endpoint import RecordsEndpoint
from evergreen.serving.protocols.tensors_endpoint import metadata
from evergreen.serving.state import Released
from evergreen.wiring import trainer


def load_files(folder: Path, bundle: str, files: Mapping[str, bytes], name: str = "flight-delay") -> LoadedModel:
    for file, data in files.items():
        (folder / file).write_bytes(data)
    return load(folder, name, Released(1, "r1", bundle, 1))


def resealed(files: Mapping[str, bytes], **changed: bytes) -> tuple[str, dict[str, bytes]]:
    """The bundle with other files, and a manifest that agrees with them."""
    kept = {name: data for name, data in files.items() if name != bundles.MANIFEST}
    return bundles.seal(
        {**kept, **{name.replace("_", "."): data for name, data in changed.items()}}, model="flight-delay"
    )


@pytest.mark.parametrize(
    ("task", "label"),
    [("binary_classification", "y"), ("multiclass_classification", "klass"), ("regression", "amount")],
)
def test_what_the_trainer_makes_is_loaded_and_answers_its_golden_rows(tmp_path: Path, task: str, label: str) -> None:
    spec = make_spec(
        task=task,
        label={"column": label, "arrives_after": "1d"},
        gates=[{"metric": "mae" if label == "amount" else "accuracy", "min": 0}],
    )
    trained = trainer().fit(spec, Rows.of(make_rows()))
    bundle, files = bundles.seal(trained.files, model="m")
    model = load_files(tmp_path, bundle, files, "m")
    golden = json.loads(files[bundles.GOLDEN])
    asked = RecordsEndpoint().read(model, json.dumps({"records": golden["rows"]}).encode(), {})
    np.testing.assert_allclose(model.predict(asked.matrix), golden["predictions"], rtol=1e-6, atol=1e-6)
    shape = metadata(model)["outputs"][0]["shape"]
    assert shape == ([-1, 3] if label == "klass" else [-1])


def test_what_the_monitor_measures_against_is_verified_and_not_opened(tmp_path: Path) -> None:
    made, files = resealed(make_bundle()[1], reference_json=b"not JSON", loss_ubj=b"no booster")
    load_files(tmp_path, made, files)
    with pytest.raises(BundleRefused, match=r"reference\.json"):
        load_files(tmp_path, made, {**files, "reference.json": b"changed"})


def test_golden_rows_are_compared_relatively_and_absolutely(tmp_path: Path) -> None:
    _, files = make_bundle()
    golden = json.loads(files[bundles.GOLDEN])
    for off, passes in ((1e-6, True), (5e-6, False)):
        moved = {**golden, "predictions": [p + off for p in golden["predictions"]]}
        made, changed = resealed(files, golden_json=bundles.canonical_json(moved))
        if passes:
            load_files(tmp_path, made, changed)
        else:
            with pytest.raises(BundleRefused, match=r"found golden row \d+ answered"):
                load_files(tmp_path, made, changed)


@pytest.mark.parametrize(
    ("golden", "told"),
    [
        ({"rows": [], "predictions": []}, "no golden rows"),
        ({"rows": [{"distance": 1.0}], "predictions": [0.5]}, "golden rows: 'hour'"),
        ({"rows": [{"distance": "x", "hour": 1, "carrier": "AA"}], "predictions": [0.5]}, "the string 'x'"),
        ({"rows": [{"distance": 1, "hour": 1, "carrier": "AA"}], "predictions": [0.5, 0.5]}, "answers of shape"),
    ],
)
def test_golden_rows_that_prove_nothing_are_refused(tmp_path: Path, golden: object, told: str) -> None:
    made, files = resealed(make_bundle()[1], golden_json=bundles.canonical_json(golden))
    with pytest.raises(BundleRefused, match=told):
        load_files(tmp_path, made, files)


def test_a_damaged_file_a_missing_file_and_another_model_are_refused(tmp_path: Path) -> None:
    made, files = make_bundle()
    with pytest.raises(BundleRefused, match=r"schema\.json: found sha256"):
        load_files(tmp_path, made, {**files, bundles.SCHEMA: b"{}"})
    with pytest.raises(BundleRefused, match="a bundle of model 'flight-delay'"):
        load_files(tmp_path, made, files, "fares")
    (tmp_path / bundles.MODEL).unlink()
    with pytest.raises(BundleRefused, match=r"no file model\.ubj"):
        load(tmp_path, "flight-delay", Released(1, "r1", made, 1))


def test_sealed_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    _, files = make_bundle()
    schema = json.loads(files[bundles.SCHEMA])
    schema["features"].reverse()
    for changed, told in (
        ({"schema_json": bundles.canonical_json(schema)}, "other features or categories than schema.json"),
        ({"schema_json": b'{"task": "x", "features": 1}'}, "Expected `array`"),
        ({"model_ubj": b"no booster"}, "found "),
    ):
        made, sealed = resealed(files, **changed)
        with pytest.raises(BundleRefused, match=told):
            load_files(tmp_path, made, sealed)


def test_a_worker_imports_nothing_of_ledger_training_or_airflow(tmp_path: Path) -> None:
    """In a fresh process: import the worker, load a bundle, answer; then see what came along."""
    made, files = make_bundle()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    program = f"""
import evergreen.serving.worker, json, sys
from pathlib import Path
from evergreen.serving.models.loaded_model import load
from evergreen.serving.protocols.records_endpoint import RecordsEndpoint
from evergreen.serving.state import Released
model = load(Path({str(tmp_path)!r}), "flight-delay", Released(1, "r", {made!r}, 1))
body = b'{{"records": [{{"distance": 1, "hour": 2, "carrier": "AA"}}]}}'
model.predict(RecordsEndpoint().read(model, body, {{}}).matrix)
print(json.dumps(sorted(name for name, module in sys.modules.items() if module and "." not in name)))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(json.loads(found.stdout))
    assert loaded & {"numpy", "msgspec"}
    assert not loaded & {"scipy", "xgboost"}  # its library is loaded, not the package
    heavy = {"airflow", "alembic", "duckdb", "fsspec", "great_expectations", "matplotlib", "mlflow", "pandas", "polars"}
    assert not loaded & (heavy | {"psycopg2", "pyarrow", "sklearn", "sqlalchemy"})
