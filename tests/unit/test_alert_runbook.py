"""The alert rules for Prometheus beside what they speak of: the metrics that serving tells, and the runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from evergreen.serving.metrics import FAMILIES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "prometheus"
RUNBOOK = ROOT / "docs" / "runbook.md"
OF_A_HISTOGRAM = ("_bucket", "_count", "_sum")
PARTS = ("**Means**", "**Look**", "**Do**", "**Wake**")


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load((FOLDER / "evergreen-alerts.yml").read_text())
    return [rule for group in found["groups"] for rule in group["rules"]]


def entries() -> dict[str, str]:
    """The runbook's sections by their anchors, as GitHub makes them."""
    sections = re.split(r"^#+ ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    return {_anchor(text.partition("\n")[0]): text for text in sections}


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def series_of(expression: str) -> set[str]:
    return set(re.findall(r"\bevergreen_\w+", expression))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (ROOT / page, anchor) == (RUNBOOK, rule["alert"].lower())
    entry = entries()[anchor]
    assert [part for part in PARTS if part not in entry] == []


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_goes_by_what_serving_tells(rule: dict[str, Any]) -> None:
    found = series_of(rule["expr"])
    assert found or "up{" in rule["expr"]
    for name in found:
        base = next((name.removesuffix(end) for end in OF_A_HISTOGRAM if name.endswith(end)), name)
        assert base in FAMILIES, name
        assert (FAMILIES[base][0] == "histogram") == (base != name), name
        if FAMILIES[base][0] == "counter":
            assert re.search(rf"(rate|increase)\({name}\b", rule["expr"]), name


def test_an_entry_is_of_a_rule_that_is_there() -> None:
    assert {anchor for anchor in entries() if anchor.startswith("evergreen")} == {r["alert"].lower() for r in rules()}


def test_the_example_of_a_configuration_gives_the_labels_that_rules_go_by() -> None:
    (scraped,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert scraped["job_name"] == "evergreen-serving"
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for group in scraped["static_configs"]:
        assert set(group["labels"]) == {"pool"}
        assert {target.partition(":")[0] for target in group["targets"]} <= services.keys()
