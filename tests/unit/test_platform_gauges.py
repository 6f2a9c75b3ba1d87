"""What the ledger knows of the platform, on serving's metrics page."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from evergreen.core.heartbeats import MONITOR, RECONCILER, SCHEDULER
from evergreen.core.ports import Ledger
from evergreen.core.records import Alert, MetricPoint, RuleState, ServingSettings, Severity
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.runs import InMemoryRuns
from evergreen.serving.cgroup import memory_limit
from evergreen.serving.platform_families import PLATFORM_FAMILIES
from evergreen.serving.replica.platform_gauges import PlatformGauges, samples_of
from evergreen.serving.state import PLATFORM, Platform, read
from evergreen.serving.web.pages import STALE, platform_samples
from evergreen.steps.hear_scheduler import hear_scheduler
from ledgers import passed, release
from records import NOW, WATERMARK, make_request_args

MINUTE = timedelta(minutes=1)
AT = NOW.timestamp()


@pytest.fixture
def ledger() -> Ledger:
    made = in_memory_ledger()
    release(made, passed(made, 1, seen=0))
    return made


class Gone:
    """Alerts in a ledger that has gone away."""

    def open_ones(self) -> list[Alert]:
        raise ConnectionError("server closed the connection")


def told(ledger: Ledger, family: str, now: datetime = NOW) -> list[tuple[dict[str, str], float]]:
    return [(labels, value) for name, labels, value in samples_of(ledger, "default", now) if name == family]


def open_alert(ledger: Ledger, rule: str, slice: str = "", severity: Severity = Severity.WARNING) -> None:
    metric, limit = rule.split(">")
    made = Alert(
        f"{rule}{slice}",
        "m",
        f"{rule}[{slice}]",
        metric,
        slice,
        severity,
        1,
        1.0,
        float(limit),
        "above",
        "1d",
        900,
        NOW,
        1.0,
    )
    ledger.alerts.open(made, RuleState("m", f"{rule}[{slice}]"))


def test_alerts_are_counted_by_rule_and_no_value_of_a_slice_becomes_a_label(ledger: Ledger) -> None:
    open_alert(ledger, "drift.psi.max>0.2", severity=Severity.CRITICAL)
    for carrier in ("UA", "DL", "AA"):
        open_alert(ledger, "volume.rows>5", f"carrier={carrier}")
    assert told(ledger, "evergreen_alerts_open") == [
        ({"model": "m", "rule": "drift.psi.max>0.2", "severity": "critical"}, 1),
        ({"model": "m", "rule": "volume.rows>5[carrier]", "severity": "warning"}, 3),
    ]


def test_a_part_that_must_run_and_was_never_heard_of_is_told_as_0(ledger: Ledger) -> None:
    family = "evergreen_heartbeat_timestamp_seconds"
    ledger.heartbeats.beat(MONITOR, "", NOW)
    assert told(ledger, family) == [({"part": RECONCILER}, 0), ({"part": MONITOR}, AT)]
    runs = InMemoryRuns()
    assert hear_scheduler(ledger, runs) == []  # it has not begun yet
    assert len(told(ledger, family)) == 2
    runs.heard_at = NOW - MINUTE
    hear_scheduler(ledger, runs)
    assert told(ledger, family)[2] == ({"part": SCHEDULER}, AT - 60)


def test_of_approvals_the_number_and_the_one_that_has_waited_for_longest(ledger: Ledger) -> None:
    for version, asked in ((2, NOW), (3, NOW - MINUTE)):
        candidate = passed(ledger, version, seen=1)
        ends = NOW + 60 * MINUTE
        ledger.approvals.ask(candidate, request_id=f"r{version}", run_id="run", expires_at=ends, now=asked)
    assert told(ledger, "evergreen_approvals_open") == [({"model": "m"}, 2)]
    assert told(ledger, "evergreen_approval_asked_timestamp_seconds") == [({"model": "m"}, AT - 60)]


def test_requests_are_told_by_state_also_those_that_nobody_waits_in(ledger: Ledger) -> None:
    first = ledger.requests.open(**make_request_args())
    ledger.requests.put_off(first.id, until=None, reason="cooldown", now=NOW)
    ledger.requests.open(**make_request_args(dedupe_key="another"))
    found = told(ledger, "evergreen_trigger_requests_open")
    assert found == [({"state": "open"}, 1), ({"state": "claimed"}, 0), ({"state": "queued"}, 1)]


def test_of_a_model_its_release_its_data_and_how_old_that_may_be(ledger: Ledger) -> None:
    assert told(ledger, "evergreen_model_released_timestamp_seconds") == [({"model": "m"}, AT)]
    assert told(ledger, "evergreen_model_data_timestamp_seconds") == []
    assert told(ledger, "evergreen_model_fresh_within_seconds") == []
    ledger.requests.open(**make_request_args(model="m", watermark=WATERMARK))
    ledger.settings.put(ServingSettings("m", "default", fresh_within=3600.0))
    assert told(ledger, "evergreen_model_data_timestamp_seconds") == [({"model": "m"}, WATERMARK.timestamp())]
    assert told(ledger, "evergreen_model_fresh_within_seconds") == [({"model": "m"}, 3600)]


def test_models_of_another_pool_are_told_by_that_pool(ledger: Ledger) -> None:
    release(ledger, passed(ledger, 1, seen=0, model="n"), pool="other")
    assert told(ledger, "evergreen_model_released_timestamp_seconds") == [({"model": "m"}, AT)]


def test_the_newest_values_of_what_rules_name_of_all_rows_of_the_version_that_answers(ledger: Ledger) -> None:
    ledger.settings.put(ServingSettings("m", "default", rule_metrics=("drift.psi.max", "age.data_hours")))
    point = MetricPoint("m", 1, "drift.psi.max", "", NOW - 5 * MINUTE, NOW, 0.3, 900, NOW)
    older = replace(point, start=NOW - 10 * MINUTE, end=NOW - 5 * MINUTE, value=0.1)
    others = [
        replace(point, version=2),
        replace(point, slice="carrier=UA"),
        replace(point, name="volume.rows"),
    ]
    ledger.points.put([point, older, *others, replace(point, version=0, name="age.data_hours", value=2.0)])
    assert told(ledger, "evergreen_monitor_value") == [
        ({"model": "m", "metric": "age.data_hours"}, 2.0),
        ({"model": "m", "metric": "drift.psi.max"}, 0.3),
    ]
    assert told(ledger, "evergreen_monitor_value", NOW + timedelta(hours=2)) == []


def test_a_ledger_that_is_away_leaves_what_was_read_and_is_opened_anew(tmp_path: Path, ledger: Ledger) -> None:
    openings: list[Ledger | Exception] = [ConnectionError("no route"), replace(ledger, alerts=Gone()), ledger]

    def open_ledger() -> Ledger:
        if isinstance(found := openings.pop(0), Exception):
            raise found
        return found

    gauges = PlatformGauges("default", tmp_path, open_ledger)
    for _ in range(2):
        gauges.read(NOW)
        assert read(tmp_path / PLATFORM, Platform) is None
    gauges.read(NOW)
    gauges.read(NOW + MINUTE)  # by the one that is open
    kept = read(tmp_path / PLATFORM, Platform)
    assert kept is not None
    assert kept.read_at == AT + 60
    assert "evergreen_model_released_timestamp_seconds" in kept.samples


def test_what_was_read_is_shown_until_it_is_old_and_its_time_for_ever() -> None:
    kept = Platform(AT, {"evergreen_approvals_open": ['evergreen_approvals_open{model="m"} 2']})
    time = {"evergreen_ledger_read_timestamp_seconds": [f"evergreen_ledger_read_timestamp_seconds {AT:.0f}"]}
    assert platform_samples(kept, AT + STALE - 1) == [time, kept.samples]
    assert platform_samples(kept, AT + STALE) == [time]
    never = {"evergreen_ledger_read_timestamp_seconds": ["evergreen_ledger_read_timestamp_seconds 0"]}
    assert platform_samples(Platform(), AT) == [never]


def test_every_sample_has_its_family_and_every_family_a_sample(ledger: Ledger) -> None:
    open_alert(ledger, "drift.psi.max>0.2")
    ledger.approvals.ask(passed(ledger, 2, seen=1), request_id="r", run_id="run", expires_at=NOW + MINUTE, now=NOW)
    ledger.requests.open(**make_request_args(model="m", watermark=WATERMARK))
    ledger.settings.put(ServingSettings("m", "default", fresh_within=60.0, rule_metrics=("drift.psi.max",)))
    ledger.points.put([MetricPoint("m", 1, "drift.psi.max", "", NOW - MINUTE, NOW, 0.3, 900, NOW)])
    found = {family for family, _, _ in samples_of(ledger, "default", NOW)}
    assert found == PLATFORM_FAMILIES.keys() - {"evergreen_ledger_read_timestamp_seconds"}


@pytest.mark.parametrize(("text", "limit"), [("536870912\n", 536870912), ("max\n", None), (None, None)])
def test_the_memory_limit_is_what_the_kernel_says(tmp_path: Path, text: str | None, limit: int | None) -> None:
    if text:
        (tmp_path / "memory.max").write_text(text)
    assert memory_limit(tmp_path) == limit
