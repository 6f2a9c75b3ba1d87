"""Which features moved, and where to: the rows of a window beside those of training, in the groups of their PSI."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.monitoring import drift
from evergreen.core.monitoring.bins import Bins, CategoryBins, NumberBins

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evergreen.core.monitoring.tally import Layout

    Floats = npt.NDArray[np.float64]

MISSING, OTHERS = "missing", "all others"


@dataclass(frozen=True)
class Group:
    """A range of a number or a category: its share of training's rows and of the window's."""

    label: str
    before: float
    after: float


@dataclass(frozen=True)
class Shift:
    """A feature in training and in the window. `beyond` is the fraction out of range, of a category of unseen ones;
    `distance` the Wasserstein distance in training's standard deviations, none for categories. `psi` is none where
    either has no row."""

    feature: str
    rows: int
    psi: float | None
    distance: float | None
    missing_before: float | None
    missing: float | None
    beyond: float | None
    groups: tuple[Group, ...]


def shifts(layout: Layout, vector: Floats, hidden: Collection[str] = ()) -> list[Shift]:
    """Of every feature but the hidden ones, the one that moved most first. `vector` is a tally, shape (layout.size,).

    One that was not logged has no row, and comes last.
    """
    found = [
        _shift(bins, layout.feature(vector, position))
        for position, bins in enumerate(layout.reference.features)
        if bins.name not in hidden
    ]
    return sorted(found, key=lambda one: (one.psi is None, -(one.psi or 0.0), one.feature))


def _shift(bins: Bins, counts: Floats) -> Shift:
    number = isinstance(bins, NumberBins)
    return Shift(
        feature=bins.name,
        rows=round(float(counts.sum())),
        psi=_known(drift.psi(bins, counts)),
        distance=_known(drift.wasserstein(bins, counts)) if isinstance(bins, NumberBins) else None,
        missing_before=_known(drift.missing_at_training(bins)),
        missing=_known(drift.missing(counts)),
        beyond=_known(drift.out_of_range(counts) if number else drift.unseen(counts)),
        groups=_groups(bins, counts),
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _groups(bins: Bins, counts: Floats) -> tuple[Group, ...]:
    import numpy as np

    labels = group_labels(bins)
    columns = [
        np.bincount(bins.groups, weights=np.asarray(one), minlength=len(labels)) for one in (bins.counts, counts)
    ]
    before, after = (column / max(float(column.sum()), 1.0) for column in columns)
    told = zip(labels, before.tolist(), after.tolist(), strict=True)
    return tuple(Group(*one) for one in told if any(one[1:]))


# ---------------------------------------------------------------- in words


def group_labels(bins: Bins) -> list[str]:
    """A name for each group of the bins, in their order: '≤ 420', '420 to 980', '> 980', 'missing'; or 'AA', 'DL',
    'all others', 'missing'."""
    if isinstance(bins, CategoryBins):
        return _of_categories(bins)
    if not bins.bounds:
        return ["known", MISSING]
    return _of_numbers(bins)


def _of_categories(bins: CategoryBins) -> list[str]:
    groups = bins.groups.tolist()
    other = groups[-2]  # that of unseen ones
    own = [name for name, group in zip(bins.categories, groups, strict=False) if group != other]
    return [*own, OTHERS, MISSING]


def _of_numbers(bins: NumberBins) -> list[str]:
    inside = bins.groups.tolist()[1:-2]  # of the bins between two bounds
    last = max(inside, default=0)
    labels = []
    for group in range(last + 1):
        places = [at for at, one in enumerate(inside) if one == group]
        low, high = (bins.bounds[places[0]], bins.bounds[places[-1] + 1]) if places else (bins.bounds[0],) * 2
        labels.append(_range(low, high, first=group == 0, last=group == last))
    return [*labels, MISSING]


def _range(low: float, high: float, *, first: bool, last: bool) -> str:
    if first and last:
        return "all values"
    if first:
        return f"≤ {high:.4g}"
    return f"> {low:.4g}" if last else f"{low:.4g} to {high:.4g}"
