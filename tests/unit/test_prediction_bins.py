"""In which bins predictions are counted: a constant is told from what varies, a champion from itself never."""

from __future__ import annotations

import numpy as np
import pytest

from evergreen.core.guarding import Counted, judge
from evergreen.core.records import PREDICTION_BINS
from evergreen.serving.state import Rules
from evergreen.serving.trials.prediction_bins import PredictionBins, edges

RULES = Rules(min_requests=0, prediction_psi=0.3)
RNG = np.random.default_rng(5)


def counted(bins: PredictionBins, predictions: np.ndarray) -> tuple[int, ...]:
    cells = memoryview(bytearray(8 * (PREDICTION_BINS + 4))).cast("q")
    bins.count(predictions, cells, 2)
    assert not any(cells[:2]) and not any(cells[-2:])  # noqa: PT018
    return tuple(cells[2:-2])


def differs(golden: list[float], champion: np.ndarray, challenger: np.ndarray) -> bool:
    bins = PredictionBins(golden)
    arms = (Counted(1, 0, predictions=counted(bins, one.astype(np.float32))) for one in (challenger, champion))
    return judge(RULES, *arms) is not None


SPREADS = {
    "probabilities": RNG.beta(2, 5, 2000),
    "thousands": RNG.normal(5000, 900, 2000),
    "tiny": RNG.normal(3e-5, 1e-5, 2000),
    "two values": RNG.choice([0.2, 0.8], 2000),
    "mostly one value": np.where(RNG.random(2000) < 0.4, RNG.random(2000), 0.5),
    "of both signs": RNG.standard_cauchy(2000),
}


@pytest.mark.parametrize("kind", SPREADS)
@pytest.mark.parametrize("rows", [2, 5, 21, 400])
def test_a_constant_is_told_from_a_champion_that_varies_and_the_champion_is_not(kind: str, rows: int) -> None:
    values = SPREADS[kind]
    golden = [float(np.float32(value)) for value in values[:rows]]
    assert not differs(golden, values[:1000], values[1000:])
    if kind != "mostly one value":
        for constant in np.quantile(values, [0.05, 0.5, 0.95]):
            assert differs(golden, values, np.full(400, constant)), constant


@pytest.mark.parametrize("golden", [[0.5] * 21, [0.0] * 21, [4200.0], [-1e-4] * 3, []])
def test_golden_rows_of_one_answer_tell_a_spread_from_a_constant(golden: list[float]) -> None:
    centre = golden[0] if golden else 0.0
    wide = RNG.normal(centre, 0.2 * max(abs(centre), 1), 1000)
    assert differs(golden, wide, np.full(400, centre))
    assert differs(golden, wide, np.full(400, centre + 0.1 * max(abs(centre), 1)))
    assert not differs(golden, np.full(400, centre), np.full(400, centre))


def test_rounding_moves_no_frequent_value_into_another_bin() -> None:
    golden = [0.25] * 10 + [0.5] * 10 + [0.75]
    bins = PredictionBins(golden)
    exact = np.array([0.25, 0.5, 0.75] * 100, dtype=np.float32)
    assert counted(bins, exact) == counted(bins, exact + np.float32(1e-6)) == counted(bins, exact - np.float32(1e-6))


def test_one_row_and_many_are_counted_alike() -> None:
    values = RNG.random(200).astype(np.float32)
    bins = PredictionBins(values[:21].tolist())
    one_by_one = np.sum([counted(bins, values[at : at + 1]) for at in range(200)], axis=0)
    assert tuple(one_by_one) == counted(bins, values)


def test_edges_are_in_order_and_as_many_as_there_can_be() -> None:
    for values in SPREADS.values():
        found = edges(values[:21].tolist())
        assert len(found) == PREDICTION_BINS - 1
        assert found == sorted(set(found))
    assert edges([1.0, float(np.nextafter(1.0, 2.0))]) == [1.0]  # nothing lies between them


def test_classes_are_counted_each_and_rare_ones_together() -> None:
    bins = PredictionBins([[0.1, 0.9], [0.5, 0.5]])
    chances = np.eye(14, dtype=np.float32)[[0, 1, 1, 8, 9, 13]]
    assert counted(bins, chances) == (1, 2, 0, 0, 0, 0, 0, 0, 1, 2)
    assert counted(bins, chances[:1]) == (1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
