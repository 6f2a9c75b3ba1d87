"""Notices on their way through Airflow's own notifiers and connections, to real servers on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evergreen import wiring
from evergreen.core.audience import Audience
from evergreen.core.outbox import TRIES
from evergreen.core.ports import Ledger
from evergreen.core.records import FLEET, Notice, NoticeKind
from evergreen.core.spec_notify import Notify
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.orchestration.notices import send, send_due, waiting
from inboxes import Mails, Posts, mail_server, web_server
from records import NOW, make_spec
from spec_project import SPEC, make_project, write_spec

LINK = "https://airflow.example.com/evergreen/models/m/versions/7?a=1&b=2"
TOKEN = "T0/B0/SECRET"
WAYS: list[dict[str, Any]] = [
    {"smtp": {"to": ["oncall@example.com", "ops@example.com"], "connection": "mail"}},
    {"slack": {"connection": "slack_webhook"}},
    {"webhook": {"connection": "ops_webhook"}},
]


def audience(*ways: dict[str, Any], on: tuple[str, ...] = ("failed",)) -> Audience:
    return Audience({"m": [Notify.model_validate({**way, "on": list(on)}) for way in ways]}, [])


def connect(patch: pytest.MonkeyPatch, name: str, **connection: Any) -> None:
    patch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))


def connect_mail(patch: pytest.MonkeyPatch, port: int) -> None:
    extra = {"from_email": "evergreen@example.com", "disable_ssl": True, "disable_tls": True, "timeout": 5}
    connect(patch, "mail", conn_type="smtp", host="127.0.0.1", port=port, extra=extra)


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mails]:
    with mail_server() as taken:
        connect_mail(monkeypatch, taken.port)
        yield taken


@pytest.fixture
def posts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Posts]:
    """Slack's webhook and the other one are served alike; the paths differ."""
    with web_server() as taken:
        base = f"http://127.0.0.1:{taken.port}"
        connect(monkeypatch, "slack_webhook", conn_type="slackwebhook", host=f"{base}/services", password=TOKEN)
        extra = {"Authorization": "Bearer abc"}
        connect(monkeypatch, "ops_webhook", conn_type="http", host=f"{base}/hooks/evergreen", extra=extra)
        yield taken


@pytest.fixture
def ledger() -> Ledger:
    return in_memory_ledger()


def add(ledger: Ledger, key: str = "1", model: str = "m", kind: NoticeKind = NoticeKind.FAILED, **told: str) -> None:
    told = {"title": "m: a retrain failed", "text": "the source is away.", "link": LINK, **told}
    assert ledger.notices.add(model, kind, key=key, now=NOW, **told)


def later(minutes: float = 0) -> datetime:
    return NOW + timedelta(minutes=minutes)


def pass_at(ledger: Ledger, wanted: Audience, minutes: float = 0) -> str:
    return send_due(ledger, wanted, {}, later(minutes))  # type: ignore[typeddict-item]  # no notifier reads it


def paths(posts: Posts) -> list[str]:
    return [path for path, _, _ in posts.taken]


def only(ledger: Ledger) -> Notice:
    [notice] = ledger.notices.latest(9)
    return notice


# ---------------------------------------------------------------- the messages


