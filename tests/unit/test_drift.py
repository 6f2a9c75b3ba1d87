"""How far rows have moved: scipy is the oracle of the distance, and chance alone gives no drift on average."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import wasserstein_distance

from evergreen.core.guarding import psi_expected
from evergreen.core.monitoring import drift
from evergreen.core.monitoring.bins import MOST_CATEGORIES, NumberBins, category_bins, number_bins

RNG = np.random.default_rng(3)


def counted(bins: NumberBins, values: np.ndarray) -> np.ndarray:
    return np.bincount(bins.index(values.astype(np.float32)), minlength=bins.size).astype(np.float64)


NORMAL = number_bins("delay", RNG.normal(size=20_000).astype(np.float32))


@settings(max_examples=50, deadline=None)
@given(counts=arrays(np.float64, NORMAL.size, elements=st.integers(0, 1000)))
def test_the_distance_is_scipys_over_the_same_bins(counts: np.ndarray) -> None:
    counts[0] += 1
    weights = (np.array(NORMAL.counts[:-1]), counts[:-1])
    expected = wasserstein_distance(NORMAL.centres, NORMAL.centres, *weights) / NORMAL.std
    assert drift.wasserstein(NORMAL, counts) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("moved", [0.2, 0.5, 1.0])
def test_a_shift_is_as_far_as_it_is_and_near_scipys_of_the_values(moved: float) -> None:
    old = RNG.normal(10, 3, 20_000).astype(np.float32)
    new = RNG.normal(10 + 3 * moved, 3, 20_000).astype(np.float32)
    bins = number_bins("delay", old)
    assert drift.wasserstein(bins, counted(bins, new)) == pytest.approx(moved, abs=0.05)
    assert drift.wasserstein(bins, counted(bins, new)) == pytest.approx(wasserstein_distance(old, new) / 3, abs=0.05)


def test_of_few_values_the_distance_is_that_of_the_values() -> None:
    old, new = np.repeat([0, 1], [700, 300]).astype(np.float32), np.repeat([0, 1], [200, 800]).astype(np.float32)
    bins = number_bins("is_weekend", old)
    expected = wasserstein_distance(old, new) / old.std(dtype=np.float64)
    assert drift.wasserstein(bins, counted(bins, new)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rows", [500, 5000])
@pytest.mark.parametrize("shares", [np.ones(10), 1 / np.arange(1, 41.0) ** 2, np.r_[900.0, 99, np.full(50, 0.02)]])
def test_chance_alone_gives_no_drift(rows: int, shares: np.ndarray) -> None:
    """Near 0 on average, never over 0.1: even of many categories that are rare."""
    names = tuple(f"c{at}" for at in range(len(shares)))
    rng = np.random.default_rng(rows)
    found = []
    for _ in range(100):
        old, new = (rng.choice(len(shares), n, p=shares / shares.sum()) for n in (20_000, rows))
        bins = category_bins("carrier", names, old)
        found.append(drift.psi(bins, np.bincount(new, minlength=bins.size).astype(np.float64)))
    assert np.mean(found) < 6 / rows
    assert max(found) < 0.1


def test_chance_is_what_samples_have_on_average() -> None:
    """Yurdakul and Naranjo: (groups - 1) * (1/n + 1/m)."""
    rng, found = np.random.default_rng(2), []
    for _ in range(400):
        old, new = (np.bincount(rng.integers(0, 10, n), minlength=10) for n in (4000, 2000))
        shares = np.array([old / 4000, new / 2000])
        found.append(float((np.diff(shares, axis=0) * np.diff(np.log(shares), axis=0)).sum()))
    assert np.mean(found) == pytest.approx(psi_expected([1000] * 4, [500] * 4) * 9 / 3, rel=0.1)


def test_psi_sees_a_shift_a_rare_category_that_grows_and_values_that_go_missing() -> None:
    assert drift.psi(NORMAL, counted(NORMAL, RNG.normal(0.7, 1, 1000))) > 0.25
    holes = np.where(np.arange(1000) < 300, np.nan, RNG.normal(size=1000))
    assert drift.psi(NORMAL, counted(NORMAL, holes)) > 0.25
    bins = category_bins("carrier", ("AA", "B6", "rare"), np.repeat([0, 1, 2], [6000, 3990, 10]))
    assert drift.psi(bins, np.array([300.0, 200, 500, 0, 0])) > 0.25
    assert drift.psi(bins, np.array([300.0, 200, 0, 500, 0])) > 0.25


def test_only_frequent_categories_have_a_group_of_their_own() -> None:
    codes = np.repeat(np.arange(30), [10 * (30 - at) + 400 for at in range(30)])
    assert category_bins("many", tuple(map(str, range(30))), codes).groups.max() == MOST_CATEGORIES + 1
    rare = category_bins("rare", ("a", "b", "c"), np.repeat([0, 1, 2], [1000, 1000, 5]))
    assert rare.groups.tolist() == [0, 1, 2, 2, 3]


def test_a_constant_feature_is_out_of_range_where_it_changes_and_has_no_distance() -> None:
    bins = number_bins("version", np.full(500, 7, dtype=np.float32))
    same, other = counted(bins, np.full(600, 7.0)), counted(bins, np.full(600, 8.0))
    assert (drift.out_of_range(same), drift.psi(bins, same)) == (0, 0)
    assert drift.out_of_range(other) == 1
    assert math.isnan(drift.wasserstein(bins, other))


def test_a_feature_that_was_always_missing() -> None:
    bins = number_bins("sensor", np.full(500, np.nan, dtype=np.float32))
    assert drift.psi(bins, counted(bins, np.full(600, np.nan))) == 0
    assert drift.psi(bins, counted(bins, np.ones(600))) > 1
    assert math.isnan(drift.wasserstein(bins, counted(bins, np.ones(600))))
    assert drift.missing_at_training(bins) == 1


def test_infinite_values_are_out_of_range() -> None:
    found = counted(NORMAL, np.array([np.inf, -np.inf, 0, np.nan]))
    assert (drift.out_of_range(found), drift.missing(found)) == (0.5, 0.25)
    assert drift.wasserstein(NORMAL, found) == pytest.approx(
        wasserstein_distance(NORMAL.centres, NORMAL.centres, NORMAL.counts[:-1], found[:-1]) / NORMAL.std
    )


def test_categories_that_training_never_saw() -> None:
    assert drift.unseen(np.array([6.0, 2, 1, 1])) == 0.1


def test_without_rows_nothing_is_known() -> None:
    none = np.zeros(NORMAL.size)
    for found in (drift.psi(NORMAL, none), drift.wasserstein(NORMAL, none), drift.missing(none)):
        assert math.isnan(found)
    never = number_bins("never", np.empty(0, dtype=np.float32))
    assert math.isnan(drift.psi(never, np.array([5.0, 0, 0])))
    assert math.isnan(drift.missing_at_training(never))
