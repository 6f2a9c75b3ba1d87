"""The Models pages: behind Airflow's sign-in, escaped, bounded to what the evidence names, and light to import."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.judgements import make_judgement
from tests.ledgers import prepare, release
from tests.records import make_candidate, make_request_args, make_snapshot, make_spec, make_verdict

from evergreen.adapters.ledger import open_ledger
from evergreen.core import data_docs, refitting
from evergreen.core import evidence as ev
from evergreen.core import logged_parts as parts
from evergreen.core.catalog import Catalog
from evergreen.core.metrics import Task
from evergreen.core.reconciling import RECONCILER, Trouble, detail_of
from evergreen.core.records import (
    Alert,
    ApprovalState,
    ArmCount,
    CandidateState,
    Cause,
    GateResult,
    GateState,
    MetricPoint,
    RequestState,
    RolloutPlan,
    RolloutState,
    RuleState,
    Severity,
    SliceResult,
    Trip,
    TripKind,
)
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.predictions import InMemoryPredictions
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.store import InMemoryStore
from evergreen.steps.report import report

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="evergreen-airflow-"))  # before Airflow is imported
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")  # Airflow imports starlette's test client
NOW = datetime.now(UTC)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
EVIL = '<script>alert("x")</script>'
PATHS = [
    "/evergreen/",
    "/evergreen/models/m",
    "/evergreen/models/m/versions/2",
    "/evergreen/models/m/versions/2/by_period.svg",
    "/evergreen/models/m/versions/2/report",
    "/evergreen/files/pages.css",
    "/evergreen/files/framed.js",
    "/evergreen/files/icon.svg",
    "/evergreen/models/m/releases/1",
    "/evergreen/models/m/snapshots/snap-1",
    "/evergreen/models/m/data-docs/4711",
    "/evergreen/answers",
    "/evergreen/models/unknown",
    "/evergreen/openapi.json",
    "/evergreen/docs",
    "/evergreen/anything/else",
]


class World:
    """A ledger, a store and specs that a test fills; the pages over them, mounted as Airflow mounts them."""

    def __init__(self) -> None:
        self.ledger, self.store, self.registry = in_memory_ledger(), InMemoryStore(), FakeRegistry()
        self.specs = {"m": make_spec()}
        self.predictions = InMemoryPredictions()
        self.mlflow = "http://mlflow:5000"

    def app(self, *, signed_in: bool = True, role: str | None = "viewer") -> Any:
        from airflow.api_fastapi.app import create_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from airflow.api_fastapi.core_api.security import get_user
        from fastapi import FastAPI

        from evergreen.ui.app import build_app
        from evergreen.ui.platform import Platform

        pages = build_app(
            Platform(
                catalog=lambda only: Catalog(self.specs),
                ledger=lambda: self.ledger,
                store=lambda: self.store,
                predictions=lambda: self.predictions,
                mlflow_url=self.mlflow,
            )
        )
        create_auth_manager()  # Airflow's simple one
        if signed_in:
            pages.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="anna", role=role)
        outer = FastAPI()
        outer.mount("/evergreen", pages)
        return outer

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        signed_in: bool = True,
        role: str | None = "viewer",
        root: str = "",
        **more: Any,
    ) -> httpx.Response:
        async def asked() -> httpx.Response:
            app = self.app(signed_in=signed_in, role=role)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path=root)
            async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
                return await client.request(method, f"{root}{path}", **more)

        return asyncio.run(asked())

    def judged(self, version: int = 2, *, task: Task = Task.BINARY, champion: bool = True, **verdict: Any) -> None:
        """A candidate with a verdict and evidence, as judge leaves it."""
        request = self.ledger.requests.open(**make_request_args(dedupe_key=f"r{version}", run_id=f"run {version}"))
        run = self.registry.start_run("m", request.id, {})
        made = make_candidate(version=version, request_id=request.id, mlflow_run=run)
        self.ledger.models.add_candidate(made)
        told = make_verdict(**verdict)
        state = CandidateState.PASSED if told.passed else CandidateState.REJECTED
        candidate = self.ledger.models.judge("m", version, verdict=told, state=state, generation_seen=0)
        judgement = make_judgement(task, champion=champion, candidate=candidate, verdict=told)
        charts = ["by_period", "calibration", "shifts", "slices", "roc", "pr", "residuals", "confusion"]
        report(judgement, self.registry, self.store, lambda evidence: {f"{name}.svg": SVG for name in charts})

    def released(self, version: int = 1) -> None:
        request = self.ledger.requests.open(**make_request_args(dedupe_key=f"r{version}", run_id=f"run {version}"))
        self.ledger.models.add_candidate(make_candidate(version=version, request_id=request.id))
        verdict = make_verdict()
        candidate = self.ledger.models.judge(
            "m", version, verdict=verdict, state=CandidateState.PASSED, generation_seen=version - 1
        )
        at = NOW - timedelta(hours=5)
        release(self.ledger, candidate, released_by="ada", reason="looked good", watermark=None, now=at)
        self.ledger.requests.mark(request.id, now=NOW, state=RequestState.SERVED, reason=f"released version {version}")


@pytest.fixture
def world() -> World:
    return World()


class Sound(HTMLParser):
    """Fails on a tag that is not closed, and collects links and identifiers."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [found[name] for name in ("href", "src") if found.get(name)]
        self.ids += [found["id"]] if found.get("id") else []
        assert not [name for name in found if name.startswith("on") or name == "style"], found
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(answer: httpx.Response, status: int = 200) -> tuple[str, Sound]:
    assert answer.status_code == status, answer.text
    return answer.text, Sound(answer.text)


