"""The numbers of the evidence, against scikit-learn and against values worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sk
from tests.judgements import START, make_frame, make_judgement, make_scored, spec_of
from tests.records import make_verdict

from evergreen.adapters.evidence_charts import draw
from evergreen.core import evidence as ev
from evergreen.core import evidence_curves, evidence_rows, evidence_shifts, evidence_values
from evergreen.core.metrics import Metric, Task
from evergreen.core.refitting import REFIT_OF
from evergreen.core.sampling import MOST_ROWS, looked_at
from evergreen.core.scored import Scored
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.store import InMemoryStore
from evergreen.steps.report import report
from evergreen.ui import tables

SCORED = make_scored(Task.BINARY, make_frame())


def days(*rows_by_day: int) -> np.ndarray:
    """Event times: so many rows on each day from the start, an even time apart."""
    start = np.datetime64(START.replace(tzinfo=None), "us")
    return np.concatenate(
        [
            start
            + np.timedelta64(day, "D")
            + np.arange(rows) * (86_400_000_000 // max(rows, 1)) * np.timedelta64(1, "us")
            for day, rows in enumerate(rows_by_day)
        ]
    )


# ---------------------------------------------------------------- the whole


@pytest.mark.parametrize("task", Task)
def test_evidence_has_the_sections_of_its_task_and_is_small(task):
    made = ev.evidence_of(make_judgement(task))
    have = {name for name in ("curves", "calibration", "confusion", "residuals") if made[name] is not None}
    assert (
        have
        == {
            Task.BINARY: {"curves", "calibration"},
            Task.MULTICLASS: {"calibration", "confusion"},
            Task.REGRESSION: {"residuals"},
        }[task]
    )
    assert json.loads(ev.as_json(made)) == made
    assert len(ev.as_json(made)) < 300_000
    assert made["changed"]["rounds"] == 31
    assert made["changed"]["champion"]["version"] == 1
    assert made["verdict"]["gates"][0]["state"] == "passed"


def test_the_same_judgement_gives_the_same_bytes():
    assert ev.as_json(ev.evidence_of(make_judgement())) == ev.as_json(ev.evidence_of(make_judgement()))


@pytest.mark.parametrize("task", Task)
def test_without_a_champion_its_parts_are_none(task):
    made = ev.evidence_of(make_judgement(task, champion=False))
    assert made["changed"]["champion"] is None
    assert made["disagreements"] is None
    assert all(period["champion"] is None for period in made["by_period"])
    assert all(value["champion"] is None for one in made["slices"] for value in one["values"])
    for section in (made["calibration"], made["confusion"]):
        assert section is None or section["champion"] is None


def test_a_champion_that_could_not_be_compared_is_named():
    judgement = make_judgement()
    made = ev.evidence_of(replace(judgement, scored=replace(judgement.scored, champion=None)))
    assert made["changed"]["champion"]["version"] == 1
    assert made["changed"]["champion"]["compared"] is False
    assert made["disagreements"] is None


def test_of_a_refit_the_rows_are_told_that_judged_it_and_those_that_it_learned_besides():
    judgement = make_judgement()
    once = tables.changed(ev.evidence_of(judgement))[0].rows[1]
    again = replace(judgement.candidate, made_with={REFIT_OF: "4"})
    made = tables.changed(ev.evidence_of(replace(judgement, candidate=again)))[0].rows[1]
    newest = judgement.candidate.data_end.strftime("%Y-%m-%d %H:%M UTC")
    assert made[1] == f"{once[1]}, judged so as version 4; then again on all rows to {newest}"


def test_the_primary_metric_is_that_of_the_first_gate_of_the_task():
    assert ev.primary_metric(spec_of(Task.REGRESSION)).name == "mae"  # size_mb comes first, and judges any task
    made = ev.evidence_of(make_judgement(Task.REGRESSION))
    assert made["metric"] == {"name": "mae", "better": "lower", "min": None, "max": 15.0}


def test_numbers_that_are_not_finite_become_none_and_the_verdict_stays_exact():
    assert ev.finite({"a": [math.nan, math.inf, 1 / 3, 7, "x", None]}) == {"a": [None, None, 0.333333, 7, "x", None]}
    almost = 0.5999999999
    verdict = make_verdict()
    gate = replace(verdict.gates[0], candidate=almost, low=math.nan)
    made = ev.evidence_of(make_judgement(verdict=replace(verdict, gates=(gate,))))
    assert made["verdict"]["gates"][0]["candidate"] == almost
    assert made["verdict"]["gates"][0]["low"] is None


def test_one_class_and_missing_columns_do_not_stop_the_report():
    judgement = make_judgement()
    flat = replace(judgement.scored, label=np.zeros(judgement.scored.rows))
    made = ev.evidence_of(replace(judgement, scored=flat, fitted=judgement.fitted.drop("x", "carrier")))
    assert made["curves"] is None
    assert made["by_period"][0]["candidate"]["value"] is None
    assert made["shifts"]["features"] == []


@pytest.mark.parametrize("champion", [True, False])
@pytest.mark.parametrize("task", Task)
def test_no_fresh_row_at_all_is_told_too(task, champion):
    """The window ends before the newest row that the champion was fitted on."""
    judgement = make_judgement(task, champion=champion)
    scored = judgement.scored
    nothing = replace(
        scored,
        label=scored.label[:0],
        candidate=scored.candidate[:0],
        champion=None if scored.champion is None else scored.champion[:0],
        at=scored.at[:0],
    )
    made = ev.evidence_of(replace(judgement, scored=nothing, fresh=judgement.fresh.clear()))
    assert made["changed"]["fresh"] == {"rows": 0, "from": None, "until": None}
    assert (made["by_period"], made["curves"], made["residuals"]) == ([], None, None)
    assert json.loads(ev.as_json(made)) == made
    draw(made)


def test_at_most_200_000_rows_are_looked_at_and_always_the_same():
    rows = MOST_ROWS + 1000
    at = np.datetime64("2013-07-01", "us") + np.arange(rows) * np.timedelta64(1, "s")
    scored = Scored(Task.REGRESSION, np.arange(rows, dtype=float), np.zeros(rows), None, at)
    frame = pl.DataFrame({"n": np.arange(rows)})
    found, again = looked_at(scored, frame), looked_at(scored, frame)
    assert found.scored.rows == found.frame.height == MOST_ROWS
    assert (found.frame["n"].to_numpy() == found.scored.label).all()
    assert found.frame.equals(again.frame)
    assert (np.diff(found.scored.at) > np.timedelta64(0)).all()


# ---------------------------------------------------------------- periods and slices


@pytest.mark.parametrize(
    ("rows_by_day", "expected"),
    [
        ((200, 200, 200), [200, 200, 200]),
        ((200,) * 14, [400] * 7),  # two days each: at most ten periods
        ((200, 1), [201]),  # a period needs 100 rows
        ((20, 200, 200), [220, 200]),
        ((200, 0, 0, 200), [200, 200]),
        ((), []),
    ],
)
def test_periods_are_whole_days_with_enough_rows(rows_by_day, expected):
    at = days(*rows_by_day) if rows_by_day else np.empty(0, "datetime64[us]")
    found = evidence_values.periods(at)
    assert [end - start for start, end in found] == expected
    for start, _ in found[1:]:
        assert at[start - 1].astype("datetime64[D]") < at[start].astype("datetime64[D]")


def test_a_period_has_the_metric_of_its_rows_inside_its_interval():
    period = evidence_values.by_period(Metric("auc"), SCORED)[1]
    assert (period["from"], period["until"], period["rows"]) == ("2013-07-02", "2013-07-02", 288)
    found = period["candidate"]
    assert found["value"] == pytest.approx(sk.roc_auc_score(SCORED.label[288:576], SCORED.candidate[288:576]))
    assert found["low"] < found["value"] < found["high"]


def test_slices_have_the_values_with_most_rows_and_the_rest_together():
    names = [f"v{n:02d}" for n in range(20) for _ in range(40 - n)] + [None] * 50
    groups = evidence_values.grouped(pl.Series("carrier", names))
    assert [value for value, _ in groups] == ["missing", *(f"v{n:02d}" for n in range(11)), "other"]
    assert [len(rows) for _, rows in groups][:2] == [50, 40]
    assert sum(len(rows) for _, rows in groups) == len(names)
    assert len(set(np.concatenate([rows for _, rows in groups]).tolist())) == len(names)


def test_a_slice_has_the_metric_of_its_rows_for_both_models():
    judgement = make_judgement()
    looked = looked_at(judgement.scored, judgement.fresh)
    (found,) = evidence_values.slices(judgement.spec, Metric("accuracy"), looked)
    assert found["column"] == "carrier"
    assert {value["value"] for value in found["values"]} == {"AA", "UA", "missing"}
    aa = judgement.fresh["carrier"].fill_null("").to_numpy() == "AA"
    assert next(value for value in found["values"] if value["value"] == "AA") == {
        "value": "AA",
        "rows": int(aa.sum()),
        "candidate": pytest.approx(np.mean((judgement.scored.candidate[aa] >= 0.5) == judgement.scored.label[aa])),
        "champion": pytest.approx(np.mean((judgement.scored.champion[aa] >= 0.5) == judgement.scored.label[aa])),
    }


def test_the_column_of_a_sliced_gate_is_shown_too():
    gates = [{"metric": "auc", "min": 0.6}, {"metric": "auc", "slice": "x", "against": "champion", "max_drop": 0.1}]
    made = ev.evidence_of(make_judgement(spec=spec_of(gates=gates)))
    assert [one["column"] for one in made["slices"]] == ["x", "carrier"]
    assert len(made["slices"][0]["values"]) == 13


# ---------------------------------------------------------------- curves


def test_roc_and_precision_recall_have_the_areas_that_sklearn_finds():
    found = evidence_curves.curves(SCORED)
    points = np.array(found["roc"]["candidate"])
    assert len(points) <= 100
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    auc = sk.roc_auc_score(SCORED.label, SCORED.candidate)
    assert sk.auc(points[:, 0], points[:, 1]) == pytest.approx(auc, abs=0.003)
    precision = np.array(found["precision_recall"]["champion"])
    assert len(precision) <= 100
    assert precision[-1].tolist() == [1, SCORED.label.mean()]
    whole = sk.precision_recall_curve(SCORED.label, SCORED.champion)
    assert sk.auc(precision[:, 0], precision[:, 1]) == pytest.approx(sk.auc(whole[1], whole[0]), abs=0.02)


def test_every_point_of_the_roc_curve_lies_on_that_of_sklearn():
    ours = np.array(evidence_curves.roc(SCORED.label, SCORED.candidate))
    false, true, _ = sk.roc_curve(SCORED.label, SCORED.candidate, drop_intermediate=False)
    theirs = set(zip(false.round(9), true.round(9), strict=True))
    assert {tuple(point) for point in ours.round(9)} <= theirs


def test_rows_of_one_score_are_never_parted():
    label, prediction = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.5, 0.5, 0.1])
    assert evidence_curves.roc(label, prediction) == [[0, 0], [0, 0.5], [0.5, 1], [1, 1]]
    assert evidence_curves.precision_recall(label, prediction) == [[0.5, 1], [1, pytest.approx(2 / 3)], [1, 0.5]]


def test_calibration_by_hand():
    chance = np.array([0.02, 0.08, 0.55, 0.55, 0.55, 1.0])
    scored = Scored(Task.BINARY, np.array([0.0, 1, 1, 1, 0, 1]), chance, None, days(6))
    found = evidence_curves.calibration(scored)
    assert found["champion"] is None
    assert found["candidate"] == [
        {"mean": pytest.approx(0.05), "observed": 0.5, "rows": 2},
        {"mean": pytest.approx(0.55), "observed": pytest.approx(2 / 3), "rows": 3},
        {"mean": 1.0, "observed": 1.0, "rows": 1},
    ]


def test_confusion_and_calibration_of_the_named_class():
    chances = np.array([[0.7, 0.2, 0.1], [0.1, 0.65, 0.25], [0.2, 0.2, 0.6], [0.8, 0.1, 0.1]])
    scored = Scored(Task.MULTICLASS, np.array([0.0, 1, 1, 2]), chances, None, days(4))
    found = evidence_curves.confusion(scored)
    assert found["classes"] == ["0", "1", "2"]
    assert found["candidate"] == sk.confusion_matrix([0, 1, 1, 2], [0, 1, 2, 0]).tolist()
    bins = evidence_curves.calibration(scored)["candidate"]
    assert [(one["rows"], one["observed"]) for one in bins] == [(2, 0.5), (1, 1.0), (1, 0.0)]


def test_beyond_fifteen_classes_the_rest_is_one():
    label = np.arange(400) % 20 + 0.0
    chances = np.eye(20)[label.astype(int)]
    found = evidence_curves.confusion(Scored(Task.MULTICLASS, label, chances, None, days(400)))
    assert len(found["classes"]) == 16
    assert found["classes"][-1] == "other"
    assert found["candidate"][-1][-1] == 100
    assert sum(map(sum, found["candidate"])) == 400


def test_residuals_by_hand():
    prediction = np.arange(100, dtype=float)
    label = prediction - np.tile([1.0, -1.0], 50)
    found = evidence_curves.residuals(Scored(Task.REGRESSION, label, prediction, None, days(100)))
    first = found["deciles"]["candidate"][0]
    assert (first["rows"], first["predicted"], first["actual"]) == (10, 4.5, 4.5)
    assert first["residuals"] == np.quantile([1.0, -1.0] * 5, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    assert sum(found["histogram"]["candidate"]) == 100
    assert len(found["histogram"]["edges"]) == 31
    assert found["histogram"]["champion"] is None


# ---------------------------------------------------------------- shifts


def test_the_features_that_moved_most_come_first():
    fitted, fresh = make_frame(4000, seed=5), make_frame(4000, seed=6)
    fresh = fresh.with_columns(carrier=pl.when(pl.col("x") > 0).then(pl.lit("B6")).otherwise("carrier"))
    found = evidence_shifts.shifts(spec_of(), fitted, fresh)["features"]
    assert [one["feature"] for one in found] == ["carrier", "x"]
    assert found[0]["psi"] > 1
    assert found[1]["psi"] < 0.02
    assert found[0]["fresh"]["top"][0] == ["B6", pytest.approx((fresh["x"] > 0).mean())]
    assert found[0]["fitted"]["missing"] == pytest.approx(fitted["carrier"].null_count() / 4000)


def test_a_number_goes_by_the_deciles_of_the_fitted_rows():
    fitted = pl.DataFrame({"x": np.arange(1000.0), "carrier": ["AA"] * 1000})
    moved = evidence_shifts.shifts(spec_of(), fitted, fitted.with_columns(x=pl.col("x") + 100))["features"][0]
    # the lowest tenth is empty, the highest holds two
    expected = 0.1 * math.log(0.2 / 0.1) + (0.0005 - 0.1) * math.log(0.0005 / 0.1)  # half a row is added to each
    assert moved["psi"] == pytest.approx(expected, rel=0.02)
    assert (moved["fitted"]["mean"], moved["fresh"]["mean"]) == (499.5, 599.5)


def test_missing_values_are_a_bin_of_their_own():
    fitted = pl.DataFrame({"x": np.arange(1000.0), "carrier": ["AA"] * 1000})
    gone = fitted.with_columns(x=pl.when(pl.col("x") % 2 == 0).then("x"))
    found = evidence_shifts.shifts(spec_of(), fitted, gone)["features"][0]
    assert found["psi"] > 1
    assert found["fresh"]["missing"] == 0.5
    nothing = evidence_shifts.shifts(spec_of(), fitted, fitted.with_columns(x=pl.lit(None, pl.Float64)))["features"][0]
    assert nothing["fresh"] == {"missing": 1.0, "mean": None}


# ---------------------------------------------------------------- disagreements


def test_the_rows_where_the_two_disagree_most():
    judgement = make_judgement()
    found = evidence_rows.disagreements(judgement.spec, looked_at(judgement.scored, judgement.fresh))
    apart = np.abs(judgement.scored.candidate - judgement.scored.champion)
    first = int(apart.argmax())
    assert len(found["rows"]) == 20
    assert found["features"] == ["x", "carrier"]
    row = found["rows"][0]
    assert row["key"] == f"r{first}"
    assert row["at"] == (START + timedelta(minutes=5 * first)).isoformat()
    assert row["distance"] == pytest.approx(apart.max())
    assert row["values"][0] == judgement.fresh["x"][first]
    assert [one["distance"] for one in found["rows"]] == sorted(
        (one["distance"] for one in found["rows"]), reverse=True
    )


def test_long_text_in_a_row_is_cut():
    judgement = make_judgement()
    fresh = judgement.fresh.with_columns(carrier=pl.lit("<b>" * 1000))
    found = evidence_rows.disagreements(judgement.spec, looked_at(judgement.scored, fresh))
    assert all(len(row["values"][1]) == 40 for row in found["rows"])


def test_multiclass_predictions_are_told_by_their_likeliest_class():
    judgement = make_judgement(Task.MULTICLASS)
    found = evidence_rows.disagreements(judgement.spec, looked_at(judgement.scored, judgement.fresh))
    assert set(found["rows"][0]["candidate"]) == {"class", "chance"}
    assert 0 < found["rows"][0]["distance"] <= 1


# ---------------------------------------------------------------- what is stored


class OrderedStore(InMemoryStore):
    """Remembers the order of writes."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def put(self, key: str, data: bytes) -> None:
        self.order.append(key)
        super().put(key, data)