def test_each_way_takes_the_notice_with_its_link(ledger: Ledger, mails: Mails, posts: Posts) -> None:
    hostile = "x < 3 & y > 2: {{ conn }} <!channel>"
    add(ledger, title="m: a retrain\r\nBcc: all@example.com failed", text=hostile)
    assert pass_at(ledger, audience(*WAYS)) == "notices: 1 sent, 0 failed"
    [(to, mail)] = mails.taken
    assert to == ["oncall@example.com", "ops@example.com"]
    assert (mail["From"], mail["Bcc"]) == ("evergreen@example.com", None)
    assert mail["Subject"] == "[Evergreen] m: a retrain Bcc: all@example.com failed"
    html = mail.get_body()
    assert html is not None
    assert "<p>x &lt; 3 &amp; y &gt; 2: {{ conn }} &lt;!channel&gt;</p>" in html.get_content()
    assert f'<a href="{LINK.replace("&", "&amp;")}">' in html.get_content()
    slack, hook = posts.taken
    assert slack[0] == f"/services/{TOKEN}"
    escaped = "x &lt; 3 &amp; y &gt; 2: {{ conn }} &lt;!channel&gt;"
    title = "*m: a retrain Bcc: all@example.com failed*"
    assert slack[2]["text"].splitlines() == [title, escaped, LINK.replace("&", "&amp;")]
    assert (hook[0], hook[1]["Authorization"]) == ("/hooks/evergreen", "Bearer abc")
    assert hook[2] == {
        "id": only(ledger).id,
        "model": "m",
        "kind": "failed",
        "title": only(ledger).title,
        "text": hostile,
        "link": LINK,
        "at": NOW.isoformat(),
    }
    assert only(ledger).sent_at == NOW
    assert pass_at(ledger, audience(*WAYS), 60) == "nothing to send"
    assert len(mails.taken) == 1


def test_only_who_wants_it_is_told_and_what_nobody_wants_is_done(ledger: Ledger, posts: Posts) -> None:
    add(ledger, "1")
    add(ledger, "2", kind=NoticeKind.RELEASED)
    add(ledger, "3", model=FLEET)
    mine, shared = audience(WAYS[2]).models, audience(WAYS[1]).models["m"]
    assert pass_at(ledger, Audience(mine, shared)) == "notices: 3 sent, 0 failed"
    assert [(path, body.get("kind")) for path, _, body in posts.taken] == [
        ("/hooks/evergreen", "failed"),
        (f"/services/{TOKEN}", None),
    ]
    assert ledger.notices.unsent(tries=TRIES) == []


def test_a_run_is_worth_what_is_due_and_may_be_wanted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = {"m": make_spec(notify=[{**WAYS[2], "on": ["failed"]}]), "quiet": make_spec()}
    for model, kind in (("m", NoticeKind.FAILED), ("m", NoticeKind.REFUSED), ("quiet", NoticeKind.FAILED)):
        add(ledger, f"{model} {kind}", model, kind)
    add(ledger, "fleet", FLEET, NoticeKind.SILENT)
    assert [notice.key for notice in waiting(ledger, specs, NOW)] == ["m failed", "fleet"]
    [first, *_] = ledger.notices.unsent(tries=TRIES)
    ledger.notices.failed(first.id, "away")
    assert [notice.key for notice in waiting(ledger, specs, NOW)] == ["fleet"]
    assert [notice.key for notice in waiting(ledger, specs, later(1))] == ["m failed", "fleet"]
    monkeypatch.setenv("EVERGREEN_NOTIFIERS", "ops_chat.tell")
    assert len(waiting(ledger, specs, later(1))) == 4


def test_a_notice_waits_while_the_spec_that_may_want_it_cannot_be_read(ledger: Ledger) -> None:
    add(ledger)
    assert pass_at(ledger, Audience({}, [], complete=False)) == "nothing to send"
    assert (only(ledger).sent_at, only(ledger).tries) == (None, 0)


# ---------------------------------------------------------------- servers that are down


