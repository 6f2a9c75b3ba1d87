"""How often the gates against the champion pass, where the true difference between the models is known.

Binormal scores over two weeks: score = distance x label + level of the day + noise, and each model's distance is off
a little on each day, in part for both alike. For pairs of any two days auc = Phi(distance / sqrt(2 + 2 LEVEL^2 +
WHIM^2)), so that the true difference is known exactly. The champion's auc is 0.66. Each world is judged once, by
core.gates with the spec's own gates: not worse than -0.01, not worse than -0.005, better than 0, each certain to 95 %.
A cell where the true difference is the limit should read 5 %.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

from evergreen.core.gates import judge_quality
from evergreen.core.metrics import Task
from evergreen.core.scored import Scored
from evergreen.core.spec import ModelSpec

SIZES = (1_000, 2_000, 5_000, 10_000, 20_000)
TRUTHS = (-0.02, -0.01, -0.005, 0.0, 0.005, 0.02)  # true auc of the candidate minus that of the champion
LIMITS = (-0.01, -0.005, 0.0)
CONFIDENCE, AT_LIMIT_WITHIN = 0.95, 0.03
AUC, DAYS, PREVALENCE = 0.66, 14, 0.2
LEVEL, WHIM = 0.3, 0.05  # of a day: the shift of all scores; how far off a model's distance is
ALIKE, ALIKE_DAYS = 0.95, 0.5  # correlation of the models' noise, and of their days
START = np.datetime64("2013-01-01", "us")


def main() -> None:
    """Play all worlds, print the table, and fail where a cell at the limit is more than 3 points off."""
    options = _parser().parse_args()
    print(f"$ {shlex.join(['python', *sys.argv])}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"{options.worlds} worlds a cell, {DAYS} days, champion's auc {AUC}; share that passes, at 95 % confidence\n")
    began, off = time.process_time(), []
    print(_line("true difference", [f"{truth:+g}" if truth else "0" for truth in TRUTHS]))
    for rows in options.rows:
        rates = {truth: _rates(rows, truth, options.worlds, options.seed) for truth in TRUTHS}
        for limit in LIMITS:
            cells = [_cell(rates[truth][limit], at_limit=truth == limit) for truth in TRUTHS]
            print(_line(f"{rows:>6,} rows, {_gate(limit)}", cells), flush=True)
            if abs(rates[limit][limit] - (1 - CONFIDENCE)) > AT_LIMIT_WITHIN:
                off.append(f"{rows:,} rows, {_gate(limit)}: {rates[limit][limit]:.1%}")
        print()
    print("[ ]: the true difference is the limit; 5 % is right, 2 to 8 % is asked for.")
    print("Off: " + "; ".join(off) if off else "All of them are.")
    print(f"{time.process_time() - began:.0f} s of processor time")
    sys.exit(1 if off else 0)


def _rates(rows: int, truth: float, worlds: int, seed: int) -> dict[float, float]:
    """How often each gate passes."""
    random = np.random.default_rng([seed, rows, round((truth + 1) * 1e6)])
    passed = np.array([list(_judged(world(random, rows, truth))) for _ in range(worlds)])
    return dict(zip(LIMITS, passed.mean(axis=0).tolist(), strict=True))


def _judged(scored: Scored) -> Iterator[bool]:
    _, *against = judge_quality(SPEC, scored, has_champion=True)
    return (gate.passed for gate in against)


def world(random: np.random.Generator, rows: int, truth: float) -> Scored:
    """Rows of two weeks, with a candidate whose true auc is AUC + truth and a champion's of AUC."""
    day = np.sort(random.integers(0, DAYS, rows))
    label = (random.random(rows) < PREVALENCE).astype(np.float64)
    level = random.normal(scale=LEVEL, size=DAYS)[day]
    noise = _pair(random, rows, ALIKE)
    days = WHIM * _pair(random, DAYS, ALIKE_DAYS)
    spread = math.sqrt(2 + 2 * LEVEL**2 + WHIM**2)
    distances = [NormalDist().inv_cdf(auc) * spread for auc in (AUC + truth, AUC)]
    scores = [label * (distances[at] + days[at][day]) + level + noise[at] for at in range(2)]
    return Scored(Task.BINARY, label, *scores, START + day.astype("timedelta64[D]"))


def _pair(random: np.random.Generator, size: int, alike: float) -> np.ndarray:
    """Two rows of normal numbers with this correlation, each of variance 1."""
    shared, own = random.normal(size=size), random.normal(size=(2, size))
    return math.sqrt(alike) * shared + math.sqrt(1 - alike) * own


SPEC = ModelSpec.model_validate(
    {
        "name": "simulated",
        "owner": "benchmarks",
        "task": "binary_classification",
        "source": {"connection": "none", "table": "none", "event_time": "at", "key": "id"},
        "label": {"column": "y", "arrives_after": "0s"},
        "features": {"columns": ["x"]},
        "window": {"train": "90d", "holdout": {"length": "14d"}},
        "validation": {"suite": "none"},
        "gates": [
            {"metric": "accuracy", "min": 0},
            *({"metric": "auc", "against": "champion", "min_delta": limit} for limit in LIMITS),
        ],
    }
)


def _gate(limit: float) -> str:
    return f"min_delta {limit:g}"


def _cell(rate: float, *, at_limit: bool) -> str:
    return f"[{rate:.1%}]" if at_limit else f"{rate:.1%} "


def _line(name: str, cells: list[str]) -> str:
    return (f"{name:<30}" + "".join(f"{cell:>8}" for cell in cells)).rstrip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=500, help="simulated holdouts of each cell (%(default)s)")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="sizes of the holdout (1000 to 20000)")
    parser.add_argument("--seed", type=int, default=3, help="other worlds (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
