"""The small booster of a regression's bundle that tells how far off it will be."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from evergreen.adapters.xgboost_trainer.losses import MOST, expected_losses, fit_losses, held_out_losses, open_losses
from training_data import make_rows

CATEGORIES = {"x": None, "carrier": ["AA", "B6", "UA"]}


def errors(rows: pl.DataFrame, seed: int = 0) -> np.ndarray:
    """Ten times as large for one carrier."""
    size = np.where(rows["carrier"].fill_null("") == "UA", 10.0, 1.0)
    return np.random.default_rng(seed).normal(size=rows.height) * size


def told(rows: pl.DataFrame, asked: pl.DataFrame, factor: float = 1.0) -> np.ndarray:
    off = errors(rows) * factor
    booster, features = open_losses(fit_losses(rows, CATEGORIES, off, np.zeros(rows.height)))
    assert features == ["x", "carrier"]
    return expected_losses(booster, CATEGORIES, asked, np.zeros(asked.height))


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**80])
def test_errors_may_have_any_size(factor: float) -> None:
    rows, asked = make_rows(1000), make_rows(50, seed=5)
    one = told(rows, asked)
    assert told(rows, asked, factor) == pytest.approx(one * [factor, factor**2], rel=1e-5)


def test_a_few_rows_tell_their_mean() -> None:
    rows = make_rows(9)
    off = np.abs(errors(rows))
    assert told(rows, make_rows(3)) == pytest.approx(np.tile([off.mean(), (off**2).mean()], (3, 1)), rel=1e-3)


def test_one_row_and_no_error_at_all_can_be_told() -> None:
    rows = make_rows(1)
    booster, _ = open_losses(fit_losses(rows, CATEGORIES, np.ones(1), np.ones(1)))
    assert expected_losses(booster, CATEGORIES, make_rows(4), np.ones(4)).tolist() == [[0.0, 0.0]] * 4


def test_the_answer_itself_tells_too() -> None:
    rows = make_rows(4000)
    answers = np.random.default_rng(7).uniform(10, 100, 4000)
    label = answers * (1 + np.random.default_rng(8).normal(scale=0.2, size=4000))
    booster, _ = open_losses(fit_losses(rows, CATEGORIES, label, answers))
    low, high = (expected_losses(booster, CATEGORIES, rows, np.full(4000, at))[:, 0].mean() for at in (15.0, 95.0))
    assert high > 3 * low


def test_rows_held_out_are_told_by_those_of_other_times() -> None:
    rows = make_rows(2000)
    off = np.where(np.arange(2000) < 1000, 1.0, 3.0)
    found = held_out_losses(rows, CATEGORIES, off, np.zeros(2000))
    assert found[:1000, 0] == pytest.approx(3.0)
    assert found[1000:, 0] == pytest.approx(1.0)


def test_features_may_have_any_name() -> None:
    rows = make_rows(300).rename({"x": "prediction", "carrier": "0"})
    categories = {"prediction": None, "0": ["AA", "B6", "UA"]}
    booster, features = open_losses(fit_losses(rows, categories, np.arange(300.0), np.zeros(300)))
    assert features == ["prediction", "0"]
    assert np.isfinite(expected_losses(booster, categories, rows, np.zeros(300))).all()


def test_of_many_rows_those_that_are_looked_at_lie_over_the_whole_time() -> None:
    rows = make_rows(2 * MOST)
    off = np.where(np.arange(rows.height) < MOST, 1.0, 3.0)
    booster, _ = open_losses(fit_losses(rows, CATEGORIES, off, np.zeros(rows.height)))
    found = expected_losses(booster, CATEGORIES, rows, np.zeros(rows.height))
    assert found.mean(axis=0) == pytest.approx([2.0, 5.0], rel=0.01)
