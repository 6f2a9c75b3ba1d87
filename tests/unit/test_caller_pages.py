"""Ground truth, the OpenAPI description and its page, asked of the application without a network."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from tests.loaded import flights, numeric

from evergreen.core.records import Truth, UserMetric
from evergreen.serving.callers import OPEN
from evergreen.serving.inference_id import inference_ids
from evergreen.serving.log.answer_log import NoLog
from evergreen.serving.metrics import Metrics
from evergreen.serving.refusals import refuse
from evergreen.serving.web.caller_pages import CallerPages
from evergreen.serving.web.docs_page import HEADERS, PAGE
from evergreen.serving.web.openapi import document

TRUTH, METRICS = "/models/flight-delay/ground-truth", "/models/flight-delay/metrics"
POSTED = {"metrics": [{"name": "revenue_per_call", "value": 1.2}]}


class Kept(NoLog):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.truths: list[tuple[str, Truth]] = []
        self.metrics: list[tuple[str, UserMetric]] = []

    def add_truth(self, model: str, records: Sequence[Truth]) -> None:
        self.truths += [(model, record) for record in records]

    def add_metrics(self, model: str, records: Sequence[UserMetric]) -> None:
        self.metrics += [(model, record) for record in records]


class Table:
    """As much of a ModelTable as the pages look at; `callers`: tokens are asked for."""

    def __init__(self, callers: object = None) -> None:
        model = flights()
        self.models, self.answering = {model.name: model}, {model.name: model.release}
        self.metrics, self.callers = Metrics(), callers

    async def awake(self, name: str) -> Any:
        if name in self.models:
            return self.models[name]
        raise refuse(404, f"model '{name}'", found="no such model here", allowed="'flight-delay'", do="Look.")


def asked(
    method: str, path: str, *, log: Any = None, on_loopback: bool = True, tokens: bool = False, **kind: Any
) -> Any:
    table: Any = Table(object() if tokens else None)
    pages = CallerPages(table, log or Kept(), "0.1.0", 5_000, on_loopback=on_loopback)

    async def one() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=pages.routes()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            return await client.request(method, path, **kind)

    return asyncio.run(one())


def told(count: int = 1) -> dict[str, Any]:
    return {"records": [{"inference_id": one, "label": 1} for one in inference_ids(count)]}


def test_ground_truth_is_kept_and_answered_with_its_count() -> None:
    log, body = Kept(), told(2)
    response = asked("POST", TRUTH, log=log, json=body)
    assert (response.status_code, response.json()) == (202, {"accepted": 2})
    assert [(model, truth.inference_id, truth.label) for model, truth in log.truths] == [
        ("flight-delay", record["inference_id"], 1.0) for record in body["records"]
    ]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"on_loopback": False}, 403),
        ({"headers": {"host": "attacker.example"}}, 403),
        ({"headers": {"content-type": "text/plain"}}, 415),
        ({"headers": {"content-encoding": "gzip"}}, 415),
        ({"json": told(100)}, 413),
        ({"json": {"records": [{"inference_id": "7", "label": 1}]}}, 422),
        ({"log": NoLog()}, 503),
    ],
)
def test_ground_truth_that_is_not_kept(changed: dict[str, Any], status: int) -> None:
    log = Kept()
    response = asked("POST", TRUTH, **{"log": log, "json": told(), **changed})
    assert response.status_code == status
    assert response.json()["error"]["problems"]
    assert log.truths == []


def test_ground_truth_of_an_unknown_model_and_by_those_with_tokens() -> None:
    assert asked("POST", "/models/nobody/ground-truth", json=told()).status_code == 404
    assert asked("POST", TRUTH, json=told(), tokens=True, on_loopback=False).status_code == 202


def test_a_million_labels_in_one_post_are_refused_before_they_are_read() -> None:
    """Announced or not: no more than the limit is taken into memory, and the answer says what to do instead."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1_000_000):
            sent += 1
            yield b'{"inference_id": "01890a5d-ac96-774b-bcce-b302099a8057", "label": 1},'

    headers = {"content-type": "application/json"}
    response = asked("POST", TRUTH, content=chunks(), headers=headers)
    assert response.status_code == 413
    assert sent < 200
    (problem,) = response.json()["error"]["problems"]
    assert (problem["found"], problem["allowed"]) == ("more than 5000 bytes", "at most 5000 bytes")
    assert "evergreen ground-truth" in problem["do"]
    response = asked("POST", TRUTH, content=b"{}", headers={**headers, "content-length": "70000000"})
    assert (response.status_code, response.json()["error"]["problems"][0]["found"]) == (413, "70000000 bytes")


def test_metrics_of_users_are_kept_under_the_name_that_rules_have() -> None:
    log = Kept()
    response = asked("POST", METRICS, log=log, json=POSTED)
    assert (response.status_code, response.json()) == (202, {"accepted": 1})
    ((model, one),) = log.metrics
    assert (model, one.name, one.value) == ("flight-delay", "user.revenue_per_call", 1.2)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"on_loopback": False}, 403),
        ({"headers": {"content-type": "text/plain"}}, 415),
        ({"json": {"metrics": POSTED["metrics"] * 200}}, 413),
        ({"json": {"metrics": [{"name": "a b", "value": 1}]}}, 422),
        ({"log": NoLog()}, 503),
    ],
)
def test_metrics_that_are_not_kept(changed: dict[str, Any], status: int) -> None:
    log = Kept()
    response = asked("POST", METRICS, **{"log": log, "json": POSTED, **changed})
    assert response.status_code == status
    assert response.json()["error"]["problems"]
    assert log.metrics == []
    assert asked("POST", "/models/nobody/metrics", json=POSTED).status_code == 404


# ------------------------------------------------------------ OpenAPI


def test_the_document_holds_the_features_of_each_model() -> None:
    found = asked("GET", "/openapi.json").json()
    record = found["components"]["schemas"]["flight-delay.record"]
    assert record["required"] == ["distance", "hour", "carrier"]
    assert record["properties"]["carrier"]["examples"] == ["AA", "DL", "UA"]
    assert "/v2/models/flight-delay/versions/7/infer" in found["paths"]


def test_every_reference_leads_somewhere() -> None:
    found = document([flights("refuse"), numeric(classes=3)], "0.1.0")
    text = json.dumps(found)
    for part in text.split('"$ref": "#/')[1:]:
        at: Any = found
        for step in part.split('"')[0].split("/"):
            at = at[step]
        assert at
    assert found["components"]["schemas"]["flight-delay.record"]["required"] == ["distance", "hour"]


def test_one_model_alone_or_none_of_that_name() -> None:
    assert asked("GET", "/openapi.json?model=flight-delay").status_code == 200
    response = asked("GET", "/openapi.json?model=nobody")
    assert (response.status_code, response.json()["error"][:14]) == (404, "model 'nobody'")


# ------------------------------------------------------------ the page


class Outside(HTMLParser):
    """Collects what a page would load or link to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action")]


def test_the_page_needs_no_internet_and_runs_its_own_script_alone() -> None:
    page = asked("GET", "/docs")
    assert page.content == PAGE
    outside = Outside()
    outside.feed(page.text)
    assert outside.links == ["/openapi.json"]
    assert "//" not in page.text.replace("<!doctype", "")
    script = page.text.split("<script>")[1].split("</script>")[0]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.headers["content-security-policy"]
    assert page.headers["content-security-policy"] == HEADERS["content-security-policy"]


def test_the_page_is_open_and_tells_nothing_of_the_models() -> None:
    assert "/docs" in OPEN
    assert "/openapi.json" not in OPEN
    assert b"flight" not in PAGE
