"""`window.train: auto`: what is tried, what is chosen, and with real boosters which window wins on which past."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from evergreen.core.metrics import Metric
from evergreen.core.rows import Rows
from evergreen.core.spec import ModelSpec
from evergreen.core.window import as_asked, window
from evergreen.core.window_choice import (
    KEPT_AS,
    Choice,
    Option,
    Tried,
    as_text,
    choose,
    folds,
    of_candidate,
    options,
    reads,
    told,
)
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.trainer import FakeTrainer
from evergreen.steps import choose_window as choose_window_module
from evergreen.steps.choose_window import choose_window, within
from evergreen.wiring import trainer as real_trainer
from records import make_candidate, make_request_args
from training_data import make_spec

DAY = timedelta(days=1)
END = datetime(2014, 3, 1, tzinfo=UTC)
AUC, MAE = Metric("auc"), Metric("mae")


def spec_of(tried: tuple[str, ...] = ("10d", "60d"), season: str | None = None, **changes: Any) -> ModelSpec:
    holdout = {"length": "5d", "min_rows": 50}
    window = {"train": "auto", "tried": list(tried), "season": season, "holdout": holdout}
    gates = [{"metric": "mae", "max": 5}]
    label = {"column": "y", "arrives_after": "1d"}
    return make_spec(
        **{
            "task": "regression", "window": window, "gates": gates, "label": label,
            "features": {"columns": ["x"]}, "training": {"params": {"max_depth": 3}}, **changes,
        }
    )  # fmt: skip


def rows_of(slope: Any, days: int = 120, a_day: int = 48, noise: float = 0.3, seed: int = 0) -> pl.DataFrame:
    """Ending at END: `y` is x times what `slope` says of how many days before END a row is (a number, or an array)."""
    random, count = np.random.default_rng(seed), days * a_day
    ago = (count - 1 - np.arange(count)) / a_day
    x = random.normal(size=count)
    return pl.DataFrame(
        {
            "id": [f"r{at}" for at in range(count)],
            "at": [END - timedelta(days=float(one)) for one in ago],
            "x": x,
            "y": x * slope(ago) + random.normal(scale=noise, size=count),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def chosen(spec: ModelSpec, rows: pl.DataFrame) -> Choice:
    """With real boosters."""
    return choose_window(spec, real_trainer(pictures=False), Rows.of(rows), END)


def chosen_by_lines(spec: ModelSpec, rows: pl.DataFrame) -> Choice:
    """With straight lines through x."""
    return choose_window(spec, FakeTrainer(), Rows.of(rows), END)


# ---------------------------------------------------------------- with real boosters


def test_recent_rows_win_after_a_shift() -> None:
    choice = chosen(spec_of(), rows_of(lambda ago: np.where(ago < 45, 1.0, -1.0)))
    assert choice.chosen == "10d"
    assert choice.spans == ((END - 10 * DAY, END),)
    recent, longer = choice.tried
    assert recent.mean < longer.mean
    assert "the best on 4 stretches of the past" in choice.why


def test_of_too_many_rows_some_are_tried_and_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(lambda ago: np.where(ago < 45, 1.0, -1.0))
    whole = chosen(spec_of(), rows)
    monkeypatch.setattr(choose_window_module, "FRAME_CELLS", rows.height // 2 * len(spec_of().columns))
    some = chosen(spec_of(), rows)
    assert (some.chosen, some.spans) == (whole.chosen, whole.spans)
    assert [one.rows for one in some.tried] == pytest.approx([one.rows for one in whole.tried], rel=0.15)
    assert [one.scores for one in some.tried] != [one.scores for one in whole.tried]


def test_a_longer_window_wins_where_nothing_changes_and_few_rows_are_not_enough() -> None:
    wiggly = rows_of(lambda ago: 1.0, a_day=12, noise=0.1)
    many = wiggly.with_columns(y=(pl.col("x") * 3).sin() + pl.col("y") * 0.3)
    choice = chosen(spec_of(("6d", "60d")), many)
    assert choice.chosen == "60d"
    assert choice.tried[0].rows < choice.tried[1].rows


def test_the_season_wins_where_it_comes_again() -> None:
    """The slope turns within some days, as it did a season ago: what followed then is what follows now."""
    yearly = rows_of(lambda ago: np.sin(2 * math.pi * ago / 60), days=160)
    choice = chosen(spec_of(("10d", "40d"), season="60d"), yearly)
    assert choice.chosen == "10d+season"
    assert choice.spans == ((END - 60 * DAY, END - 50 * DAY), (END - 10 * DAY, END))


def test_where_all_are_as_good_the_one_with_the_fewest_rows_is_taken() -> None:
    choice = chosen_by_lines(spec_of(("30d", "60d")), rows_of(lambda ago: 1.0, a_day=96, noise=1.0, seed=1))
    assert choice.chosen == "30d"


# ---------------------------------------------------------------- what is tried, on which rows


class Recording(FakeTrainer):
    """Keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[pl.DataFrame, pl.DataFrame]] = []

    def try_out(self, spec: ModelSpec, frame: pl.DataFrame, ahead: pl.DataFrame) -> np.ndarray:
        self.shown.append((frame, ahead))
        return super().try_out(spec, frame, ahead)


