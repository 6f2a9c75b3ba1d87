"""The report on a model: what is gathered, what is never shown, and a page that needs nothing and escapes all."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest

from evergreen.core import evidence
from evergreen.core import logged_parts as parts
from evergreen.core.metrics import Task
from evergreen.core.monitoring.bins import category_bins, number_bins
from evergreen.core.records import Alert, MetricPoint, RuleState, Severity
from evergreen.core.reported import ARTIFACT, FILE, Reported
from evergreen.core.reported_errors import Errors
from evergreen.core.reported_examples import JOINED, MOST
from evergreen.core.reported_history import MOST_PERIODS, of_charts, series
from evergreen.core.reported_shifts import group_labels
from evergreen.fakes.registry import FakeRegistry
from evergreen.steps.forget import forget
from evergreen.steps.gather_report import Sources, gather_report
from evergreen.steps.keep_report import keep_report
from evergreen.steps.layouts import Layouts
from evergreen.ui.plots import At, Line, Mark, over_time
from evergreen.ui.report_page import page
from evergreen.ui.svg import round_numbers
from ledgers import release
from records import make_snapshot
from watched import CARRIERS, NOON, World, reference_of, usual_distances, watched_spec

EVIL = '<script>alert("x")</script>'
NOW = NOON + timedelta(hours=8)
WEEK = timedelta(days=7)
GATES = {
    Task.BINARY: [{"metric": "auc", "min": 0.6}],
    Task.MULTICLASS: [{"metric": "accuracy", "min": 0.4}],
    Task.REGRESSION: [{"metric": "mae", "max": 5}],
}


class Reporting(World):
    """A world whose version 1 is champion, and reports on it."""

    def __init__(self, task: Task = Task.BINARY, *, bare: bool = False, live: bool = True, **spec: Any) -> None:
        watched = {"monitoring": {"slices": ["carrier"]}, "gates": GATES[task], **spec}
        super().__init__(watched_spec(task=str(task), **watched), bare=[1] if bare else [])
        self.read: list[tuple[int, int]] = []
        self.ledger.models.add_snapshot(make_snapshot(quarantined=7))
        if live:
            release(self.ledger, self.ledger.models.candidate("m", 1), now=NOON - WEEK)

    def report(self, window: timedelta = WEEK) -> Reported:
        self.read.clear()
        sources = Sources(self.ledger, self.store, self.log, Layouts(self.ledger, self.store))
        since = NOW - timedelta(days=400)
        return gather_report(
            sources, self.spec, since=since, window=window, now=NOW, progress=lambda *at: self.read.append(at)
        )

    def labelled(self, said: Any, true: Any, **changes: Any) -> list[str]:
        ids = self.answers(said, **changes)
        self.truths(dict(zip(ids, true, strict=True)))
        return ids


class Whole(HTMLParser):
    """Fails on a tag that is not closed and on what would need a network or a script; collects the text."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe"), tag
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert name not in ("href", "src") or (value or "").startswith("#"), (tag, value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# ---------------------------------------------------------------- what is gathered


def test_a_slice_in_which_the_model_is_off_comes_first_and_one_where_it_is_right_does_not_come() -> None:
    world = Reporting()
    for carrier, rate in (("AA", 0.2), ("DL", 0.2), ("UA", 0.6)):
        true = (np.arange(200) % 10 < rate * 10).astype(float)
        world.labelled([0.2] * 200, true, carrier=carrier, distance=usual_distances(200))
    found = world.report()
    worst = found.slices[0]
    assert (worst.feature, worst.value, worst.rows) == ("carrier", "UA", 200)
    assert (worst.said, worst.true) == (pytest.approx(0.2), pytest.approx(0.6))
    assert worst.loss == pytest.approx(0.4 * 0.04 + 0.6 * 0.64)
    assert not {one.value for one in found.slices if one.feature == "carrier"} & {"AA", "DL"}
    assert found.slices_looked_at >= 3 + 10
    assert [one.slice for one in found.monitored] == ["carrier=AA", "carrier=DL", "carrier=UA"]
    assert all(one.quality and one.quality.rows == 200 for one in found.monitored)


def test_chances_near_a_half_that_come_true_are_no_worse_slice_though_their_loss_is_larger() -> None:
    world = Reporting()
    for carrier, chance in (("AA", 0.1), ("UA", 0.5)):
        true = (np.arange(200) % 10 < chance * 10).astype(float)
        world.labelled([chance] * 200, true, carrier=carrier)
    assert world.report().slices == []


def test_of_a_regression_the_slice_with_the_larger_errors_comes_first() -> None:
    world = Reporting(Task.REGRESSION)
    for carrier, error in (("AA", 1.0), ("UA", 9.0)):
        world.labelled([10.0] * 100, [10.0 - error + at % 2 for at in range(100)], carrier=carrier)
    found = world.report()
    assert [(one.feature, one.value) for one in found.slices] == [("carrier", "UA")]
    assert found.slices[0].loss == pytest.approx(8.5)
    assert found.errors is not None
    assert found.errors.residuals.sum() == 200


def test_values_that_training_never_saw_and_missing_ones_are_slices_too() -> None:
    world = Reporting()
    world.labelled([0.5] * 100, [0.0, 1.0] * 50)
    world.labelled([0.1] * 50, [1.0] * 50, unseen="ZZ")
    world.labelled([0.1] * 40, [1.0] * 40, carrier=None)
    found = {(one.feature, one.value): one.rows for one in world.report().slices}
    assert found["carrier", "not seen in training"] == 50
    assert found["carrier", "missing"] == 40


def test_the_label_that_was_told_last_counts_and_labels_that_are_none_do_not() -> None:
    world = Reporting()
    ids = world.labelled([0.9, 0.9, 0.9, 0.9], [0.0, 1.0, 1.0, 1.0])
    world.truths({ids[0]: 1.0, ids[1]: 0.0}, told=NOON + timedelta(hours=7))
    world.truths({ids[1]: 1.0}, told=NOON + timedelta(hours=1))  # told earlier, came later
    world.truths({ids[2]: 0.5, ids[3]: "late"}, told=NOON + timedelta(hours=7))
    found = world.report()
    assert found.errors is not None
    assert found.errors.confusion.tolist() == [[0, 1], [0, 1]]
    assert [one.inference_id for one in found.examples] == [ids[1], ids[0]]


def test_only_the_champions_own_answers_of_the_window_are_looked_at() -> None:
    world = Reporting()
    world.add_version(world.ledger, 2, "")
    ours = world.labelled([0.3], [1.0])
    world.labelled([0.1], [1.0], at=NOON - 2 * WEEK)
    world.labelled([0.1], [1.0], version=2)
    world.labelled([0.1], [1.0], arm="shadow")
    found = world.report()
    assert [one.inference_id for one in found.examples] == ours
    assert (found.span.answers, found.span.labelled) == (1, 1)


def test_the_report_reads_each_part_once_says_how_far_it_is_and_writes_nothing() -> None:
    world = Reporting()
    for hour in range(3):
        world.labelled([0.5] * 5, [1.0] * 5, at=NOON + timedelta(hours=hour))
    before = world.store.keys("")
    world.report()
    assert world.read == [(1, 3), (2, 3), (3, 3)]
    assert world.store.keys("") == before


def test_drift_is_shown_beside_training_the_feature_that_moved_most_first() -> None:
    world = Reporting()
    world.answers([0.5] * 300, distance=3000.0, carrier="DL")
    world.answers([0.5] * 300, distance=3000.0, carrier="AA")
    world.answers([0.5] * 300, distance=3000.0, carrier="UA")
    first, second = world.report().shifts
    assert (first.feature, second.feature) == ("distance", "carrier")
    assert first.psi is not None
    assert first.psi > 1
    assert first.beyond == 1.0
    assert sum(one.before for one in first.groups) == pytest.approx(1)
    assert {one.label: round(one.after, 2) for one in first.groups if one.after} == {first.groups[-1].label: 1.0}
    assert {one.label: round(one.after, 3) for one in second.groups} == dict.fromkeys(CARRIERS, 0.333)


def test_what_is_not_logged_is_in_no_section() -> None:
    features = {"columns": ["distance", "carrier"], "categorical": ["carrier"], "not_logged": ["carrier"]}
    world = Reporting(features=features, monitoring={})
    world.labelled([0.1] * 100, [1.0] * 100, carrier="UA")  # logged before the spec said so
    found = world.report()
    assert [one.feature for one in found.shifts] == ["distance"]
    assert {one.feature for one in found.slices} <= {"distance"}
    assert all(set(one.features) == {"distance"} for one in found.examples)
    assert "UA" not in Whole(page(found)).text


def test_history_has_alerts_data_of_versions_and_one_point_a_period() -> None:
    world = Reporting()
    start = NOON - timedelta(hours=12)

    def point(version: int, rows: int, name: str = "volume.rows") -> MetricPoint:
        return MetricPoint("m", version, name, "", start, start + timedelta(days=1), rows, rows, NOW)

    world.ledger.points.put([point(1, 900), point(2, 100), point(1, 3, "drift.psi.distance")])
    alert = Alert("a", "m", "r", "drift.psi.max", "", Severity.WARNING, 1, 0.3, 0.2, "above", "1d", 9, NOW, 0.4)
    world.ledger.alerts.open(alert, RuleState("m", "r", alert_id="a"))
    found = world.report()
    assert [(one.version, one.value) for one in found.series["volume.rows"]] == [(1, 900)]
    assert list(found.series) == ["volume.rows"]
    assert [one.id for one in found.open_alerts] == ["a"]
    assert [(one.version, one.aside) for one in found.quarantined] == [(1, 7)]
    text = Whole(page(found)).text
    assert "drift.psi.max" in text
    assert "above 0.2" in text


def test_of_short_windows_the_newest_periods_are_shown_and_it_says_so() -> None:
    world = Reporting(monitoring={"window": "1h", "every": "5m"})
    for hours in range(500):
        start = NOW - timedelta(hours=hours + 1)
        point = MetricPoint("m", 1, "volume.rows", "", start, start + timedelta(hours=1), 5.0, 5, NOW)
        world.ledger.points.put([point])
    found = world.report()
    assert len(found.series["volume.rows"]) == MOST_PERIODS
    assert any(f"the newest {MOST_PERIODS} periods" in note for note in found.notes)


# ---------------------------------------------------------------- what is not there


def test_without_labels_answers_a_reference_or_a_champion_the_page_says_so() -> None:
    told = {}
    world = Reporting()
    told["no answers"] = world.report()
    world.answers([0.5] * 20)
    told["no labels"] = world.report()
    bare = Reporting(Task.REGRESSION, bare=True)
    bare.labelled([5.0] * 40, [float(at % 7) for at in range(40)])
    told["bare"] = bare.report()
    told["no champion"] = Reporting(live=False).report()
    texts = {name: Whole(page(found)).text for name, found in told.items()}
    assert "has given no answer in this window" in texts["no answers"]
    assert "No label of these answers has come" in texts["no labels"]
    assert "Without labels nothing is known of errors" in texts["no labels"]
    assert "trained before there were references" in texts["bare"]
    assert told["bare"].errors is not None
    assert told["bare"].errors.residuals.sum() == 40
    assert len(told["bare"].examples) == MOST
    assert "No version was released yet" in texts["no champion"]


# ---------------------------------------------------------------- the pure part


def frame_of(rows: int, true: list[float], said: list[float], **features: Any) -> pl.DataFrame:
    ids = [f"id-{at:06d}" for at in range(rows)]
    own = {parts.ID: ids, parts.AT: [NOON] * rows, parts.PREDICTION: said, parts.UNSEEN: [None] * rows, JOINED: true}
    return pl.DataFrame({**own, **features})


def test_examples_of_many_parts_are_those_of_one() -> None:
    rng = np.random.default_rng(3)
    label, said = rng.integers(0, 2, 900).astype(float).tolist(), rng.random(900).tolist()
    whole = frame_of(900, label, said, distance=rng.normal(1000, 200, 900), carrier=["AA"] * 900)
    at_once, by_part = (Errors(Task.BINARY, reference_of()) for _ in range(2))
    at_once.add(whole)
    for begin in range(0, 900, 70):
        by_part.add(whole[begin : begin + 70])
    assert by_part.examples.worst_first == at_once.examples.worst_first
    worst = np.argsort(-abs(np.array(label) - said), kind="stable")[:MOST]
    assert [one.inference_id for one in by_part.examples.worst_first] == [f"id-{at:06d}" for at in worst]
    assert by_part.chances == pytest.approx(at_once.chances)
    assert by_part.confusion.tolist() == at_once.confusion.tolist()
    assert by_part.slices.mean_loss == pytest.approx(at_once.slices.mean_loss)


def test_a_feature_that_is_called_label_keeps_its_values() -> None:
    errors = Errors(Task.BINARY, reference_of())
    errors.add(frame_of(1, [1.0], [0.2], distance=[5.0], carrier=["AA"], label=["fragile"]))
    assert errors.examples.worst_first[0].features == {"distance": 5.0, "carrier": "AA", "label": "fragile"}
    assert errors.examples.worst_first[0].label == 1.0


def test_groups_have_names_that_say_where_they_lie() -> None:
    numbers = number_bins("x", np.array([*range(100), np.nan], np.float32))
    labels = group_labels(numbers)
    assert labels[0].startswith("≤ ")
    assert labels[-2].startswith("> ")
    assert labels[-1] == "missing"
    assert len(labels) == numbers.groups.max() + 1
    few = category_bins("c", ("A", "B", "rare"), np.array([0] * 600 + [1] * 600 + [2] + [4] * 5))
    assert group_labels(few) == ["A", "B", "all others", "missing"]
    assert group_labels(number_bins("n", np.array([np.nan], np.float32))) == ["known", "missing"]


def test_of_a_period_the_version_that_answered_most_is_shown_and_slices_are_not() -> None:
    def point(version: int, rows: int, day: int, slice: str = "") -> MetricPoint:
        start = NOON + timedelta(days=day)
        return MetricPoint("m", version, "drift.psi.max", slice, start, start + WEEK, version / 10, rows, NOW)

    points = [point(2, 900, 1), point(1, 100, 1), point(1, 800, 0), point(3, 9999, 0, "carrier=AA")]
    found = series(points, of_charts("auc"))
    assert [(one.version, one.start.day) for one in found["drift.psi.max"]] == [(1, 2), (2, 3)]


# ---------------------------------------------------------------- the page


@pytest.mark.parametrize("task", list(Task))
def test_the_page_needs_no_network_and_no_script_and_has_every_section(task: Task) -> None:
    world = Reporting(task)
    rng = np.random.default_rng(4)
    said: Any = rng.random(120) if task is not Task.MULTICLASS else rng.dirichlet((1, 1, 1), 120)
    true = rng.integers(0, 2, 120).astype(float)
    world.labelled(said.tolist(), true.tolist(), distance=usual_distances(120))
    whole = Whole(page(world.report()))
    for title in ("Open alerts", "Metrics by period", "Features that moved", "Worst slices", "Examples most wrong"):
        assert title in whole.text
    assert ("Residuals" if task is Task.REGRESSION else "true class 1") in whole.text


def test_names_and_values_of_others_are_escaped() -> None:
    world = Reporting()
    ids = world.labelled([0.1] * 40, [1.0] * 40)
    world.labelled([0.1] * 40, [0.0] * 40, carrier="UA")
    found = world.report()
    shift = replace(found.shifts[0], feature=EVIL, groups=(replace(found.shifts[0].groups[0], label=EVIL),))
    example = replace(found.examples[0], features={EVIL: EVIL})
    worst = [replace(one, feature=EVIL, value=EVIL) for one in found.slices]
    alert = Alert("a", "m", "r", EVIL, f"x={EVIL}", Severity.INFO, 1, 1, 1, "above", "1d", 9, NOW, 1)
    evil = replace(
        found, model=EVIL, owner=EVIL, shifts=[shift], examples=[example], slices=worst, alerts=[alert], notes=[EVIL]
    )
    html = page(evil)
    assert "<script" not in html
    assert found.slices
    assert Whole(html).text.count(EVIL) >= 10
    assert ids[0] in Whole(page(found)).text


def test_a_chart_has_its_intervals_releases_and_round_numbers() -> None:
    points = [At(NOON + timedelta(days=day), 0.6 + day / 100, 0.5, 0.8) for day in range(5)]
    svg = str(over_time("quality", [Line(EVIL, points)], [Mark(NOON + timedelta(days=2), "v7")]))
    assert "<polygon" in svg
    assert ">v7<" in svg
    assert "<script" not in svg
    assert [float(tick) for tick in re.findall(r'text-anchor="end">([\d.]+)<', svg)] == [0.5, 0.6, 0.7, 0.8]
    assert str(over_time("nothing", [Line("a", [])], [])) == ""


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (12.0, 31.0, [10.0, 15.0, 20.0, 25.0, 30.0, 35.0]),
        (0.0, 0.0, [0.0, 0.5, 1.0]),
        (-3.0, 3.0, [-4.0, -2.0, 0.0, 2.0, 4.0]),
    ],
)
def test_round_numbers_hold_all_values(low: float, high: float, ticks: list[float]) -> None:
    assert round_numbers(low, high) == pytest.approx(ticks)


