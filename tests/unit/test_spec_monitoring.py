"""The spec's `monitoring` and its rules on metrics: what may stand there, and what is refused, with its line."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from evergreen.core import reference
from evergreen.core.catalog import Problem, load_catalog, render
from evergreen.core.metrics import Task
from evergreen.core.monitoring import names
from evergreen.core.records import Severity
from evergreen.core.spec import ModelSpec
from evergreen.core.spec_monitoring import MetricTrigger, Monitoring
from evergreen.core.train_key import training_part
from records import make_spec
from spec_project import SPEC, make_project, write_spec

ROOT = Path(__file__).parents[2]
FEATURES = {"columns": ["x", "carrier", "fare"], "categorical": ["carrier"], "not_logged": ["fare"]}


def spec_of(*triggers: dict[str, Any], **changes: Any) -> ModelSpec:
    return make_spec(triggers=[{"metric": rule} for rule in triggers], **{"features": FEATURES, **changes})


def problems(tmp_path: Path, monitoring: str = "", *, trigger: str = "") -> tuple[Problem, ...]:
    """What is wrong with the test project's spec, with these lines at its end."""
    project = make_project(tmp_path)
    text = SPEC + (f"monitoring:\n{monitoring}" if monitoring else "")
    if trigger:
        text = text.replace("triggers:\n", f"triggers:\n  - metric: {trigger}\n")
    write_spec(project, "delay", text=text)
    return load_catalog(project).problems


def only(found: tuple[Problem, ...]) -> Problem:
    assert len(found) == 1, render(found)
    return found[0]


def test_without_a_word_the_monitor_looks_each_five_minutes_at_a_day_and_tells_nobody() -> None:
    spec = make_spec()
    assert spec.monitoring == Monitoring()
    assert (spec.monitoring.every, spec.monitoring.window) == (timedelta(minutes=5), timedelta(days=1))
    assert (spec.rules, spec.monitoring.labels, spec.monitoring.fresh_within) == ([], None, None)


def test_a_metric_is_a_trigger_and_an_alert_starts_nothing() -> None:
    rule = {"name": "drift.psi.max", "above": 0.2, "for": 3, "cooldown": "6h", "severity": "critical"}
    spec = spec_of(rule, monitoring={"alerts": [{"name": "user.returned-bags_2", "below": -5}]})
    (starts,) = spec.metric
    (tells,) = spec.monitoring.alerts
    assert (starts.limit, starts.direction, starts.passes, starts.severity) == (0.2, "above", 3, Severity.CRITICAL)
    assert (starts.cooldown, isinstance(tells, MetricTrigger)) == (timedelta(hours=6), False)
    assert (tells.limit, tells.direction, tells.passes, tells.severity) == (-5, "below", 1, Severity.WARNING)
    assert spec.rules == [starts, tells]
    assert (starts.words, tells.words) == ("drift.psi.max above 0.2", "user.returned-bags_2 below -5")


def test_a_limit_of_zero_is_a_limit() -> None:
    (rule,) = spec_of({"name": "quality.realised_loss.auc", "below": 0}).metric
    assert (rule.limit, rule.direction, rule.is_broken(0), rule.is_broken(-1e-9)) == (0, "below", False, True)


def test_a_rule_survives_json_and_is_no_reason_to_train_again() -> None:
    spec = spec_of({"name": "missing.x", "above": 0.1, "for": 2}, monitoring={"every": "90s", "slices": ["carrier"]})
    written = json.loads(spec.model_dump_json())
    assert written["triggers"][0]["metric"]["for"] == 2
    assert ModelSpec.model_validate(written) == spec
    assert training_part(spec) == training_part(spec_of())


def test_labels_may_come_from_a_table_a_query_or_files() -> None:
    columns = {"key": "request", "label": "late", "told_at": "landed_at"}
    spec = make_spec(monitoring={"labels": {"connection": "w", "table": "landings", **columns}})
    assert spec.monitoring.labels is not None
    source = spec.monitoring.labels.as_source
    assert (source.id, source.key, source.event_time) == ("w/landings/landed_at", "request", "landed_at")
    make_spec(monitoring={"labels": {"files": "labels/*.csv", **columns}})
    make_spec(monitoring={"labels": {"connection": "w", "query": "select 1", **columns}})


# ---------------------------------------------------------------- the file, the schema, the page


def test_the_key_for_is_known_in_the_file_and_its_field_name_is_not(tmp_path: Path) -> None:
    assert problems(tmp_path, trigger="{name: drift.psi.hour, above: 0.2, for: 3}") == ()
    wrong = only(problems_anew(tmp_path, "{name: drift.psi.hour, above: 0.2, passes: 3}"))
    assert (wrong.field, wrong.found) == ("triggers[0].metric.passes", "unknown key 'passes'")
    assert "for" in wrong.allowed.split(", ")


