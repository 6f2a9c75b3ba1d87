"""The line from what is said to what is true: rising, smooth, and modest where rows are few."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from evergreen.adapters.calibration import SMALLEST_GROUP, calibrate


def true_of(line: tuple[tuple[float, float], ...], said: np.ndarray) -> np.ndarray:
    points = np.array(line)
    return np.interp(said, points[:, 0], points[:, 1])


def overstated(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Chances that are twice what is true."""
    random = np.random.default_rng(seed)
    said = random.beta(2, 3, rows)
    return said, (random.random(rows) < said / 2).astype(np.float64)


@pytest.mark.parametrize("rows", [1, 2, 19, 90, 1000, 20_000])
def test_the_line_rises_over_all_chances_and_stays_among_them(rows: int) -> None:
    points = np.array(calibrate(*overstated(rows)))
    assert (points[0, 0], points[-1, 0]) == (0, 1)
    assert (np.diff(points[:, 0]) > 0).all()
    assert (np.diff(points[:, 1]) >= 0).all()
    assert 0 <= points.min() <= points.max() <= 1
    assert len(points) <= 2 + max(1, rows // SMALLEST_GROUP + 1)


def test_of_many_rows_it_is_what_is_true() -> None:
    said = np.linspace(0.1, 0.7, 25)
    assert true_of(calibrate(*overstated(20_000)), said) == pytest.approx(said / 2, abs=0.03)


def test_it_is_nearer_to_the_truth_than_steps_are() -> None:
    grid, off = np.linspace(0.1, 0.7, 50), []
    for seed in range(20):
        said, happened = overstated(1000, seed)
        steps = IsotonicRegression(out_of_bounds="clip").fit(said, happened)
        lines = true_of(calibrate(said, happened), grid)
        off.append([np.abs(found - grid / 2).mean() for found in (lines, steps.predict(grid))])
    ours, theirs = np.mean(off, axis=0)
    assert ours < theirs


def test_its_mean_is_how_often_it_happened() -> None:
    said, happened = overstated(2000)
    assert true_of(calibrate(said, happened), said).mean() == pytest.approx(happened.mean(), abs=0.01)


def test_of_few_rows_most_is_what_was_said() -> None:
    line = calibrate(np.array([0.2, 0.4]), np.array([1.0, 0.0]))
    assert true_of(line, np.array([0.1, 0.3, 0.9])) == pytest.approx([0.1, 0.3, 0.9], abs=0.05)


def test_one_class_alone_does_not_make_the_other_impossible() -> None:
    said = overstated(200)[0]
    never, always = (true_of(calibrate(said, np.full(200, outcome)), np.array([0.4])) for outcome in (0.0, 1.0))
    assert 0 < never[0] < 0.1
    assert 0.9 < always[0] < 1


def test_a_model_that_always_says_the_same_is_moved_to_what_happened() -> None:
    line = calibrate(np.full(1000, 0.3), np.tile([1.0, 0.0], 500))
    assert true_of(line, np.array([0.3, 0.0, 1.0])) == pytest.approx([0.5, 0, 1], abs=0.01)


def test_chances_of_0_and_1_are_believed_no_more_than_others() -> None:
    said, happened = np.repeat([0.0, 1.0], 1000), np.tile([1.0, 0.0, 0.0, 0.0], 500)
    assert true_of(calibrate(said, happened), np.array([0.0, 1.0])) == pytest.approx([0.25, 0.25], abs=0.02)


def test_rows_of_like_chance_are_never_parted() -> None:
    said = np.repeat([0.2, 0.6], [990, 10])
    happened = (np.arange(1000) % 2).astype(np.float64)
    order = np.random.default_rng(1).permutation(1000)
    assert calibrate(said, happened) == calibrate(said[order], happened[order])
    assert {point[0] for point in calibrate(said, happened)} == {0.0, 0.2, 0.6, 1.0}