def test_no_row_is_fitted_on_whose_label_was_not_there_and_none_of_the_holdout_is_seen() -> None:
    spec, seen = spec_of(season="60d"), Recording()
    later = rows_of(lambda ago: 1.0).with_columns(at=pl.col("at") + timedelta(days=10))  # 10 days after END too
    choose_window(spec, seen, Rows.of(later), END)
    assert len(seen.shown) == 3 * 4
    for fitted, ahead in seen.shown:
        assert ahead["at"].min() - fitted["at"].max() > spec.label.arrives_after  # type: ignore[operator]
        assert ahead["at"].max() <= END  # type: ignore[operator]
        assert (ahead["at"].max() - ahead["at"].min()) <= spec.window.holdout.length  # type: ignore[operator]


def test_the_stretches_are_as_long_as_the_holdout_and_end_where_training_does() -> None:
    found = folds(spec_of(), END)
    assert [(END - one.until) / DAY for one in found] == [15, 10, 5, 0]
    assert all((one.until - one.after, one.after - one.cut) == (5 * DAY, DAY) for one in found)


def test_pull_reads_what_any_window_holds_at_any_cut_and_nothing_between() -> None:
    spec = spec_of(("10d", "60d"), season="365d")
    bounds = window(spec, END)
    season, main = reads(spec, bounds)
    oldest = min(fold.cut for fold in folds(spec, bounds.train_end))
    assert main == (oldest - 60 * DAY, END)
    assert season == (oldest - 365 * DAY, bounds.train_end - 355 * DAY)


def test_a_given_length_reads_one_stretch() -> None:
    fixed = make_spec()
    bounds = window(fixed, END)
    assert reads(fixed, bounds) == [(bounds.start, END)]
    request = in_memory_ledger().requests.open(**make_request_args(detail={"window_train": "20d"}))
    asked = as_asked(spec_of(), request)
    assert (asked.window.train, options(asked)) == (20 * DAY, [Option(20 * DAY)])
    assert as_asked(fixed, request) is fixed  # its train key stays what it was


def test_a_season_shorter_than_twice_the_length_is_one_stretch() -> None:
    assert Option(10 * DAY, 15 * DAY).spans(END) == [(END - 15 * DAY, END)]


def test_a_window_with_too_few_rows_is_never_chosen() -> None:
    turned = rows_of(lambda ago: np.where(ago < 27, 1.0, -1.0), a_day=11)
    choice = chosen_by_lines(spec_of(("4d", "10d", "60d")), turned)  # the shortest would be the best
    assert choice.chosen == "10d"
    assert choice.tried[0].left_out == "45 rows, fewer than window.holdout.min_rows (50)"


def test_a_window_for_which_the_source_has_no_more_rows_is_not_tried() -> None:
    choice = chosen_by_lines(spec_of(("10d", "60d", "90d"), season="365d"), rows_of(lambda ago: 1.0, days=68))
    left = {one.name: one.left_out for one in choice.tried if one.left_out}
    assert left == {
        "90d": "the source has next to no more rows for it than for 60d",
        "10d+season": "the source has next to no more rows for it than for 10d",
    }


