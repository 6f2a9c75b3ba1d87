"""Bins of a feature or of predictions: fixed at training, so that counts of any rows can be added up.

Of a number: below what training saw, up to FINE bins by the quantiles of training's rows, above, missing. Of a
category: one for each that training saw, one for all others, missing. For the population stability index bins are taken
together to about ten of like weight: on few rows many small ones tell of chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

FINE = 50
GROUPS = 10  # of numbers, as deciles are usual
MOST_CATEGORIES = 20  # with a group of their own
LEAST_SHARE = 0.005  # of the rows, else a category has none: a few hundred rows tell nothing of it


@dataclass(frozen=True)
class NumberBins:
    """`bounds`: the smallest value, inner edges, the largest value, rising. A value on an edge is in the lower bin."""

    name: str
    bounds: tuple[float, ...]
    counts: tuple[int, ...]  # of training: len(bounds) + 2
    mean: float = 0.0
    std: float = 0.0

    @property
    def size(self) -> int:
        """How many bins: below, those between the bounds, above, missing."""
        return max(len(self.bounds), 1) + 2

    @cached_property
    def _edges(self) -> npt.NDArray[np.float32]:
        import numpy as np

        edges = np.array(self.bounds, dtype=np.float32)
        if len(edges):
            edges[0] = np.nextafter(edges[0], np.float32(-np.inf))  # the smallest value itself is inside
        return edges

    def index(self, values: npt.NDArray[Any]) -> Ints:
        """The bin of each value; infinite ones are below or above."""
        import numpy as np

        found = np.searchsorted(self._edges, values.astype(np.float32, copy=False), side="left").astype(np.int64)
        found[np.isnan(values)] = self.size - 1
        return found

    @cached_property
    def groups(self) -> Ints:
        """The group of each bin."""
        import numpy as np

        if not self.bounds:  # known and missing ones
            return np.array([0, 0, 1], dtype=np.int64)
        inside = self.counts[1:-2]
        share = max(sum(inside), 1) / GROUPS
        of_inside, filled = [], 0.0
        for count in inside:
            of_inside.append(min(int(filled / share), GROUPS - 1))
            filled += count
        dense = np.unique(of_inside, return_inverse=True)[1]
        return np.array([dense[0], *dense, dense[-1], dense[-1] + 1], dtype=np.int64)

    @cached_property
    def centres(self) -> Floats:
        """A value for each bin but missing ones: the middle, and the bounds for what is outside.

        Of few different values the smallest and the largest are bins of their own: those stand for themselves.
        """
        import numpy as np

        if not self.bounds:
            return np.zeros(self.size - 1)
        bounds = np.array(self.bounds, dtype=np.float64)
        inside = (bounds[:-1] + bounds[1:]) / 2
        if len(inside) < FINE:
            inside[[0, -1]] = bounds[[0, -1]]
        return np.concatenate([bounds[:1], inside, bounds[-1:]])


@dataclass(frozen=True)
class CategoryBins:
    """`categories` in the order of the bundle's schema."""

    name: str
    categories: tuple[str, ...]
    counts: tuple[int, ...]  # of training: len(categories) + 2

    @property
    def size(self) -> int:
        """How many bins: one a category, unseen, missing."""
        return len(self.categories) + 2

    @cached_property
    def groups(self) -> Ints:
        """The group of each bin: the largest categories have their own, the others share one with unseen ones."""
        import numpy as np

        least = LEAST_SHARE * sum(self.counts)
        often = (at for at in range(len(self.categories)) if self.counts[at] > least)
        order = sorted(often, key=lambda at: (-self.counts[at], at))[:MOST_CATEGORIES]
        own = {at: group for group, at in enumerate(sorted(order))}
        other = len(own)
        inside = [own.get(at, other) for at in range(len(self.categories))]
        return np.array([*inside, other, other + 1], dtype=np.int64)


Bins = NumberBins | CategoryBins


def number_bins(name: str, values: npt.NDArray[np.float32], fine: int = FINE) -> NumberBins:
    """Bins by the quantiles of the values; of few different ones each has its own. Infinite ones count as missing.

    The nearer to either end, the fewer rows has a bin: values there are far apart, and average precision looks at the
    few rows with the highest predictions.
    """
    import numpy as np

    known = np.sort(values[np.isfinite(values)].astype(np.float32))
    if not len(known):
        return NumberBins(name, (), (0, 0, len(values)))
    different = known[np.append(True, known[1:] != known[:-1])]
    if len(different) <= fine:
        inner = (different[:-1].astype(np.float64) + different[1:]) / 2
    else:
        levels = np.sin(np.linspace(0, np.pi / 2, fine + 1)[1:-1]) ** 2
        inner = np.unique(np.quantile(known.astype(np.float64), levels))
        inner = inner[(inner > different[0]) & (inner < different[-1])]
    edges = np.concatenate([different[:1], inner, different[-1:]]).astype(np.float32)
    mean, std = float(known.mean(dtype=np.float64)), float(known.std(dtype=np.float64))
    below = np.searchsorted(known, edges[1:], side="right")  # or on the edge, as `index` has it
    counts = [0, *np.diff(below, prepend=0).tolist(), 0, len(values) - len(known)]
    return NumberBins(name, tuple(edges.tolist()), tuple(counts), mean, std)


def category_bins(name: str, categories: tuple[str, ...], codes: Ints) -> CategoryBins:
    """Bins of the codes of a category (bins.CategoryBins.index order): counted as training saw them."""
    import numpy as np

    counts = np.bincount(codes, minlength=len(categories) + 2)
    return CategoryBins(name, categories, tuple(counts.tolist()))


def offsets(bins: tuple[Bins, ...]) -> list[int]:
    """Where each one's counts begin in a vector that holds all of them, and the vector's length."""
    return [0, *accumulate(one.size for one in bins)]


def as_json(bins: Bins) -> dict[str, Any]:
    """As reference.json holds it."""
    if isinstance(bins, CategoryBins):
        return {"kind": "category", "name": bins.name, "categories": list(bins.categories), "counts": list(bins.counts)}
    facts = {"name": bins.name, "bounds": list(bins.bounds), "counts": list(bins.counts)}
    return {"kind": "number", **facts, "mean": bins.mean, "std": bins.std}


def from_json(found: dict[str, Any]) -> Bins:
    """The opposite. KeyError, TypeError for what this did not write."""
    if found["kind"] == "category":
        return CategoryBins(found["name"], tuple(found["categories"]), tuple(found["counts"]))
    return NumberBins(found["name"], tuple(found["bounds"]), tuple(found["counts"]), found["mean"], found["std"])
