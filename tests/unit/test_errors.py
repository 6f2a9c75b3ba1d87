"""Errors keep their facts, say all four of them, and survive a process border."""

import pickle

import pytest

from evergreen.core import errors


def test_every_error_has_one_base() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert [c.__name__ for c in classes if not issubclass(c, errors.EvergreenError)] == ["RunEnds"]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception) and name != "FoundProblem":
            assert name in errors.__doc__


def test_a_found_problem_says_where_what_allowed_and_what_to_do() -> None:
    error = errors.SourceError("table 'flights', column 'late'", found="TEXT", allowed="a number", do="Cast it.")
    assert str(error) == "table 'flights', column 'late': found TEXT; allowed: a number. Cast it."


@pytest.mark.parametrize(
    "error",
    [
        errors.SourceUnavailable("source", found="no answer", allowed="a database", do="Try later."),
        errors.PromotionConflict("flight-delay", seen=2, found=3),
        errors.RunEnds("cooldown until 10:00", served=False),
    ],
)
def test_errors_cross_a_process_border_whole(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_only_what_may_pass_is_worth_a_retry() -> None:
    retried = {c.__name__ for c in vars(errors).values() if isinstance(c, type) and getattr(c, "retryable", False)}
    assert retried == {
        *("SourceUnavailable", "ValidationInterrupted", "ClusterFailed"),
        *("LeaseBusy", "LeaseLost", "SlotUnavailable", "EdgeUnavailable"),
    }