# ---------------------------------------------------------------- who may see them


@pytest.mark.parametrize("path", PATHS)
def test_nobody_sees_anything_without_signing_in(world, path):
    world.judged()
    answer = world.ask(path, signed_in=False)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Not authenticated"}


def test_a_browser_that_is_not_signed_in_is_shown_where(world):
    answer = world.ask(PATHS[2], signed_in=False, headers={"accept": "text/html"})
    text, sound = page(answer, 401)
    assert sound.links == ["/api/v2/auth/login?next=/evergreen/models/m/versions/2"]
    style = re.search("<style>(.*)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", PATHS)
def test_nobody_sees_anything_without_a_role(world, path):
    world.judged()
    answer = world.ask(path, role=None)
    assert answer.status_code == 403
    assert answer.json() == {"detail": "No role of yours may read the Models pages"}


def test_a_browser_without_a_role_is_told_whom_to_ask(world):
    text, sound = page(world.ask(PATHS[1], role=None, headers={"accept": "text/html"}), 403)
    assert "Ask an admin for the role Viewer" in text
    assert sound.links == ["/"]


def test_every_route_asks_who_is_there_and_none_changes_anything(world):
    from fastapi.routing import APIRoute

    from evergreen.ui.app import may_read

    pages = next(route.app for route in world.app().routes if getattr(route, "path", "") == "/evergreen")
    assert len(pages.routes) >= 6
    for route in pages.routes:
        assert isinstance(route, APIRoute)  # no mounted folder of files, no websocket
        assert may_read in [dependency.call for dependency in route.dependant.dependencies], route.path
        assert route.methods <= {"GET", "HEAD"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", PATHS[:4])
def test_no_other_method_is_taken(world, path, method):
    assert world.ask(path, method=method).status_code == 405


def test_the_pages_may_run_and_fetch_only_their_own(world):
    answer = world.ask("/evergreen/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'self'" in policy
    assert answer.headers["cache-control"] == "no-store"


# ---------------------------------------------------------------- what they show


def test_the_models_page_has_one_row_a_model(world):
    world.specs["other"] = make_spec(name="other")
    world.released()
    world.ledger.holds.place("m", by="bob", reason="storm", now=NOW)
    text, sound = page(world.ask("/evergreen/"))
    assert "/evergreen/models/m" in sound.links
    assert "/evergreen/models/m/versions/1" in sound.links
    assert "/evergreen/models/other" in sound.links
    assert "none yet" in text
    assert "bob: storm" in text
    assert "5 h" in text
    assert "released version 1" in text


def test_the_models_page_says_when_the_reconciler_is_silent_or_something_of_it_fails(world):
    assert "Nothing heard from the reconciler yet" in page(world.ask("/evergreen/"))[0]
    world.ledger.heartbeats.beat(RECONCILER, detail_of({}), datetime.now(UTC))
    assert "reconciler" not in page(world.ask("/evergreen/"))[0]
    trouble = Trouble("aliases", NOW - timedelta(minutes=5), EVIL)
    world.ledger.heartbeats.beat(RECONCILER, detail_of({"aliases": trouble}), datetime.now(UTC))
    answer = world.ask("/evergreen/")
    assert "The reconciler: aliases fails since" in page(answer)[0]
    assert EVIL not in answer.text


def test_an_open_question_is_linked_to_where_it_is_answered(world):
    world.released()
    world.judged()
    candidate = world.ledger.models.candidate("m", 2)
    ask = {"request_id": candidate.request_id, "run_id": "run 2", "expires_at": NOW + timedelta(hours=1), "now": NOW}
    world.ledger.approvals.ask(candidate, **ask)
    answered = "/dags/m/runs/run%202/tasks/approve/required_actions"
    for path in PATHS[:3]:
        assert answered in page(world.ask(path))[1].links, path


def test_no_model_at_all_says_how_to_begin(world):
    world.specs = {}
    assert "evergreen new" in page(world.ask("/evergreen/"))[0]


def test_a_model_s_page_tells_who_was_champion_and_why(world):
    world.released(1)
    world.released(2)
    world.judged(3, passed=False, reason="auc 0.5 is below 0.6")
    text, sound = page(world.ask("/evergreen/models/m"))
    history = text.partition('<h2 id="history">')[2]
    assert text.partition('<h2 id="rollouts">')[0].count("looked good") == 2  # twice as champion
    assert history.count("looked good") == 5  # prepared and released twice, replaced once
    assert "auc 0.5 is below 0.6" in text
    assert "/dags/rollback" in sound.links
    assert "/dags/m" in sound.links
    assert "/evergreen/models/m/versions/3#by-period" in sound.links
    assert "/evergreen/models/m/versions/2#by-period" not in sound.links  # it has no evidence


def test_open_requests_tell_their_cause_and_until_when_they_are_put_off(world):
    facts = {"metric": "drift.psi.max", "value": 0.31, "threshold": 0.2, "direction": "above", "window": "7d"}
    detail = {**facts, "rows": 12000}
    metric = make_request_args(cause=Cause.METRIC, dedupe_key="metric", run_id=None, detail=detail, now=NOW)
    waits = world.ledger.requests.open(**metric)
    until = NOW + timedelta(hours=3)
    world.ledger.requests.put_off(waits.id, until=until, reason="cooldown: 6h since the last retrain", now=NOW)
    runs = world.ledger.requests.open(**make_request_args(dedupe_key="r", run_id="run 5", now=NOW))
    world.ledger.requests.mark(runs.id, now=NOW, state=RequestState.CLAIMED, step="train")
    text, sound = page(world.ask("/evergreen/models/m"))
    told = text.partition('<h2 id="requests">')[2].partition("<h2")[0]
    assert "metric drift.psi.max is 0.31, above 0.2, over 7d and 12,000 rows" in told
    assert "put off: cooldown: 6h since the last retrain" in told
    assert f"{until:%Y-%m-%d %H:%M} UTC" in told
    assert "running train" in told
    assert "/dags/m/runs/run%205" in sound.links
    world.ledger.requests.mark(waits.id, now=NOW, state=RequestState.EXPIRED)
    world.ledger.requests.mark(runs.id, now=NOW, state=RequestState.FAILED)
    assert "Open requests" not in page(world.ask("/evergreen/models/m"))[0]


def test_rollouts_and_approvals_are_told_with_all_that_came_of_them(world):
    world.released(1)
    world.released(2)
    world.judged(3)
    candidate = world.ledger.models.candidate("m", 3)
    ask = {"request_id": candidate.request_id, "run_id": "run 3", "expires_at": NOW + timedelta(hours=1), "now": NOW}
    asked = world.ledger.approvals.ask(candidate, **ask, overrides="auc by carrier")
    reason = "version 4 came before an answer"
    world.ledger.approvals.answer(asked.id, state=ApprovalState.SUPERSEDED, by=None, reason=reason, now=NOW)
    passed = world.ledger.models.judge("m", 3, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=2)
    aborted = prepare(world.ledger, passed, released_by="bob", now=NOW)
    world.ledger.releases.abort(aborted.id, by="cy", reason="the wrong month", now=NOW)
    text, sound = page(world.ask("/evergreen/models/m"))
    rollouts = text.partition('<h2 id="rollouts">')[2].partition("<h2")[0]
    assert re.findall(r'class="state ([a-z-]+)"', rollouts) == ["aborted", "live", "replaced"]
    assert "aborted by cy: the wrong month" in rollouts
    assert f"/evergreen/models/m/releases/{aborted.id}" in sound.links
    approvals = text.partition('<h2 id="approvals">')[2].partition("<h2")[0]
    assert "superseded" in approvals
    assert reason in approvals
    assert "overrides auc by carrier" in approvals


def on_trial(world):
    """Version 2 beside version 1, in its second stage, of which 120 of 200 requests have come."""
    world.released(1)
    world.judged(2)
    passed = world.ledger.models.judge("m", 2, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=1)
    plan = RolloutPlan(timedelta(minutes=5), (25,), timedelta(minutes=5), timedelta(minutes=9), 200)
    made, ago = prepare(world.ledger, passed, plan=plan, now=NOW), timedelta(minutes=1)
    shadow = world.ledger.releases.enter(made, RolloutState.SHADOW, 0, reason="its answers go nowhere", now=NOW - ago)
    canary = world.ledger.releases.enter(shadow, RolloutState.CANARY, 25, reason="it answers 25 %", now=NOW)
    latency, bins = (0, 0, 120, *[0] * 17), (120, *[0] * 9)
    for arm, faults in (("challenger", 3), ("champion", 0)):
        counted = ArmCount(canary.id, canary.stage, arm, "blue", "boot-1", 120, faults, latency, bins)
        world.ledger.trials.count([counted])
    return canary


def test_a_version_on_trial_is_told_stage_by_stage(world):
    made = on_trial(world)
    text, sound = page(world.ask("/evergreen/models/m"))
    trial = " ".join(text.partition('<h2 id="trial">')[2].partition("<h2")[0].split())
    assert "is on trial beside the champion" in trial
    assert "it answers 25 % of callers" in trial
    assert "canary-25: 120 of 200 requests" in trial
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", trial)
    assert cells[cells.index("120 of 200") :][:6] == ["120 of 200", "2.5 %", "1.99", "120", "0.0 %", "1.99"]
    assert [cell for cell in cells if cell in ("shadow", "bake")] == ["shadow", "bake"]
    assert "to come" in trial
    assert {link.partition("/dags/")[2] for link in sound.links} >= {"promote", "abort"}
    world.ledger.trials.trip(Trip(made.id, "blue", TripKind.FAULTS, "5 of 5 requests failed", NOW))
    assert "its guard took it off: 5 of 5 requests failed" in page(world.ask("/evergreen/models/m"))[0]


def test_the_models_page_says_what_is_on_trial(world):
    on_trial(world)
    text, sound = page(world.ask("/evergreen/"))
    assert "version 2 on trial" in text
    assert "canary-25, 120 of 200 requests" in text
    assert any(link.endswith("/models/m#trial") for link in sound.links)


def test_a_version_tells_where_it_came_from_with_links(world):
    world.ledger.models.add_snapshot(make_snapshot(suite="flights@abc123"))
    world.released()
    (live,) = world.ledger.releases.history("m")
    text, sound = page(world.ask("/evergreen/models/m/versions/1"))
    origin = text.partition('<h2 id="origin">')[2]
    for part in (
        f"</a> {live.id}: version 1, live since",
        "which made it; served: released version 1",
        "suite flights, sha256 abc123",
        "code not recorded: made before Evergreen kept it",
    ):
        assert part in origin, part
    for link in (
        f"/evergreen/models/m/releases/{live.id}",
        "/evergreen/models/m/snapshots/snap-1",
        "/dags/m/runs/run%201",
    ):
        assert link in sound.links, link


def test_a_release_and_a_snapshot_have_a_page_of_their_own(world):
    world.ledger.models.add_snapshot(make_snapshot())
    world.released()
    (live,) = world.ledger.releases.history("m")
    text, sound = page(world.ask(f"/evergreen/models/m/releases/{live.id}"))
    assert "Where it came from" in text
    assert "/evergreen/models/m/versions/1" in sound.links
    text, sound = page(world.ask("/evergreen/models/m/snapshots/snap-1"))
    assert "made from it: version 1" in text
    assert "/evergreen/models/m/versions/1" in sound.links


def id_of(at, end="a1"):
    """An inference id of that time."""
    told = f"{int(at.timestamp() * 1000):012x}"
    return f"{told[:8]}-{told[8:]}-7000-8000-{end:0>12}"


def logged(world, *, age=timedelta(minutes=5), **columns):
    """An answer of version 1 in the log; its inference id."""
    inference_id = id_of(NOW - age)
    release_id = world.ledger.releases.champion("m").release_id or "none"
    row = {
        parts.ID: inference_id, parts.AT: NOW - age, parts.VERSION: 1, parts.RELEASE: release_id, parts.ARM: "canary",
        parts.KEY: EVIL, parts.PREDICTION: 0.2131234, parts.UNSEEN: None, "x": 1013.25, "carrier": EVIL, "gone": None,
        **columns,
    }  # fmt: skip
    world.predictions.answers.setdefault("m", []).append(row)
    return inference_id


def test_an_answer_is_traced_from_its_features_to_its_release(world):
    world.released()
    inference_id = logged(world)
    answer = world.ask(f"/evergreen/answers?id=%20{inference_id.upper()}%20")
    text, sound = page(answer)
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", text)
    assert cells[cells.index("x") + 1] == "1013.25"
    assert cells[cells.index("gone") + 1] == "missing"
    assert "<b>0.213123</b>" in text
    assert "the version on trial (canary or bake)" in text
    assert EVIL not in text
    live = world.ledger.releases.champion("m").release_id
    assert f"/evergreen/models/m/releases/{live}" in sound.links
    assert "/evergreen/models/m/versions/1" in sound.links
    assert f"evergreen trace {inference_id}" in text
    assert "form-action 'self'" in answer.headers["content-security-policy"]


def test_an_answer_is_asked_for_by_a_form_on_the_models_page_too(world):
    for path in ("/evergreen/", "/evergreen/answers", "/evergreen/answers?id="):
        text, _ = page(world.ask(path, root="/af"))
        assert '<form class="find" action="/af/evergreen/answers" method="get"' in text, path


@pytest.mark.parametrize(
    ("age", "says"),
    [
        (timedelta(0), "ask again in a minute"),
        (timedelta(minutes=5), "It may also have been dropped"),
        (timedelta(days=400), "Rows older than retention.keep are removed"),
    ],
)
def test_an_answer_that_the_log_does_not_have_is_told_with_what_to_do(world, age, says):
    inference_id = id_of(datetime.now(UTC) - age, "b2")
    logged(world, age=NOW - datetime.now(UTC) + timedelta(minutes=5))  # another one, of today
    text, _ = page(world.ask(f"/evergreen/answers?id={inference_id}"), 404)
    assert says in text
    assert f'value="{inference_id}"' in text  # to be sent once more


def test_what_is_no_inference_id_is_told_how_one_looks(world):
    answer = world.ask("/evergreen/answers", params={"id": f"{EVIL}{'x' * 500}"})
    text, _ = page(answer, 404)
    assert "8-4-4-4-12 hexadecimal digits" in text
    assert EVIL not in text
    assert "x" * 100 not in text


@pytest.mark.parametrize(
    "path", ["m/releases/none", "m/snapshots/none", "other/releases/LIVE", "other/snapshots/snap-1"]
)
def test_a_release_or_snapshot_that_the_model_does_not_have_is_not_there(world, path):
    world.ledger.models.add_snapshot(make_snapshot())
    world.released()
    (live,) = world.ledger.releases.history("m")
    _, sound = page(world.ask(f"/evergreen/models/{path.replace('LIVE', live.id)}"), 404)
    for link in sound.links:
        assert world.ask(link).status_code != 503
    if path == "m/releases/none":
        assert f"/evergreen/models/m/releases/{live.id}" in sound.links


def test_a_held_model_says_so_and_how_to_end_it(world):
    world.released()
    world.ledger.holds.place("*", by="bob", reason="freeze", now=NOW)
    text, _ = page(world.ask("/evergreen/models/m"))
    assert "with all models" in text
    assert "evergreen release-hold --all" in text


def test_a_model_whose_spec_is_gone_is_still_shown(world):
    world.released()
    world.specs = {}
    assert "no valid spec" in page(world.ask("/evergreen/models/m"))[0]
    assert "no valid spec" in page(world.ask("/evergreen/"))[0]


@pytest.mark.parametrize(
    ("task", "ids"),
    [
        (Task.BINARY, ["roc", "precision-recall", "calibration"]),
        (Task.MULTICLASS, ["calibration", "confusion"]),
        (Task.REGRESSION, ["actual", "residuals"]),
    ],
)
def test_the_verdict_comes_first_then_every_chart_with_its_numbers(world, task, ids):
    world.judged(task=task)
    text, sound = page(world.ask("/evergreen/models/m/versions/2"))
    order = [one for one in sound.ids if one != "content"]
    assert order[:3] == ["verdict", "by-period", "changed"]
    assert set(ids) < set(order)
    assert order[-2:] == ["disagreements", "origin"]
    charts = re.findall(r"<section .*?</section>", text, re.DOTALL)
    pictures = [one for one in charts if "<img" in one]
    assert len(pictures) == len(ids) + 3
    assert all("<summary>" in one and "<table>" in one for one in pictures)
    for link in (link for link in sound.links if link.endswith(".svg") and "/models/" in link):
        assert world.ask(link).status_code == 200
    for link in (link[1:] for link in sound.links if link.startswith("#")):
        assert link in sound.ids


def test_the_numbers_of_the_evidence_are_on_the_page(world):
    world.judged()
    made = ev.evidence_of(make_judgement())
    text, _ = page(world.ask("/evergreen/models/m/versions/2"))
    period = made["by_period"][0]
    assert f"{period['candidate']['value']:.4g}" in text
    assert f"{made['shifts']['features'][0]['psi']:.3f}" in text
    assert made["disagreements"]["rows"][0]["key"] in text


def test_a_verdict_shows_each_gate_and_each_slice(world):
    slices = (SliceResult("AA", 700, GateState.FAILED, 0.5, 0.7, -0.3, -0.1, "certainly worse"),)
    gate = GateResult("auc", "drop ≤ 0.03", GateState.FAILED, None, None, rows=900, slice="carrier", slices=slices)
    world.judged(passed=False, gates=(gate,), reason="auc by carrier", ask_why="the label changed")
    text, _ = page(world.ask("/evergreen/models/m/versions/2"))
    assert "auc by carrier" in text
    assert "drop ≤ 0.03" in text
    assert "certainly worse" in text
    assert "-0.3 to -0.1" in text
    assert "the label changed" in text
    assert "Refused by its gates" in text


def test_links_lead_to_the_run_to_mlflow_and_to_the_model(world):
    world.judged()
    links = page(world.ask("/evergreen/models/m/versions/2"))[1].links
    assert "/dags/m/runs/run%202" in links
    assert "http://mlflow:5000/#/models/m/versions/2" in links
    world.mlflow = "sqlite:///mlflow.db"
    assert not [link for link in page(world.ask("/evergreen/models/m/versions/2"))[1].links if "mlflow" in link]


def test_a_version_without_evidence_still_shows_its_verdict(world):
    world.released()
    text, _ = page(world.ask("/evergreen/models/m/versions/1"))
    assert "No charts are stored" in text
    assert "≥ 0.6" in text
    assert "champion now" in text


def test_what_was_fitted_again_and_what_came_of_it_name_each_other(world):
    first = world.ledger.models.add_candidate(make_candidate(version=1, data_end=datetime(2013, 2, 20, tzinfo=UTC)))
    again = {"train_key": refitting.train_key(first), "made_with": {refitting.REFIT_OF: "1"}}
    world.ledger.models.add_candidate(replace(first, version=2, data_end=datetime(2013, 3, 1, tzinfo=UTC), **again))
    refitted = CandidateState.REFITTED
    world.ledger.models.judge("m", 1, verdict=make_verdict(), state=refitted, generation_seen=0)
    before, now = (world.ask(f"/evergreen/models/m/versions/{version}").text for version in (1, 2))
    assert "fitted again as version 2, which is released in its place" in before
    assert "refitted" in before
    assert "version 1 fitted again, on all rows until 2013-03-01 00:00 UTC, and judged as that version" in now


def test_behind_a_path_every_link_follows(world):
    world.judged()
    for path in PATHS[:3]:
        for link in page(world.ask(path, root="/airflow"))[1].links:
            assert link.startswith(("/airflow/", "#", "http://mlflow")), link


def test_what_others_wrote_is_text(world):
    world.specs = {"m": make_spec(owner=EVIL)}
    world.judged(passed=False, reason=EVIL, ask_why=EVIL)
    world.ledger.holds.place("m", by=EVIL, reason=EVIL, now=NOW)
    for path in PATHS[:3]:
        text, _ = page(world.ask(path))
        assert "alert(" in text
        assert EVIL not in text


# ---------------------------------------------------------------- what is not there


def test_an_unknown_model_helps(world):
    world.specs = {"flight-delay": make_spec(name="flight-delay")}
    _, sound = page(world.ask("/evergreen/models/flight-dely"), 404)
    assert "/evergreen/models/flight-delay" in sound.links
    page(world.ask("/evergreen/models/flight-dely/versions/1"), 404)


def test_an_unknown_version_names_those_there_are(world):
    world.judged()
    _, sound = page(world.ask("/evergreen/models/m/versions/99"), 404)
    assert "/evergreen/models/m/versions/2" in sound.links


@pytest.mark.parametrize("path", ["", "/by_period.svg"])
@pytest.mark.parametrize("version", ["99", str(2**63)])
def test_a_number_that_no_version_can_have_is_not_there(world, tmp_path, version, path):
    world.ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.judged()
    page(world.ask(f"/evergreen/models/m/versions/{version}{path}"), 404)


@pytest.mark.parametrize(
    "name",
    [
        "evidence.json",
        "secret.svg",
        "..%2F..%2F..%2Fsecret.svg",
        "%2e%2e/%2e%2e/secret.svg",
        "../../../secret.svg",
        "by_period.svg%00.svg",
        "by_period.png",
    ],
)
def test_only_charts_that_the_evidence_names_are_given(world, name):
    world.judged()
    for key in ("secret.svg", "evidence/m/2/secret.svg"):
        world.store.put(key, b"secret")
    answer = world.ask(f"/evergreen/models/m/versions/2/{name}")
    assert answer.status_code == 404
    assert "secret</" not in answer.text
    assert answer.content != b"secret"


@pytest.mark.parametrize("model", ["..", "%2e%2e", "a%2Fb", "%00", "*"])
def test_a_model_s_name_is_no_path(world, model):
    assert world.ask(f"/evergreen/models/{model}/versions/2/by_period.svg").status_code == 404


def test_a_chart_is_an_svg_that_runs_nothing(world):
    world.judged()
    answer = world.ask(PATHS[3])
    assert answer.content == SVG
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline';")


def test_a_store_that_does_not_answer_is_said_and_not_a_blank_page(world):
    world.judged()

    class Gone(InMemoryStore):
        def get(self, key: str) -> bytes:
            raise OSError("the bucket is gone")

    world.store = Gone()
    text, _ = page(world.ask("/evergreen/models/m/versions/2"), 503)
    assert "the bucket is gone" in text
    assert "Traceback" not in text


# ---------------------------------------------------------------- what the monitor found


def alert_of(**changes):
    made = Alert("a", "m", "psi", "drift.psi.max", "", Severity.CRITICAL, 1, 0.31, 0.2, "above", "1d", 900, NOW, 0.37)
    return replace(made, **changes)


def test_a_models_page_leads_from_an_alert_to_its_run_its_version_and_the_report(world):
    world.released()
    request = world.ledger.requests.open(**make_request_args(dedupe_key="metric", run_id="run 7"))
    world.ledger.models.add_candidate(make_candidate(version=2, request_id=request.id))
    world.ledger.alerts.open(alert_of(slice="carrier=UA"), RuleState("m", "psi", alert_id="a"))
    world.ledger.alerts.update("a", request_id=request.id)
    world.store.put(ev.key("m", 2, "report.html"), b"<!doctype html>")
    text, sound = page(world.ask("/evergreen/models/m"))
    assert "alerts" in sound.ids
    assert "closed-alerts" not in sound.ids
    assert "carrier UA" in text
    assert "0.37" in text
    assert "above 0.2" in text
    assert {"/dags/m/runs/run%207", "/evergreen/models/m/versions/2"} <= set(sound.links)
    assert "/evergreen/models/m/versions/2/report" in sound.links
    _, sound = page(world.ask("/evergreen/models/m/versions/2"))
    assert "/evergreen/models/m/versions/2/report" in sound.links


def test_an_alert_that_is_closed_says_why_and_names_are_escaped(world):
    world.released()
    state = RuleState("m", "psi", alert_id="a")
    world.ledger.alerts.open(alert_of(metric=EVIL, slice=f"x={EVIL}"), state)
    world.ledger.alerts.close("a", state, why=f"it went {EVIL}", value=0.1, now=NOW)
    text, sound = page(world.ask("/evergreen/models/m"))
    assert "closed-alerts" in sound.ids
    assert "alerts" not in sound.ids
    assert EVIL not in text
    assert text.count("&lt;script&gt;") >= 3


def test_metrics_are_drawn_by_period_with_their_interval_and_the_releases(world):
    world.released()
    start = NOW - timedelta(days=3)
    world.ledger.points.put(
        MetricPoint("m", 1, name, "", start + day, start + day + timedelta(days=1), value, 900, NOW, low, high)
        for day in map(timedelta, range(3))
        for name, value, low, high in (
            ("quality.realised.auc", 0.7, 0.65, 0.75),
            ("quality.realised.brier", 0.2, None, None),
            ("drift.psi.max", 0.1, None, None),
        )
    )
    text, _ = page(world.ask("/evergreen/models/m"))
    assert text.count("<svg") == 2
    assert text.count("<polygon") == 1
    assert text.count(">v1<") == 2
    assert "0.7 (0.65 to 0.75)" in text
    assert "brier" not in text


def test_a_model_without_metrics_or_a_report_says_what_makes_them(world):
    world.released()
    text, _ = page(world.ask("/evergreen/models/m"))
    assert "The monitor has written no metric since" in text
    assert "evergreen report m" in text


def test_a_report_is_served_as_it_is_with_no_right_to_fetch_or_to_run_anything(world):
    world.judged()
    world.store.put(ev.key("m", 2, "report.html"), b"<!doctype html><title>r</title>")
    answer = world.ask("/evergreen/models/m/versions/2/report")
    assert answer.content == b"<!doctype html><title>r</title>"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert "script" not in policy
    text, _ = page(world.ask("/evergreen/models/m/versions/1/report"), 404)
    assert "evergreen report m" in text
    page(world.ask("/evergreen/models/..%2Fm/versions/2/report"), 404)


def test_data_docs_of_a_stopped_run_are_linked_and_served_with_no_right_to_fetch_or_to_run_anything(world):
    world.store.put("quarantine/m/aside.parquet", b"rows")
    text, _ = page(world.ask("/evergreen/models/m"))
    assert "Data docs" not in text
    world.store.put(data_docs.key("m", "4711"), b"<!doctype html><title>d</title>")
    text, found = page(world.ask("/evergreen/models/m"))
    assert "with which validation stopped a run" in text
    assert "/evergreen/models/m/data-docs/4711" in found.links
    answer = world.ask("/evergreen/models/m/data-docs/4711")
    assert answer.content == b"<!doctype html><title>d</title>"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert "script" not in policy
    for nothing in ("m/data-docs/4712", "m/data-docs/..%2Fm%2F4711", "..%2Fm/data-docs/4711"):
        page(world.ask(f"/evergreen/models/{nothing}"), 404)


# ---------------------------------------------------------------- what they cost


HEAVY = ("great_expectations", "matplotlib", "mlflow", "numpy", "pandas", "polars", "pyarrow", "sklearn", "xgboost")
SERVE = """
import asyncio, sys
sys.path[:0] = {paths!r}
from airflow.plugins_manager import AirflowPlugin
before = set(sys.modules)
import evergreen_plugin
loaded = sorted(name for name in sys.modules if name.split(".")[0] == "evergreen")
assert not loaded, loaded
import httpx
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
create_auth_manager()
had = {{name for name in {heavy!r} if name in sys.modules}}
evergreen_plugin._built().dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="a", role="viewer")

async def main():
    transport = httpx.ASGITransport(evergreen_plugin.pages)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        for path, status in (("/", 200), ("/models/m", 404), ("/models/flight-delay", 200)):
            answer = await client.get(path)
            assert answer.status_code == status, (path, answer.text)

asyncio.run(main())
print("heavy:", sorted({{name for name in {heavy!r} if name in sys.modules}} - had))
"""


def test_the_plugin_loads_nothing_of_evergreen_and_its_pages_no_heavy_library(tmp_path):
    root = Path(__file__).resolve().parents[2]
    env = {
        **os.environ,
        "EVERGREEN_PROJECT": str(root),
        "EVERGREEN_HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "PYTHONWARNINGS": "ignore",
    }
    script = SERVE.format(paths=[str(root / "plugins")], heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stdout


def test_airflow_takes_the_pages_and_the_links():
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))
    from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse

    import evergreen_plugin

    plugin = evergreen_plugin.EvergreenPlugin
    assert [app["url_prefix"] for app in plugin.fastapi_apps] == ["/evergreen"]
    views = [ExternalViewResponse.model_validate(view) for view in plugin.external_views]
    assert {view.destination for view in views} == {"nav", "dag"}
    assert all(not view.href.startswith("/") for view in views)  # it follows the path of [api] base_url
    assert next(view for view in views if view.destination == "dag").href.endswith("/{DAG_ID}")
    routes = [view.url_route for view in views if view.url_route]
    assert len(routes) == len(set(routes))