def test_too_little_data_takes_all_there_is_and_says_so() -> None:
    trainer = FakeTrainer()
    choice = choose_window(spec_of(), trainer, Rows.of(rows_of(lambda ago: 1.0, days=12)), END)
    assert (choice.chosen, trainer.tries) == ("60d", 0)
    assert told(choice) == (
        "window 60d was chosen: too little data to try windows on (fewer than 2 of 4 stretches of the past have "
        "enough rows): the one with the most rows is taken"
    )


def test_rows_that_cannot_be_learned_from_leave_their_window_out() -> None:
    spec = spec_of(
        ("10d", "60d"), task="binary_classification", gates=[{"metric": "auc", "min": 0.5}]
    )  # only one class of late, but for a few rows to score on
    rows = rows_of(lambda ago: 1.0).with_columns(
        y=pl.when(pl.col("at") > END - 40 * DAY).then(0).otherwise((pl.col("y") > 0).cast(int))
    )
    choice = chosen_by_lines(spec, rows)
    assert choice.chosen == "60d"
    assert "one class only" in choice.tried[0].left_out


def test_much_data_is_drawn_from_by_the_same_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergreen.steps.choose_window.MOST_ROWS", 600)
    seen = Recording()
    choose_window(spec_of(), seen, Rows.of(rows_of(lambda ago: 1.0)), END)
    assert sorted({fitted.height for fitted, _ in seen.shown}) == [100, 600]


def test_the_same_rows_give_the_same_choice() -> None:
    rows = rows_of(lambda ago: np.where(ago < 45, 1.0, 0.5))
    assert chosen_by_lines(spec_of(), rows) == chosen_by_lines(spec_of(), rows)


def test_the_rows_of_a_choice_are_those_of_its_stretches() -> None:
    spec = spec_of(season="60d")
    rows = rows_of(lambda ago: 1.0)
    kept = within(spec, rows, Option(10 * DAY, 60 * DAY).spans(END))
    assert kept["at"].is_sorted()
    assert kept.height == 2 * (10 * 48 + 1)  # both ends of each are in it


# ---------------------------------------------------------------- the decision


def tried(*scores: tuple[str, int, tuple[float, ...]]) -> list[Tried]:
    return [Tried(name, rows, found) for name, rows, found in scores]


def test_the_best_is_taken_where_it_is_better_beyond_noise() -> None:
    found = choose(MAE, tried(("30d", 1, (3.0, 3.1, 2.9)), ("90d", 3, (1.0, 1.2, 1.1))))
    assert found.chosen == "90d"


def test_within_one_standard_error_the_smaller_is_taken() -> None:
    found = choose(AUC, tried(("30d", 1, (0.70, 0.74, 0.66)), ("90d", 3, (0.76, 0.70, 0.67))))
    assert found.chosen == "30d"
    assert found.why.startswith("the smallest of those that are as good as the best (90d), within one standard error")


def test_a_metric_that_is_best_at_zero_counts_by_its_distance() -> None:
    found = choose(Metric("bias"), tried(("30d", 1, (-3.0, 3.0)), ("90d", 3, (0.1, -0.1))))
    assert found.chosen == "90d"


def test_stretches_without_any_score_are_left_out_and_a_window_that_misses_one() -> None:
    nan = math.nan
    found = choose(AUC, tried(("30d", 1, (0.5, nan, 0.5)), ("90d", 3, (0.9, nan, 0.9)), ("180d", 6, (0.9, nan, nan))))
    assert (found.chosen, [len(one.scores) for one in found.tried]) == ("90d", [2, 2, 0])
    assert "lacks a class" in found.tried[2].left_out


def test_a_single_rival_wins_and_says_why() -> None:
    found = choose(AUC, [Tried("30d", 9, left_out="few"), Tried("90d", 20, (0.5, 0.6))])
    assert (found.chosen, found.why) == (
        "90d",
        "no other window could be compared with it: the one with the most rows is taken",
    )


def test_a_choice_is_kept_with_the_candidate() -> None:
    made = choose(AUC, tried(("30d", 1, (0.70, 0.72)), ("90d", 3, (0.60, 0.61))))
    made = replace(made, spans=((END - 30 * DAY, END),))
    assert of_candidate(make_candidate(made_with={KEPT_AS: as_text(made)})) == made
    assert of_candidate(make_candidate()) is None
    assert told(made) == ("window 30d was chosen: the best on 2 stretches of the past (auc 30d 0.71, 90d 0.605)")