def problems_anew(root: Path, trigger: str) -> tuple[Problem, ...]:
    write_spec(root, "delay", ("triggers:\n", f"triggers:\n  - metric: {trigger}\n"))
    return load_catalog(root).problems


def test_for_is_a_whole_number_from_one(tmp_path: Path) -> None:
    wrong = only(problems(tmp_path, trigger="{name: drift.psi.hour, above: 0.2, for: 0}"))
    assert (wrong.field, wrong.found, wrong.allowed) == ("triggers[0].metric.for", "0", "at least 1")


def test_the_schema_and_the_page_say_for() -> None:
    definitions = reference.json_schema({})["$defs"]
    for kind in ("MetricRule", "MetricTrigger"):
        assert "for" in definitions[kind]["properties"]
        assert "passes" not in definitions[kind]["properties"]
    page = reference.markdown()
    assert "## `triggers[].metric`" in page
    assert "| `for` | whole number, at least 1 | `1` |" in page
    assert "| `severity` | `info` or `warning` or `critical` | `warning` |" in page
    assert "| `passes` |" not in page


def test_an_editor_accepts_what_the_check_does() -> None:
    validator = jsonschema.Draft202012Validator(reference.json_schema(yaml.safe_load("{}")))
    spec = spec_of({"name": "drift.psi.max", "above": 0.2, "for": 3}, monitoring={"slices": ["carrier"]})
    written = json.loads(spec.model_dump_json(exclude_none=True))
    assert list(validator.iter_errors(written)) == []
    written["triggers"][0]["metric"]["passes"] = 3
    assert not validator.is_valid(written)


def test_the_defaults_suit_a_model_of_any_task_and_features() -> None:
    shared = yaml.safe_load((ROOT / "models/_defaults.yaml").read_text())["monitoring"]
    for task, metric in ((Task.BINARY, "auc"), (Task.MULTICLASS, "accuracy"), (Task.REGRESSION, "r2")):
        for features in ({"columns": ["x"]}, {"columns": ["x"], "categorical": ["x"]}):
            made = make_spec(
                monitoring=shared, task=task.value, features=features, gates=[{"metric": metric, "min": 0.1}]
            )
            assert made.monitoring.alerts


# ---------------------------------------------------------------- what is refused

RULES = [
    # a trigger's rule in YAML, the field, what was found, what is allowed, what to do
    ("{name: drift.psi.huor, above: 1}", "name", "which is no metric", "drift.psi.max or", "'drift.psi.hour'?"),
    ("{name: drift.psi, above: 1}", "name", "'drift.psi'", "volume.rows", "'drift.psi.max'?"),
    ("{name: drfit.psi.max, above: 1}", "name", "'drfit.psi.max'", "user.<name>", "'drift.psi.max'?"),
    ("{name: weather, above: 1}", "name", "'weather'", "quality.realised.auc", "is called user.<name>"),
    ("{name: user.a b, above: 1}", "name", "'user.a b'", "user.<name>", "letters, digits"),
    ("{name: unseen.hour, above: 0}", "name", "'unseen.hour'", "unseen.max or", "Did you mean"),
    ("{name: quality.realised.mae, above: 1}", "name", "a metric of regression", "quality.realised.auc", "this task"),
    (
        "{name: quality.estimated.calibration_error, above: 1}",
        "name",
        "which is not estimated",
        "quality.estimated.auc",
        "watch it realised",
    ),
    ("{name: volume.rows}", "", "neither 'above' nor 'below'", "one of the two", "a rule of its own"),
    ("{name: volume.rows, above: 9, below: 1}", "", "both 'above' and 'below'", "one of the two", "of its own"),
    ("{name: volume.rows, below: .nan}", "below", "nan", "", ""),
    ("{name: volume.rows, below: 1, severity: crtical}", "severity", "'crtical'", "critical", "'critical'?"),
    ("{name: volume.rows, below: 1, slice: carrier}", "slice", "'carrier'", "none so far", "Add it to monitoring"),
    ("{name: age.data_hours, above: 1, slice: carrier}", "slice", "'slice' with age.data", "known of slices", "Remove"),
]