def test_the_report_stores_the_charts_first_and_logs_the_same_to_the_version_s_run():
    store, registry, judgement = OrderedStore(), FakeRegistry(), make_judgement()
    run = registry.start_run("m", "request-2", {})
    judgement = replace(judgement, candidate=replace(judgement.candidate, mlflow_run=run))
    charts = {"by_period.svg": b"<svg/>", "roc.svg": b"<svg/>"}
    report(judgement, registry, store, lambda evidence: charts)
    assert store.order == [
        "evidence/m/2/by_period.svg",
        "evidence/m/2/roc.svg",
        "evidence/m/2/evidence.json",
    ]
    assert ev.key("m", 2) == store.order[-1]
    stored = json.loads(store.get(ev.key("m", 2)))
    assert stored["charts"] == ["by_period.svg", "roc.svg"]
    logged = registry.runs[run].files
    assert {name: logged[f"judge/{name}"] for name in charts} == charts
    assert logged["judge/evidence.json"] == store.get(ev.key("m", 2))


def test_judged_again_the_evidence_is_replaced():
    store, registry, judgement = InMemoryStore(), FakeRegistry(), make_judgement()
    judgement = replace(judgement, candidate=replace(judgement.candidate, mlflow_run=registry.start_run("m", "r", {})))
    report(judgement, registry, store, lambda evidence: {"by_period.svg": b"<svg/>"})
    again = replace(judgement, champion=None, scored=replace(judgement.scored, champion=None))
    report(again, registry, store, lambda evidence: {"by_period.svg": b"<svg>2</svg>"})
    assert json.loads(store.get(ev.key("m", 2)))["changed"]["champion"] is None
    assert store.get(ev.key("m", 2, "by_period.svg")) == b"<svg>2</svg>"
