"""What is true of the chances that a model says, by scipy's isotonic regression."""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression

GROUPS = 100
SMALLEST_GROUP = 20  # rows
TRUST = 20.0  # in what was said, as so many rows beside those that are known


def calibrate(said: np.ndarray, happened: np.ndarray) -> tuple[tuple[float, float], ...]:
    """A rising line of points (said, true) over all chances; between two points it is straight.

    `said`: chances, `happened`: 0 or 1, both (rows,). Isotonic regression (Barlow et al., 1972) of rows taken together
    to groups of like chance, and a point at the centre of each of its blocks: steps of few rows would tell of chance.
    Of few rows most is what was said: a tail of one class does not mean that the other has become impossible. Beyond
    the outermost points it runs to what was said, 0 or 1.
    """
    chance, of_row = np.unique(said.astype(np.float64), return_inverse=True)
    weight = np.bincount(of_row).astype(np.float64)
    hits = np.bincount(of_row, weights=happened)
    trust = TRUST / len(said)
    true = (hits + trust * weight * chance) / (weight * (1 + trust))
    first = _first_of_groups(weight)
    rows = np.add.reduceat(weight, first)
    centre, height = (np.add.reduceat(weight * values, first) / rows for values in (chance, true))
    blocks = isotonic_regression(height, weights=rows)
    starts = blocks.blocks[:-1]
    centres = np.add.reduceat(rows * centre, starts) / np.add.reduceat(rows, starts)
    return _whole_line(centres, np.clip(blocks.x[starts], 0.0, 1.0))


def _first_of_groups(weight: np.ndarray) -> np.ndarray:
    """Where each group begins; rows of the same chance are never parted."""
    size = max(SMALLEST_GROUP, weight.sum() / GROUPS)
    group = ((weight.cumsum() - weight / 2) / size).astype(np.int64)
    return np.flatnonzero(np.diff(group, prepend=-1))


def _whole_line(said: np.ndarray, true: np.ndarray) -> tuple[tuple[float, float], ...]:
    """With the ends, unless points are there."""
    points = dict(zip(said.tolist(), true.tolist(), strict=True))
    return tuple(sorted(({0.0: 0.0, 1.0: 1.0} | points).items()))
