"""The spec's `rollout`, and what of `serving` and `features` the ledger gets: what is refused, and what comes of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from evergreen.core.ports import Ledger
from evergreen.core.records import RolloutPlan, ServingSettings
from evergreen.core.train_key import training_part
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.steps.publish_settings import publish_settings
from records import make_spec

MINUTE = timedelta(minutes=1)


def test_a_spec_without_one_has_no_plan_and_an_empty_one_has_sensible_stages() -> None:
    assert make_spec().rollout is None
    made = make_spec(rollout={}).rollout
    assert made is not None
    assert made.plan == RolloutPlan(5 * MINUTE, (5, 25, 50), 5 * MINUTE, 10 * MINUTE, 200, error_rate=0.01)


def test_what_is_declared_is_the_plan() -> None:
    limits = {"error_rate": None, "latency_p99_ms": 50, "prediction_psi": 0.3}
    declared = {"shadow": "0s", "canary": [1, 99], "step": "90s", "bake": "1h", "min_requests": 7}
    made = make_spec(rollout={**declared, "rollback_if": limits}).rollout
    assert made is not None
    plan = RolloutPlan(timedelta(0), (1, 99), timedelta(seconds=90), 60 * MINUTE, 7, None, 50, 0.3)
    assert made.plan == plan


@pytest.mark.parametrize(
    ("rollout", "told"),
    [
        ({"shadow": "0s", "canary": [], "bake": "0s"}, "found no shadow, no canary and no bake; allowed: at least one"),
        ({"canary": [5, 100]}, "found 100; allowed: 1 to 99. All callers at once is bake"),
        ({"canary": [0, 5]}, "found 0; allowed: 1 to 99"),
        ({"canary": [25, 5]}, "found 5 after 25; allowed: percentages that rise"),
        ({"canary": [5, 5]}, "found 5 after 5"),
        ({"canary": ["5"]}, "valid integer"),
        ({"min_requests": 0}, "greater than or equal to 1"),
        ({"rollback_if": {"error_rate": 1.5}}, "less than or equal to 1"),
        ({"rollback_if": {"latency_p99_ms": 0}}, "greater than 0"),
        ({"weights": [5]}, "Extra inputs"),
    ],
)
def test_what_is_no_rollout_is_refused(rollout: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make_spec(rollout=rollout)


@pytest.mark.parametrize(
    ("names", "told"),
    [(["z"], "'z', which is not in features.columns"), (["x", "x"], "'x' a second time")],
)
def test_not_logged_names_features(names: list[str], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make_spec(features={"columns": ["x", "w"], "not_logged": names})


@pytest.mark.parametrize("serving", [{"log_sample": 1.1}, {"log_sample": -0.1}, {"max_concurrent": 0}])
def test_serving_has_its_limits(serving: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_spec(serving=serving)


def test_how_a_version_is_released_and_logged_is_no_reason_to_train_again() -> None:
    before = training_part(make_spec())
    features = {"columns": ["x"], "not_logged": ["x"]}
    serving = {"pinned": True, "log_sample": 0.5, "max_concurrent": 8}
    assert training_part(make_spec(rollout={}, features=features, serving=serving)) == before


# ---------------------------------------------------------------- settings in the ledger


@pytest.fixture
def ledger() -> Ledger:
    return in_memory_ledger()


def test_the_ledger_has_the_settings_of_each_valid_spec(ledger: Ledger) -> None:
    features = {"columns": ["x", "w"], "not_logged": ["w"]}
    serving = {"pool": "fast", "pinned": True, "log_sample": 0.25, "max_concurrent": 8}
    specs = {"m": make_spec(), "n": make_spec(name="n", features=features, serving=serving)}
    assert publish_settings(ledger, specs) == [f"{name}: serving has its new settings" for name in ("m", "n")]
    assert ledger.settings.of("default") == {"m": ServingSettings("m", "default")}
    assert ledger.settings.of("fast") == {"n": ServingSettings("n", "fast", True, 0.25, ("w",), 8)}


def test_only_what_changes_is_written_and_what_has_no_spec_stays(ledger: Ledger) -> None:
    publish_settings(ledger, {"m": make_spec(), "n": make_spec(name="n")})
    assert publish_settings(ledger, {"m": make_spec(), "n": make_spec(name="n")}) == []
    moved = {"n": make_spec(name="n", serving={"pool": "fast"})}
    assert publish_settings(ledger, moved) == ["n: serving has its new settings"]
    assert (list(ledger.settings.of("default")), list(ledger.settings.of("fast"))) == (["m"], ["n"])


def test_what_the_metrics_page_shows_of_the_rules_is_among_them(ledger: Ledger) -> None:
    missing = {"name": "missing.max", "above": 0.1}
    watched = {
        "fresh_within": "36h",
        "alerts": [missing, {"name": "volume.rows", "below": 5}, {**missing, "above": 0.5}],
    }
    publish_settings(ledger, {"m": make_spec(monitoring=watched)})
    found = ledger.settings.of("default")["m"]
    assert (found.fresh_within, found.rule_metrics) == (129_600, ("missing.max", "volume.rows"))