# ---------------------------------------------------------------- where it is kept


def test_it_lies_beside_the_evidence_and_in_mlflow_and_without_mlflow_it_says_so() -> None:
    world, registry = Reporting(), FakeRegistry()
    run = registry.start_run("m", "request", {})
    world.ledger.models.add_candidate(
        replace(world.ledger.models.candidate("m", 1), version=2, train_key="k2", mlflow_run=run)
    )
    assert keep_report("m", 2, b"page", world.ledger, world.store, lambda: registry) == ""
    assert world.store.get(evidence.key("m", 2, FILE)) == b"page"
    assert registry.runs[run].files[ARTIFACT] == b"page"

    def away() -> FakeRegistry:
        raise OSError("connection refused")

    assert keep_report("m", 2, b"newer", world.ledger, world.store, away) == "OSError: connection refused"
    assert world.store.get(evidence.key("m", 2, FILE)) == b"newer"


def test_whom_forget_removes_is_in_no_page_of_the_store() -> None:
    from evergreen.fakes.predictions import InMemoryPredictions

    world, log = Reporting(), InMemoryPredictions()
    row = dict.fromkeys(parts.OWN) | {parts.ID: "id-1", parts.AT: NOON, parts.KEY: "customer-1"}
    log.answers["m"] = [row]
    world.store.put(evidence.key("m", 1, FILE), b"page")
    world.store.put(evidence.key("m", 1), b"{}")
    arguments = {"by": "ada", "reason": "asked by mail", "now": NOW}
    forget(world.ledger, world.store, log, "nobody", **arguments)
    assert world.store.exists(evidence.key("m", 1, FILE))
    forget(world.ledger, world.store, log, "customer-1", **arguments)
    assert not world.store.exists(evidence.key("m", 1, FILE))
    assert world.store.exists(evidence.key("m", 1))