@pytest.mark.parametrize(("rule", "field", "found", "allowed", "do"), RULES, ids=[rule for rule, *_ in RULES])
def test_a_rule_that_could_never_be_judged_is_refused(
    tmp_path: Path, rule: str, field: str, found: str, allowed: str, do: str
) -> None:
    wrong = only(problems(tmp_path, trigger=rule))
    assert (wrong.file, wrong.field) == ("models/delay/model.yaml", f"triggers[0].metric.{field}".rstrip("."))
    assert wrong.line == SPEC[: SPEC.index("triggers:")].count("\n") + 2
    assert found in wrong.found
    assert allowed in wrong.allowed
    assert do in wrong.do


MONITORING = [
    # lines of monitoring, the field, what was found, what is allowed, what to do
    ("  slices: [carier]", "slices[0]", "'carier', which is no feature", "features: carrier", "'carrier'?"),
    ("  slices: [hour]", "slices[0]", "'hour', which is a number", "categorical features: carrier", "Choose"),
    ("  slices: [carrier, carrier]", "slices[1]", "'carrier' a second time", "each feature once", "Remove one"),
    ("  every: 2d", "every", "2d, longer than the window of 1d", "up to 1d", "Look more often"),
    ("  every: 0s", "every", "0s", "longer than 0s", ""),
    ("  fresh_within: soon", "fresh_within", "'soon'", "a whole number and a unit", ""),
    ("  alert: []", "alert", "unknown key 'alert'", "alerts", "Did you mean 'alerts'?"),
    (
        "  alerts: [{name: volume.rows, below: 1, cooldown: 6h}]",
        "alerts[0].cooldown",
        "unknown key 'cooldown'",
        "for",
        "triggers[].metric",
    ),
    (
        "  alerts: [{name: volume.rows, below: 1}, {name: volume.rows, below: 1.0, for: 9}]",
        "alerts[1]",
        "'volume.rows below 1' a second time",
        "monitoring.alerts[0] has it",
        "Remove one of them",
    ),
    (
        "  slices: [carrier]\n  alerts: [{name: volume.rows, below: 1, slice: carier}]",
        "alerts[0].slice",
        "'carier'",
        "one of monitoring.slices: carrier",
        "Did you mean 'carrier'?",
    ),
    ("  labels: {table: t, key: k, label: l, told_at: a}", "labels.connection", "nothing", "an Airflow", "Add"),
    ("  labels: {key: k, label: l, told_at: a}", "labels", "none of 'table', 'query'", "one of table", "once"),
    ("  labels: {files: a.csv, key: k, label: k, told_at: a}", "labels.label", "'k' a second time", "three", "own"),
    ("  labels: {files: a.csv, key: k, label: l}", "labels.told_at", "nothing", "at which the label was", "Add"),
    ("  labels: {files: a.txt, key: k, label: l, told_at: a}", "labels.files", "'a.txt'", ".parquet", "Name them"),
]


@pytest.mark.parametrize(("lines", "field", "found", "allowed", "do"), MONITORING, ids=[one for one, *_ in MONITORING])
def test_a_monitoring_that_does_not_fit_is_refused(
    tmp_path: Path, lines: str, field: str, found: str, allowed: str, do: str
) -> None:
    wrong = only(problems(tmp_path, f"{lines}\n"))
    assert (wrong.file, wrong.field) == ("models/delay/model.yaml", f"monitoring.{field}")
    assert found in wrong.found
    assert allowed in wrong.allowed
    assert do in wrong.do


def test_a_trigger_and_an_alert_with_the_same_limit_are_one_rule_too_many(tmp_path: Path) -> None:
    alerts = "  alerts: [{name: volume.rows, below: 1, severity: critical}]\n"
    wrong = only(problems(tmp_path, alerts, trigger="{name: volume.rows, below: 1}"))
    assert (wrong.field, wrong.allowed) == ("monitoring.alerts[0]", "each limit once: triggers[0] has it")


def test_two_limits_and_two_slices_are_rules_of_their_own() -> None:
    limits = [{"name": "volume.rows", "below": 10}, {"name": "volume.rows", "below": 20}]
    more = [{"name": "volume.rows", "above": 10}, {"name": "volume.rows", "below": 10, "slice": "carrier"}]
    assert len(spec_of(*limits, monitoring={"slices": ["carrier"], "alerts": more}).rules) == 4


@pytest.mark.parametrize("name", ["drift.psi.fare", "missing.fare", "out_of_range.fare", "drift.wasserstein.fare"])
def test_a_feature_that_is_not_logged_has_no_drift(name: str) -> None:
    with pytest.raises(ValidationError, match=f"found '{name}' of 'fare', which stands in features.not_logged"):
        spec_of({"name": name, "above": 0.1})


