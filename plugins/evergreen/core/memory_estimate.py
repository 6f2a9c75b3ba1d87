"""How much memory a fit takes by each engine, from measured coefficients, and which of them that lets one choose.

Measured with XGBoost 3.2 (benchmarks/train.py) on 1 to 20 million rows of 20 numbers, one with missing values: what the
process holds of memory that no file backs, as the limit counts it. Estimates lie 10 to 30 % above that; trees, classes
and wide rows are reckoned, not measured. That a step does not go over its limit all the same is watched
(orchestration.limited).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.errors import TrainingRefused
from evergreen.core.metrics import Task

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

FRAME_CELLS = 20_000_000  # rows times features: so many are one frame in memory
BASE_MB = 360.0  # Python, the libraries, a piece of the rows in each form that it takes, pictures
_FRAME, _LOCAL, _EXTERNAL = 12.0, 4.5, 0.1  # bytes a value: as read, cast and binned; binned; in files
_ROW, _ROW_OF_CLASS = 28.0, 16.0  # bytes a row: label, weight, place in the tree; gradient and answer of each class
_NODE = 160.0  # bytes a node of a tree, kept twice while the best rounds are cut out
_MARGIN = 1.1
MULTICLASS = 10  # classes that are reckoned with: how many there are is known only from the labels
_MB = 1e6


@dataclass(frozen=True)
class Size:
    """What decides how much a fit takes: rows, features, boosting rounds, nodes of a tree, answers a row."""

    rows: int
    features: int
    rounds: int
    nodes: int
    outputs: int = 1

    @classmethod
    def of(cls, spec: ModelSpec, rows: int) -> Size:
        """Of a fit of so many rows by this spec, if it needs all its rounds."""
        depth = spec.training.params.get("max_depth", 6)  # XGBoost's default; 0 is without a limit
        depth = depth if isinstance(depth, int) and 0 < depth <= 16 else 16
        leaves = spec.training.params.get("max_leaves", 0)
        nodes = 2 * leaves if isinstance(leaves, int) and leaves else 2 ** (depth + 1)
        outputs = MULTICLASS if spec.task is Task.MULTICLASS else 1
        most = max(rows, 1) * 2  # a tree has no more nodes than rows can be told apart by
        return cls(rows, len(spec.features.columns), spec.training.rounds.max, min(nodes, most), outputs)

    @property
    def is_one_frame(self) -> bool:
        """Whether so few rows are gone through as one frame."""
        return self.rows * self.features <= FRAME_CELLS


@dataclass(frozen=True)
class Plan:
    """By which engine, whether of one frame, and what to tell of it."""

    engine: str
    in_one_frame: bool
    told: str


def estimate_mb(engine: str, size: Size) -> float:
    """MB (of 10^6 bytes) that the process of a fit holds at most: `local` or `external_memory`."""
    trees = size.rounds * size.nodes * size.outputs * _NODE
    rows = size.rows * (_ROW + _ROW_OF_CLASS * size.outputs)
    a_value = _EXTERNAL if engine == "external_memory" else _FRAME if size.is_one_frame else _LOCAL
    return BASE_MB + _MARGIN * (size.rows * size.features * a_value + rows + trees) / _MB


def plan_of(spec: ModelSpec, rows: int, limit_mb: float) -> Plan:
    """How to fit so many rows within the limit: in memory if they fit, else in files; or as the spec says.

    Raises TrainingRefused where not even files are enough, or not the engine that the spec asks for. A cluster has
    limits of its own.
    """
    size, asked = Size.of(spec, rows), spec.training.engine
    needs = {engine: estimate_mb(engine, size) for engine in ("local", "external_memory")}
    told = f"{rows:,} rows x {size.features} features x up to {size.rounds:,} rounds: about " + ", ".join(
        f"{mb:,.0f} MB by {engine}" for engine, mb in needs.items()
    )
    told += f"; allowed {limit_mb:,.0f} MB"
    if asked == "dask":
        return Plan(asked, False, f"{told}; training.engine says dask")
    fits = [engine for engine, mb in needs.items() if mb <= limit_mb and asked in ("auto", engine)]
    if not fits:
        raise _refused(spec, asked, told, needs)
    in_one_frame = fits[0] == "local" and size.is_one_frame
    return Plan(fits[0], in_one_frame, f"{told}: training.engine {asked} takes {fits[0]}")


def _refused(spec: ModelSpec, asked: str, told: str, needs: dict[str, float]) -> TrainingRefused:
    least = min(needs.values()) if asked == "auto" else needs[asked]
    engines = "" if asked == "auto" else "write training.engine: auto, "
    return TrainingRefused(
        f"{spec.name}: training.engine {asked}",
        found=told,
        allowed=f"what fits: at least {least:,.0f} MB here",
        do=f"Either {engines}shorten window.train, take fewer rounds or shallower trees, or allow more by "
        "EVERGREEN_TRAINING_MEMORY_MB, if the machine or container has it.",
    )