def test_what_is_down_is_tried_again_and_given_up_and_nobody_waits_for_it(
    ledger: Ledger, mails: Mails, posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mail_server() as down:
        pass  # nobody listens on its port any more
    connect_mail(monkeypatch, down.port)
    add(ledger, "1")
    add(ledger, "2")
    wanted = audience(*WAYS)
    assert pass_at(ledger, wanted) == "notices: 0 sent, 2 failed"
    assert len(posts.taken) == 4, "the other ways went all the same"
    assert pass_at(ledger, wanted, 0.5) == "nothing to send"
    for tries, minutes in enumerate((1, 5, 30, 120), start=1):
        assert [one.tries for one in ledger.notices.latest(9)] == [tries, tries]
        assert pass_at(ledger, wanted, minutes) == "notices: 0 sent, 2 failed"
    assert len(posts.taken) == 4, "who was told is not told again"
    assert pass_at(ledger, wanted, 10_000) == "nothing to send"
    for notice in ledger.notices.latest(9):
        assert notice.sent_at is None
        assert notice.tries == 5
        assert notice.error.startswith("smtp mail to oncall@example.com, ops@example.com: ConnectionRefusedError")


def test_what_comes_back_is_told_then(
    ledger: Ledger, mails: Mails, posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts.status = 503
    add(ledger)
    assert pass_at(ledger, audience(*WAYS)) == "notices: 0 sent, 1 failed"
    assert {line.split(": ")[0] for line in only(ledger).error.splitlines()} == {
        "slack slack_webhook",
        "webhook ops_webhook",
    }
    posts.status = 200
    assert pass_at(ledger, audience(*WAYS), 1) == "notices: 1 sent, 0 failed"
    assert len(mails.taken) == 1
    assert paths(posts) == [f"/services/{TOKEN}", "/hooks/evergreen"] * 2


def test_no_secret_is_kept_or_logged(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with web_server() as down:
        pass
    base = f"http://127.0.0.1:{down.port}"
    connect(monkeypatch, "slack_webhook", conn_type="slackwebhook", host=f"{base}/services", password=TOKEN)
    connect(monkeypatch, "ops_webhook", conn_type="http", host=f"{base}/hooks/SECRET")
    add(ledger)
    assert pass_at(ledger, audience(*WAYS[1:])) == "notices: 0 sent, 1 failed"
    assert len(only(ledger).error.splitlines()) == 2
    assert "SECRET" not in only(ledger).error
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("evergreen")]
    assert len(ours) == 2
    assert not [text for text in ours if "SECRET" in text]


def test_a_connection_that_is_not_there_is_told_by_name(ledger: Ledger, mails: Mails) -> None:
    add(ledger)
    wanted = audience({"webhook": {"connection": "nowhere"}}, WAYS[0])
    assert pass_at(ledger, wanted) == "notices: 0 sent, 1 failed"
    assert "nowhere" in only(ledger).error.partition(": ")[2]
    assert len(mails.taken) == 1


# ---------------------------------------------------------------- what EVERGREEN_NOTIFIERS names


def test_own_notifiers_are_told_of_every_notice_and_their_errors_are_kept(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ops_notices.py").write_text(
        "told = []\n"
        "def fail(context):\n    raise RuntimeError('no pager')\n"
        "class Notice:\n    def __call__(self, context):\n        told.append((context['run'], context['notice']))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("EVERGREEN_NOTIFIERS", "ops_notices.fail, nowhere.tell, ops_notices.Notice")
    add(ledger, kind=NoticeKind.RELEASED)
    assert send_due(ledger, audience(), {"run": 1}, NOW) == "notices: 0 sent, 1 failed"  # type: ignore[typeddict-unknown-key]
    told = sys.modules["ops_notices"].told
    assert [(run, notice.link) for run, notice in told] == [(1, LINK)]
    assert only(ledger).error.splitlines() == [
        "ops_notices.fail: RuntimeError: no pager",
        "nowhere.tell: ModuleNotFoundError: No module named 'nowhere'",
    ]


# ---------------------------------------------------------------- the task


def test_the_task_sends_over_what_the_projects_specs_name(
    tmp_path: Path, posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path)
    write_spec(project, "delay", text=SPEC + "notify:\n  - webhook: {connection: ops_webhook}\n    on: [released]\n")
    monkeypatch.setenv("EVERGREEN_PROJECT", str(project))
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    ledger = wiring.ledger(wiring.Settings.load())
    add(ledger, model="delay", kind=NoticeKind.RELEASED)
    add(ledger, model="delay", kind=NoticeKind.FAILED, key="2")
    context: Any = {}
    assert send(context) == "notices: 2 sent, 0 failed"
    assert [(body["model"], body["kind"]) for _, _, body in posts.taken] == [("delay", "released")]
    assert send(context) == "nothing to send"
