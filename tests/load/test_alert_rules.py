"""The alert rules for Prometheus, judged by promtool: on series on which each fires, and on others."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "docker" / "prometheus"
RULES = FOLDER / "evergreen-alerts.yml"
Series = dict[str, str]  # values by step, in promtool's notation: '1x9' is ten times 1, '0+5x9' grows by 5


@dataclass(frozen=True)
class Case:
    """An alert, its labels and its summary; at a time it fires on the one, and not on any of the other series."""

    alert: str
    labels: dict[str, str]
    summary: str
    at: str
    fires: Series
    quiet: tuple[Series, ...]
    step: str = "1m"  # from one value to the next


POOL = {"pool": "default"}
BLUE = {**POOL, "instance": "blue:8000"}
M = {**POOL, "model": "m"}
WHERE = 'pool="default",instance="blue:8000"'
GREEN = 'pool="default",instance="green:8000"'


def requests(outcome: str, values: str) -> Series:
    return {f'evergreen_requests_total{{{WHERE},model="m",outcome="{outcome}",worker="0"}}': values}


def latency(fast: str, slow: str) -> Series:
    buckets = {"0.25": fast, "0.5": slow, "+Inf": slow}
    name = "evergreen_request_seconds"
    found = {f'{name}_bucket{{{WHERE},model="m",le="{bound}"}}': values for bound, values in buckets.items()}
    return {**found, f'{name}_count{{{WHERE},model="m"}}': slow}


def beats(part: str, values: str) -> Series:
    return {f'evergreen_heartbeat_timestamp_seconds{{{WHERE},part="{part}"}}': values}


def of_model(family: str, values: str, where: str = WHERE) -> Series:
    return {f'evergreen_{family}{{{where},model="m"}}': values}


def refusals(values: str) -> Series:
    return {f'evergreen_request_errors_total{{{WHERE},model="m",reason="overload"}}': values}


def up(blue: str, green: str) -> Series:
    return {f'up{{job="evergreen-serving",{WHERE}}}': blue, f'up{{job="evergreen-serving",{GREEN}}}': green}


def queue(one: str, other: str) -> Series:
    """Each scrape is answered by one worker, which tells of itself."""
    return {
        f'evergreen_requests_in_flight{{{WHERE},worker="0"}}': one,
        f'evergreen_requests_in_flight{{{WHERE},worker="1"}}': other,
        f"evergreen_requests_in_flight_limit{{{WHERE}}}": "512x40",
    }


def memory(one: str, other: str) -> Series:
    return {
        f'evergreen_memory_bytes{{{WHERE},worker="0"}}': one,
        f'evergreen_memory_bytes{{{WHERE},worker="1"}}': other,
        f"evergreen_memory_limit_bytes{{{WHERE}}}": "1000x40",
    }


def ledger(up: str, read: str) -> Series:
    return {f"evergreen_ledger_up{{{WHERE}}}": up, f"evergreen_ledger_read_timestamp_seconds{{{WHERE}}}": read}


def counter(family: str, values: str, **labels: str) -> Series:
    text = "".join(f',{name}="{value}"' for name, value in labels.items())
    return {f"evergreen_{family}{{{WHERE}{text}}}": values}


NOW = "0+60x100"  # a timestamp that is always that of now
CASES = [
    Case(
        "EvergreenServingDown",
        POOL,
        "No replica of pool default answers",
        "5m",
        up("1 1 0x9", "0x9"),
        (up("1x9", "0x9"), up("0 0 0 1x9", "0x9")),
    ),
    Case(
        "EvergreenServingNotReady",
        POOL,
        "No replica of pool default is ready",
        "5m",
        {f"evergreen_ready{{{WHERE}}}": "0x9", f"evergreen_ready{{{GREEN}}}": "0x9"},
        ({f"evergreen_ready{{{WHERE}}}": "0x9", f"evergreen_ready{{{GREEN}}}": "1x9"},),
    ),
    Case(
        "EvergreenErrorRate",
        M,
        "2% of the requests for m fail",
        "20m",
        requests("ok", "0+98x40") | requests("failed", "0+2x40"),
        (
            requests("ok", "0+995x40") | requests("failed", "0+5x40"),
            requests("ok", "0+2x40") | requests("failed", "0+2x40"),
        ),
    ),  # too few to tell
    Case(
        "EvergreenLatencyHigh",
        M,
        "One request in a hundred for m takes over 487.5ms",
        "30m",
        latency("0+80x40", "0+100x40"),
        (latency("0+100x40", "0+100x40"), latency("0+8x40", "0+10x40")),
    ),
    Case(
        "EvergreenOverload",
        M,
        "10% of the requests for m are refused with 429",
        "20m",
        requests("ok", "0+90x40") | requests("refused", "0+10x40") | refusals("0+10x40"),
        (requests("ok", "0+995x40") | requests("refused", "0+5x40") | refusals("0+5x40"),),
    ),
    Case(
        "EvergreenQueueLong",
        BLUE,
        "A worker of blue:8000 has 75% of the requests it takes on",
        "10m",
        queue("384x40", "2x40"),
        (queue("200x40", "200x40"), queue("0 500 0x40", "0x40")),
    ),
    Case(
        "EvergreenMemoryHigh",
        BLUE,
        "The workers of blue:8000 hold 90% of the replica's memory",
        "20m",
        memory("500x40", "400x40"),
        (memory("400x40", "400x40"), {f"evergreen_memory_bytes{{{WHERE}}}": "9e12x40"}),
    ),
    Case(
        "EvergreenWorkersDie",
        {**BLUE, "reason": "oom"},
        "Workers of blue:8000 were started again within 30 minutes: oom",
        "40m",
        counter("worker_restarts_total", "0x20 1 1 2x40", reason="oom"),
        (
            counter("worker_restarts_total", "0x20 1x60", reason="oom"),
            counter("worker_restarts_total", "7x60", reason="oom"),
        ),
    ),
    Case(
        "EvergreenSwapFailed",
        M,
        "A replica refused a released version of m",
        "40m",
        counter("load_failures_total", "_x30 1x40", model="m", worker="0"),  # its first value is no increase
        (counter("load_failures_total", "_x5 1x90", model="m", worker="0"),),
    ),
    Case(
        "EvergreenSwapFailed",
        M,
        "A replica refused a released version of m",
        "40m",
        counter("load_failures_total", "1x30 2x40", model="m", worker="0"),
        (counter("load_failures_total", "2x90", model="m", worker="0"),),
    ),
    Case(
        "EvergreenReplicasDiffer",
        M,
        "Replicas of pool default answer with different versions of m",
        "30m",
        of_model("model_version", "3x40") | of_model("model_version", "3x5 4x40", GREEN),
        (
            of_model("model_version", "3x40") | of_model("model_version", "3x40", GREEN),
            of_model("model_version", "3x27 4x40") | of_model("model_version", "3x25 4x40", GREEN),
        ),
    ),
    Case(
        "EvergreenGuardTripped",
        {**M, "reason": "faults"},
        "A guard took a version of m off trial: faults",
        "40m",
        counter("guard_trips_total", "_x30 1x40", model="m", reason="faults", worker="0"),
        (counter("guard_trips_total", "1x90", model="m", reason="faults", worker="0"),),
    ),
    Case(
        "EvergreenLogBehind",
        BLUE,
        "The prediction log of blue:8000 is 20m 0s behind the store",
        "30m",
        counter("log_lag_seconds", "1200x40"),
        (counter("log_lag_seconds", "60x40"), counter("log_lag_seconds", "0x28 900 0x40")),
    ),
    Case(
        "EvergreenLogDropsRows",
        {**M, "reason": "disk_full"},
        "Answers of m are not logged: disk_full",
        "40m",
        counter("log_dropped_rows_total", "_x30 90x40", model="m", reason="disk_full", worker="0"),
        (
            counter("log_dropped_rows_total", "90x90", model="m", reason="disk_full", worker="0"),
            counter("log_dropped_rows_total", "0+90x90", model="m", reason="sampled", worker="0"),  # as the spec says
        ),
    ),
    Case(
        "EvergreenLedgerAway",
        BLUE,
        "blue:8000 does not reach the control ledger",
        "10m",
        ledger("0x90", "60x90"),
        (ledger("1x90", NOW), ledger("1 1 1 0 0 1x90", NOW)),
    ),
    Case(
        "EvergreenLedgerAway",
        BLUE,
        "blue:8000 does not reach the control ledger",
        "20m",  # it answers, and cannot be read
        ledger("1x90", "60x90"),
        (ledger("1x90", NOW),),
    ),
    Case(
        "EvergreenReconcilerSilent",
        {},
        "Nothing is heard from the reconciler",
        "20m",
        beats("reconciler", "0x90"),
        (beats("reconciler", NOW), {}),
    ),
    Case(
        "EvergreenSchedulerSilent",
        {},
        "Nothing is heard from Airflow's scheduler",
        "20m",
        beats("scheduler", "60x90") | beats("reconciler", NOW),
        (
            beats("scheduler", NOW) | beats("reconciler", NOW),
            beats("scheduler", "60x90") | beats("reconciler", "60x90"),
        ),
    ),  # who would hear of it is silent itself
    Case(
        "EvergreenMonitorSilent",
        {},
        "Nothing is heard from the monitor",
        "40m",
        beats("monitor", "0x90") | of_model("model_released_timestamp_seconds", "1x90"),
        (
            beats("monitor", "0x90"),  # nothing is released
            beats("monitor", NOW) | of_model("model_released_timestamp_seconds", "1x90"),
        ),
    ),
    Case(
        "EvergreenDataStale",
        {"model": "m"},
        "The newest data of m is 1h 30m 0s old",
        "90m",
        of_model("model_data_timestamp_seconds", "0x100") | of_model("model_fresh_within_seconds", "3600x100"),
        (
            of_model("model_data_timestamp_seconds", "0x100") | of_model("model_fresh_within_seconds", "7200x100"),
            of_model("model_data_timestamp_seconds", "0x100"),
        ),
    ),  # may be of any age
    Case(
        "EvergreenDataUnknown",
        {"model": "m"},
        "How new the data of m is, is not known",
        "90m",
        of_model("model_fresh_within_seconds", "3600x100"),
        (of_model("model_fresh_within_seconds", "3600x100") | of_model("model_data_timestamp_seconds", NOW), {}),
    ),
    Case(
        "EvergreenAlertCritical",
        {"model": "m", "rule": "drift.psi.max>0.2"},
        "m: drift.psi.max>0.2",
        "5m",
        counter("alerts_open", "1x9", model="m", rule="drift.psi.max>0.2", severity="critical"),
        (counter("alerts_open", "1x9", model="m", rule="drift.psi.max>0.2", severity="warning"),),
    ),
    Case(
        "EvergreenAlertStaysOpen",
        {"model": "m", "rule": "missing.max>1"},
        "m: missing.max>1 for a day",
        "1500m",
        counter("alerts_open", "1x60", model="m", rule="missing.max>1", severity="warning"),
        (counter("alerts_open", "1x20 _x3 1x40", model="m", rule="missing.max>1", severity="warning"),),
        step="30m",
    ),
    Case(
        "EvergreenApprovalWaits",
        {"model": "m"},
        "A version of m waits for approval for 5h 0m 0s",
        "300m",
        of_model("approval_asked_timestamp_seconds", "0x400"),
        (of_model("approval_asked_timestamp_seconds", "7200x400"), {}),
    ),
]


def rules() -> dict[str, dict[str, Any]]:
    """All rules, by the alert's name."""
    return {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


def promtool(*arguments: str) -> str:
    asked = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    return asked.stdout


def judged(case: Case, series: Series, expected: list[dict[str, Any]]) -> dict[str, Any]:
    """As promtool wants a test written."""
    return {
        "interval": case.step,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": expected}],
    }


def expected_of(case: Case, rule: dict[str, Any]) -> dict[str, Any]:
    annotations = {**rule["annotations"], "summary": case.summary}
    return {"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": annotations}


def test_promtool_takes_the_rules_and_the_example_of_a_configuration() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(RULES))
    assert "is valid" in promtool("check", "config", str(FOLDER / "prometheus.yml"))


def test_every_rule_has_series_on_which_it_fires_and_others_on_which_it_does_not() -> None:
    assert {case.alert for case in CASES} == rules().keys()
    assert all(case.quiet for case in CASES)


@pytest.mark.parametrize("step", ["1m", "30m"])
def test_each_rule_fires_when_it_should_and_else_not(tmp_path: Path, step: str) -> None:
    known, tests = rules(), []
    for case in (case for case in CASES if case.step == step):
        tests.append(judged(case, case.fires, [expected_of(case, known[case.alert])]))
        tests += [judged(case, series, []) for series in case.quiet]
    asked = {"rule_files": [str(RULES)], "evaluation_interval": step, "tests": tests}
    (tmp_path / "tests.yml").write_text(json.dumps(asked))  # JSON is YAML
    promtool("test", "rules", str(tmp_path / "tests.yml"))
