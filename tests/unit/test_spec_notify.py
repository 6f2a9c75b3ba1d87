"""The spec's `notify`: what may stand there, what is refused, and that no refusal tells a secret again."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergreen.core.audience import Audience
from evergreen.core.catalog import load_catalog, render
from evergreen.core.records import FLEET, Notice, NoticeKind
from evergreen.core.spec_notify import Notify
from records import NOW, make_spec
from spec_project import DEFAULTS, SPEC, make_project, write_spec

TOKEN = "T00000000-B0000-XXXXsecret"
MAIL = """\
notify:
  - smtp: {to: [oncall@example.com]}
    on: [approval_needed, failed]
"""


def notify(*entries: dict[str, object]) -> list[Notify]:
    return make_spec(notify=list(entries)).notify


def test_each_way_alone_with_what_is_told_over_it() -> None:
    mail, slack, hook = notify(
        {"smtp": {"to": ["a@example.com", "b@example.com"], "connection": "mail"}, "on": ["released"]},
        {"slack": {"connection": "slack_webhook"}},
        {"webhook": {"connection": "ops_webhook"}, "on": ["silent", "failed"]},
    )
    assert mail.smtp is not None
    assert (mail.smtp.connection, mail.on) == ("mail", [NoticeKind.RELEASED])
    assert set(slack.on) == set(NoticeKind) - {NoticeKind.RELEASED, NoticeKind.ALERT_CLOSED}
    assert hook.on == [NoticeKind.SILENT, NoticeKind.FAILED]
    assert make_spec().notify == []


def test_the_key_on_is_a_key_though_yaml_takes_it_for_true(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_spec(project, "delay", text=SPEC + MAIL)
    catalog = load_catalog(project)
    assert render(catalog.problems) == ""
    assert catalog.specs["delay"].notify[0].on == [NoticeKind.APPROVAL_NEEDED, NoticeKind.FAILED]


WRONG = [
    # the entry in YAML, the field, what was found, what is allowed, what to do
    ("{on: [failed]}", "notify[0]", "none of 'smtp', 'slack' and 'webhook'", "one of smtp, slack", "as an entry"),
    (
        "{slack: {connection: a}, webhook: {connection: b}}",
        "notify[0]",
        "'slack' and 'webhook'",
        "one of smtp",
        "own.",
    ),
    ("{slak: {connection: a}}", "notify[0].slak", "unknown key 'slak'", "smtp, slack", "Did you mean 'slack'?"),
    ("{slack: {connection: a}, on: [faild]}", "notify[0].on[0]", "'faild'", "refused", "Did you mean 'failed'?"),
    ("{slack: {connection: a}, on: []}", "notify[0].on", "an empty list", "at least one entry", ""),
    ("{smtp: {to: []}}", "notify[0].smtp.to", "an empty list", "at least one entry", ""),
    ("{smtp: {to: [ops]}}", "notify[0].smtp.to[0]", "'ops'", "a mail address", "an entry of its own"),
    ("{smtp: {to: ['a@x.org, b@x.org']}}", "notify[0].smtp.to[0]", "a@x.org, b@x.org", "a mail address", ""),
    ("{smtp: {connection: mail}}", "notify[0].smtp.to", "nothing", "Mail addresses", "Add 'to'"),
    ("{webhook: {}}", "notify[0].webhook.connection", "nothing", "Of type http", "Add 'connection'"),
    ("{webhook: {connection: ops webhook}}", "notify[0].webhook.connection", "'ops webhook'", "letters, digits", ""),
]


@pytest.mark.parametrize(("entry", "field", "found", "allowed", "do"), WRONG, ids=[entry for entry, *_ in WRONG])
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, entry: str, field: str, found: str, allowed: str, do: str
) -> None:
    project = make_project(tmp_path)
    write_spec(project, "delay", text=f"{SPEC}notify:\n  - {entry}\n")
    problems = [problem for problem in load_catalog(project).problems if problem.field == field]
    assert len(problems) == 1, render(load_catalog(project).problems)
    assert problems[0].line == len(SPEC.splitlines()) + 2
    assert found in problems[0].found
    assert allowed in problems[0].allowed
    assert do in problems[0].do


@pytest.mark.parametrize(
    "entry",
    [
        f"{{slack: {{connection: 'https://hooks.slack.com/services/{TOKEN}'}}}}",
        f"{{slack: {{connection: 'user:{TOKEN}'}}}}",
        f"{{slack: {{connection: '{TOKEN * 3}'}}}}",
        f"{{slack: 'https://hooks.slack.com/services/{TOKEN}'}}",
        f"{{slack: {{url: 'https://hooks.slack.com/services/{TOKEN}'}}}}",
        f"{{webhook: {{connection: ops, headers: {{Authorization: {TOKEN}}}}}}}",
        f"{{smtp: {{to: [a@example.com], password: {TOKEN}}}}}",
    ],
)
def test_a_secret_in_the_spec_is_refused_and_not_told_again(tmp_path: Path, entry: str) -> None:
    project = make_project(tmp_path)
    write_spec(project, "delay", text=f"{SPEC}notify:\n  - {entry}\n")
    told = load_catalog(project)
    assert told.specs == {}
    assert TOKEN not in render(told.problems)
    assert "notify[0]" in render(told.problems)


# ---------------------------------------------------------------- who wants a notice


def about(model: str, kind: NoticeKind = NoticeKind.FAILED) -> Notice:
    return Notice("n", model, kind, "key", "title", "text", "", NOW)


def told_over(root: Path, notice: Notice) -> list[str]:
    found = (entry.slack or entry.webhook or entry.smtp for entry in Audience.of_project(root).wanting(notice))
    return [way.connection for way in found if way]


def test_a_models_own_entries_replace_those_of_all_and_what_is_about_all_goes_to_theirs(tmp_path: Path) -> None:
    project = make_project(tmp_path, "own", "plain", "broken")
    (project / "models/_defaults.yaml").write_text(DEFAULTS + "notify: [{slack: {connection: everybody}}]\n")
    write_spec(project, "own", text=SPEC + "notify: [{webhook: {connection: mine}, on: [failed, silent]}]\n")
    write_spec(project, "broken", ("task:", "tsk:"))
    assert told_over(project, about("own")) == ["mine"]
    assert told_over(project, about("own", NoticeKind.REFUSED)) == []
    assert told_over(project, about("plain")) == ["everybody"]
    assert told_over(project, about("plain", NoticeKind.RELEASED)) == []
    assert told_over(project, about("broken")) == ["everybody"], "a model whose spec is wrong"
    assert told_over(project, about(FLEET, NoticeKind.SILENT)) == ["everybody"]


def test_without_shared_entries_everybody_hears_of_all_models_once(tmp_path: Path) -> None:
    project = make_project(tmp_path, "a", "b", "c")
    for name, way in (("a", "slack: {connection: x}"), ("b", "slack: {connection: x}"), ("c", "smtp: {to: [o@x.org]}")):
        write_spec(project, name, text=f"{SPEC}notify: [{{{way}}}]\n")
    assert told_over(project, about(FLEET, NoticeKind.SILENT)) == ["x", "smtp_default"]


def test_where_a_spec_cannot_be_read_nobody_can_say_that_nobody_wants_a_notice(tmp_path: Path) -> None:
    project = make_project(tmp_path, "a")
    assert Audience.of_project(project).complete
    (project / "models/_defaults.yaml").write_text(DEFAULTS + "notify: [{slack: {conection: everybody}}]\n")
    assert "Did you mean 'connection'?" in render(load_catalog(project).problems)
    assert told_over(project, about("a")) == []
    assert not Audience.of_project(project).complete
