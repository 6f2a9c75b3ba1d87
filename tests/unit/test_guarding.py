"""What takes a version off trial, in numbers."""

from __future__ import annotations

import random
from math import inf

import pytest

from evergreen.core.guarding import HARD_FAULTS, Counted, judge, psi, psi_by_chance, quantile, total
from evergreen.core.records import LATENCY_BOUNDS, TripKind
from evergreen.serving.state import Rules

RULES = Rules(min_requests=200, error_rate=0.01, latency_p99_ms=50, prediction_psi=0.3)
EVEN = (100,) * 10


def latency(**by_bound: int) -> tuple[int, ...]:
    """Counts by upper bound in ms: `latency(b50=198, b75=2)`; `over` is above all."""
    bounds = [f"b{bound:g}" for bound in LATENCY_BOUNDS] + ["over"]
    return tuple(by_bound.get(bound, 0) for bound in bounds)


def counted(requests: int = 1000, faults: int = 0, slow: int = 0, predictions: tuple[int, ...] = EVEN) -> Counted:
    return Counted(requests, faults, latency(b5=requests - slow, b200=slow), predictions)


def kind(challenger: Counted, champion: Counted | None = None, rules: Rules = RULES) -> TripKind | None:
    found = judge(rules, challenger, champion or counted())
    return found.kind if found else None


def test_what_does_as_the_champion_stays() -> None:
    assert kind(counted()) is None


def test_hard_faults_count_from_the_first_request_and_without_rules() -> None:
    none = Rules(min_requests=10_000)
    assert kind(counted(HARD_FAULTS, HARD_FAULTS), Counted(), none) is TripKind.FAULTS
    assert kind(counted(5000, HARD_FAULTS), Counted(), none) is TripKind.FAULTS
    assert kind(counted(HARD_FAULTS - 1, HARD_FAULTS - 1), Counted(), none) is None


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ({"faults": 3}, TripKind.ERROR_RATE),
        ({"slow": 100}, TripKind.LATENCY),
        ({"predictions": (0, 0, 0, 200, 0, 0, 0, 0, 0, 0)}, TripKind.PREDICTIONS),
    ],
)
def test_the_other_rules_wait_for_min_requests_and_are_not_looked_at_where_there_are_none(
    bad: dict[str, object], expected: TripKind
) -> None:
    few, enough = counted(199, **bad), counted(200, **bad)  # type: ignore[arg-type]
    assert kind(few) is None
    assert kind(enough) is expected
    assert kind(enough, rules=Rules(min_requests=200)) is None


def test_an_error_rate_on_the_limit_stays() -> None:
    assert kind(counted(400, 4)) is None
    assert kind(counted(399, 4)) is TripKind.ERROR_RATE


def test_a_few_slow_requests_are_chance_and_many_are_not() -> None:
    assert kind(counted(200, slow=6)) is None  # 3 % of 200: of a version with 1 % once in 60
    assert kind(counted(200, slow=7)) is TripKind.LATENCY
    assert kind(counted(20_000, slow=240)) is None
    assert kind(counted(20_000, slow=260)) is TripKind.LATENCY


def test_a_version_that_keeps_its_limits_is_not_taken_off_by_looking_often() -> None:
    """Of 100 that are as the champion, with 0.7 % of requests over the limit, looked at after every 10th request."""
    dice = random.Random(7)
    off = 0
    for _ in range(100):
        slow, own, other = 0, [0] * 10, [0] * 10
        for requests in range(1, 1001):
            slow += dice.random() < 0.007
            own[dice.randrange(10)] += 1
            other[dice.randrange(10)] += 1
            if requests >= 200 and requests % 10 == 0:
                arms = counted(requests, slow=slow, predictions=tuple(own)), counted(predictions=tuple(other))
                if kind(*arms):
                    off += 1
                    break
    assert off <= 3


def test_the_reason_says_what_was_found_and_what_is_allowed() -> None:
    def reason(challenger: Counted) -> str:
        found = judge(RULES, challenger, counted())
        assert found
        return found.reason

    assert reason(counted(7, 5)) == "5 of its 7 requests failed"
    assert reason(counted(200, 3)) == "3 of its 200 requests failed, more than 1.00%"
    text = "the 99th percentile of its latency is 200 ms in 200 requests, more than 50 ms"
    assert reason(counted(200, slow=200)) == text
    constant = reason(counted(200, predictions=(0, 0, 0, 200, 0, 0, 0, 0, 0, 0)))
    assert constant.startswith("its predictions are ")
    assert constant.endswith("; the limit is 0.3")


def test_quantiles_are_read_off_the_histogram() -> None:
    assert quantile(latency(), 0.99) == 0
    assert quantile(latency(b50=99, b75=1), 0.99) == 50
    assert quantile(latency(b75=100), 0.5) == pytest.approx(62.5)
    assert quantile(latency(b5=98, over=2), 0.99) == inf
    assert quantile(latency(**{"b0.5": 10}), 0.5) == pytest.approx(0.25)


def test_a_limit_between_two_bounds_is_judged_too() -> None:
    rules = Rules(min_requests=200, latency_p99_ms=60)
    slow = Counted(1000, 0, latency(b75=1000), EVEN)
    assert kind(slow, rules=rules) is TripKind.LATENCY
    assert kind(Counted(1000, 0, latency(b50=1000), EVEN), rules=rules) is None
    beyond = Rules(min_requests=200, latency_p99_ms=5000)
    assert kind(Counted(1000, 0, latency(over=1000), EVEN), rules=beyond) is None  # it cannot be told


def test_predictions_need_enough_rows_of_both() -> None:
    constant = (0, 0, 0, 0, 1, 0, 0, 0, 0, 0)
    few = tuple(3 * count for count in constant)
    assert kind(counted(200, predictions=few)) is None
    assert kind(counted(200, predictions=tuple(200 * c for c in constant)), counted(predictions=(0,) * 10)) is None
    assert kind(counted(200, predictions=tuple(200 * c for c in constant)), counted(3, predictions=few)) is None
    assert kind(counted(200, predictions=tuple(200 * c for c in constant))) is TripKind.PREDICTIONS


def test_psi_is_that_of_the_books() -> None:
    before, after = (10_000, 20_000, 70_000), (20_000, 20_000, 60_000)  # 0.1 ln 2 + 0.1 ln (7/6)
    assert psi(before, after) == pytest.approx(0.0847, abs=1e-4)
    assert psi(EVEN, EVEN) == 0
    assert psi(EVEN, (0,) * 9 + (1000,)) > 3


def test_two_samples_of_one_population_are_beyond_chance_as_seldom_as_it_says() -> None:
    dice = random.Random(11)

    def sample(rows: int) -> list[int]:
        found = [0] * 10
        for _ in range(rows):
            found[dice.randrange(10)] += 1
        return found

    beyond = sum(psi(a, b) > psi_by_chance(a, b) for a, b in ((sample(300), sample(600)) for _ in range(1000)))
    assert beyond <= 5  # 1 expected
    assert psi_by_chance(EVEN, EVEN) == pytest.approx(2 / 1000 * 27.88, rel=0.01)  # chi-square, 9 degrees, 0.999


def test_sums_are_of_each_cell() -> None:
    assert total([]) == Counted()
    one = counted(10, 1, 2)
    both = total([one, one])
    assert (both.requests, both.faults) == (20, 2)
    assert sum(both.latency) == 20
    assert both.predictions == (200,) * 10
