"""XGBoost's C API answers bit for bit as its package, and the package answers where the library is another."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from tests.bundles import booster as small_booster

from evergreen.serving.models import booster
from evergreen.serving.models.booster import BoosterFailed, open_booster

ROWS, FEATURES, CATEGORIES = 700, 6, 40
LABELS = {
    "binary:logistic": ({}, lambda rng: rng.integers(0, 2, ROWS)),
    "multi:softprob": ({"num_class": 4}, lambda rng: rng.integers(0, 4, ROWS)),
    "reg:squarederror": ({}, lambda rng: rng.normal(size=ROWS) * 1e4),
}


def data(seed: int = 0) -> np.ndarray:
    """Numbers with gaps, and a category in column 2 with codes that training did not see."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    matrix[:, 2] = rng.integers(0, CATEGORIES, ROWS)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    return matrix


@pytest.mark.parametrize("objective", LABELS)
def test_it_answers_bit_for_bit_as_inplace_predict(objective: str) -> None:
    extra, labels = LABELS[objective]
    types = ["c" if column == 2 else "q" for column in range(FEATURES)]
    names = [f"ü {column}" for column in range(FEATURES)]
    fitted = xgb.QuantileDMatrix(
        data(), labels(np.random.default_rng(1)), feature_names=names, feature_types=types, enable_categorical=True
    )
    model = xgb.train({"objective": objective, "max_depth": 6, **extra}, fitted, 40)
    opened = open_booster(bytes(model.save_raw("ubj")))
    assert type(opened).__name__ == "_NativeBooster"
    assert opened.features() == list(zip(names, types, strict=True))
    for rows in (1, 2, 63, ROWS):
        asked = data(seed=2)[:rows]
        found, oracle = opened.predict(asked), model.inplace_predict(asked, missing=np.nan, validate_features=False)
        assert (found.dtype, found.shape) == (oracle.dtype, oracle.shape)
        np.testing.assert_array_equal(found, oracle)


def test_threads_may_ask_the_same_booster() -> None:
    opened = open_booster(bytes(small_booster().save_raw("ubj")))
    asked = [np.ascontiguousarray(data(seed)[:50, :3]) for seed in range(8)]
    expected = [opened.predict(matrix) for matrix in asked]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(opened.predict, asked * 20))
    for answer, oracle in zip(found, expected * 20, strict=True):
        np.testing.assert_array_equal(answer, oracle)


def test_boosters_of_different_shapes_are_asked_in_turn() -> None:
    rng = np.random.default_rng(3)
    shapes = {columns: rng.normal(size=(200, columns)).astype(np.float32) for columns in (3, 7)}
    fitted = {n: xgb.train({"max_depth": 3}, xgb.DMatrix(x, x.sum(axis=1)), 5) for n, x in shapes.items()}
    opened = {columns: open_booster(bytes(one.save_raw("ubj"))) for columns, one in fitted.items()}
    for rows in (200, 1, 30):
        for columns, matrix in shapes.items():
            oracle = fitted[columns].inplace_predict(matrix[:rows])
            np.testing.assert_array_equal(opened[columns].predict(matrix[:rows]), oracle)


def test_what_is_no_model_is_refused() -> None:
    for nonsense in (b"", b"no booster", bytes(small_booster().save_raw("ubj"))[:200]):
        with pytest.raises(BoosterFailed):
            open_booster(nonsense)
    opened = open_booster(bytes(small_booster().save_raw("ubj")))
    with pytest.raises(BoosterFailed, match="feature"):
        opened.predict(np.zeros((1, 7), dtype=np.float32))


@pytest.fixture
def _forgets_the_library() -> None:
    booster.native_library.cache_clear()


@pytest.mark.usefixtures("_forgets_the_library")
@pytest.mark.parametrize("why", ["other version", "no library"])
def test_the_package_answers_where_the_library_is_another(
    why: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    request.addfinalizer(booster.native_library.cache_clear)
    if why == "other version":
        monkeypatch.setattr(booster, "VERSION", (2, 9))
    else:
        monkeypatch.setattr(booster, "_path", lambda: Path("/nowhere/libxgboost.so"))
    model = small_booster()
    opened = open_booster(bytes(model.save_raw("ubj")))
    assert type(opened).__name__ == "_PackageBooster"
    assert "its Python package answers instead" in caplog.text
    assert [name for name, _ in opened.features()] == model.feature_names
    asked = np.array([[500, np.nan, 1]], dtype=np.float32)
    np.testing.assert_array_equal(opened.predict(asked), model.inplace_predict(asked, missing=np.nan))
    with pytest.raises(BoosterFailed):
        open_booster(b"no booster")


def test_where_the_package_cannot_be_imported_it_says_so() -> None:
    """As in the serving image, which has no SciPy."""
    program = """
import sys
sys.modules["scipy"] = None
from evergreen.serving.models import booster
booster.VERSION = (2, 9)
try:
    booster.open_booster(b"{a model}")
except booster.BoosterFailed as failed:
    print(failed)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "not of version 2.9, and its package cannot be imported" in done.stdout