def test_nor_has_a_model_none_of_whose_features_is_logged() -> None:
    nothing = {"columns": ["x"], "not_logged": ["x"]}
    with pytest.raises(ValidationError, match=r"'drift\.psi\.max' of features, none of which is logged"):
        spec_of({"name": "drift.psi.max", "above": 0.1}, features=nothing)
    spec_of({"name": "drift.prediction.psi", "above": 0.1}, features=nothing)


def test_what_is_not_logged_is_no_slice() -> None:
    features = {"columns": ["x", "carrier"], "categorical": ["carrier"], "not_logged": ["carrier"]}
    with pytest.raises(ValidationError, match=r"'carrier', which stands in features\.not_logged; allowed: categorical"):
        make_spec(features=features, monitoring={"slices": ["carrier"]})


@pytest.mark.parametrize("name", ["volume.rows", "quality.realised.auc", "drift.psi.max", "labels.fraction"])
def test_a_rule_on_rows_needs_rows_that_are_logged(name: str) -> None:
    with pytest.raises(ValidationError, match=f"found '{name}' with serving.log_sample 0"):
        spec_of({"name": name, "below": 0.1}, serving={"log_sample": 0})
    spec_of({"name": name, "below": 0.1}, serving={"log_sample": 0.01})


def test_labels_need_them_too_and_ages_requests_and_users_metrics_do_not() -> None:
    labels = {"files": "a.csv", "key": "k", "label": "l", "told_at": "a"}
    with pytest.raises(ValidationError, match=r"'labels' with serving\.log_sample 0"):
        make_spec(serving={"log_sample": 0}, monitoring={"labels": labels})
    unlogged = ["age.data_hours", "age.champion_hours", "requests.error_rate", "requests.latency_p99_ms", "user.x"]
    spec = spec_of(*({"name": name, "above": 0.5} for name in unlogged), serving={"log_sample": 0})
    assert len(spec.rules) == 5


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    monitoring = "  slices: [hour]\n  alerts: [{name: nope, above: 1}]\n"
    found = problems(tmp_path, monitoring, trigger="{name: quality.realised.r2, below: 0}")
    assert {one.field for one in found} == {
        "triggers[0].metric.name",
        "monitoring.slices[0]",
        "monitoring.alerts[0].name",
    }


@pytest.mark.parametrize("task", list(Task))
def test_each_name_of_the_monitor_may_stand_in_a_rule(task: Task) -> None:
    gate = {Task.BINARY: "auc", Task.MULTICLASS: "accuracy", Task.REGRESSION: "r2"}[task]
    features = {"columns": ["x", "carrier"], "categorical": ["carrier"]}
    rules = [{"name": name, "above": 0.5} for name in names.known(task, ["x", "carrier"], ["carrier"])]
    made = spec_of(*rules, features=features, task=task.value, gates=[{"metric": gate, "min": 0.1}])
    assert len(made.rules) == len(rules)


@pytest.mark.parametrize(
    ("name", "limit", "what"),
    [
        ("quality.realised.auc", {"above": 1}, "never is"),
        ("quality.realised.auc", {"below": 1.2}, "always is"),
        ("quality.realised_loss.auc", {"above": 1}, "never is"),
        ("missing.x", {"below": 0}, "never is"),
        ("missing.max", {"below": -1}, "never is"),
        ("missing.x", {"above": -0.1}, "always is"),
        ("volume.rows", {"below": 0}, "never is"),
        ("drift.psi.max", {"below": 0}, "never is"),
        ("drift.prediction.psi", {"above": -1}, "always is"),
        ("requests.error_rate", {"above": 1}, "never is"),
        ("labels.fraction", {"above": 1}, "never is"),
    ],
)
def test_a_limit_that_no_value_or_every_value_breaks_is_refused(name: str, limit: dict[str, float], what: str) -> None:
    with pytest.raises(ValidationError) as refused:
        spec_of({"name": name, **limit})
    (error,) = refused.value.errors()
    assert error["loc"] == ("triggers", 0, "metric", *limit)
    assert what in error["msg"]


def test_a_limit_within_reach_is_taken() -> None:
    rules = [
        {"name": "missing.max", "below": -0.1},
        {"name": "missing.x", "above": 0},
        {"name": "quality.realised_loss.logloss", "below": -5},
        {"name": "age.data_hours", "below": -1},
        {"name": "user.bags", "below": -1000},
    ]
    assert len(spec_of(*rules).metric) == len(rules)


def test_a_feature_that_is_called_max_counts_among_the_others() -> None:
    known = list(names.known(Task.BINARY, ["max", "x"], []))
    assert (known.count("drift.psi.max"), "drift.psi.x" in known) == (1, True)
