"""The ways to people: Airflow's notifiers for the spec's `notify`, and what EVERGREEN_NOTIFIERS names beside them."""

from __future__ import annotations

import html
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

    from evergreen.core.records import Notice
    from evergreen.core.spec_notify import Notify, Slack, Smtp, Webhook

TIMEOUT = 30  # seconds; a mail server's stands in its connection


@dataclass(frozen=True)
class Way:
    """`tell` raises what went wrong. The name has no ': ' in it (core.outbox)."""

    name: str
    tell: Callable[[Context, Notice], Any]


def way_of(entry: Notify) -> Way:
    """The way that an entry of the spec describes. Its provider is imported when something is told."""
    if smtp := entry.smtp:
        return _by(f"smtp {smtp.connection} to {', '.join(smtp.to)}", lambda notice: _mail(smtp, notice))
    if slack := entry.slack:
        return _by(f"slack {slack.connection}", lambda notice: _slack(slack, notice))
    webhook = entry.webhook
    assert webhook is not None  # the spec was checked
    return _by(f"webhook {webhook.connection}", lambda notice: _post(webhook, notice))


def own_ways() -> list[Way]:
    """Those of EVERGREEN_NOTIFIERS: import paths with commas, such as 'ops_pager.tell,ops_chat.Notice'.

    Each is a function of a task's context, or a class without arguments whose instances are, as Airflow's notifiers
    are. They are called for every notice, which is `notice` in the context.
    """
    named = (path.strip() for path in os.environ.get("EVERGREEN_NOTIFIERS", "").split(","))
    return [Way(path, partial(_call, path)) for path in named if path]


def _call(path: str, context: Context, notice: Notice) -> None:
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    (found() if isinstance(found, type) else found)({**context, "notice": notice})


def _by(name: str, build: Callable[[Notice], BaseNotifier]) -> Way:
    """By a notifier of Airflow's, whose `notify` raises.

    Called itself it would swallow its errors, and take braces in what people and data wrote for Jinja.
    """
    return Way(name, lambda context, notice: build(notice).notify(context))


def _mail(smtp: Smtp, notice: Notice) -> BaseNotifier:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    link = f'<p><a href="{html.escape(notice.link)}">{html.escape(notice.link)}</a></p>' if notice.link else ""
    return SmtpNotifier(
        smtp_conn_id=smtp.connection,
        to=smtp.to,
        subject=f"[Evergreen] {_one_line(notice.title)}",
        html_content=f"<p>{html.escape(notice.text)}</p>{link}",
    )


def _slack(slack: Slack, notice: Notice) -> BaseNotifier:
    from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

    lines = [f"*{_one_line(notice.title)}*", notice.text, *([notice.link] if notice.link else [])]
    text = html.escape("\n".join(lines), quote=False)  # as Slack wants it: no '<!channel>' out of data
    return SlackWebhookNotifier(slack_webhook_conn_id=slack.connection, text=text, unfurl_links=False, timeout=TIMEOUT)


def _post(webhook: Webhook, notice: Notice) -> BaseNotifier:
    from airflow.providers.http.notifications.http import HttpNotifier

    return HttpNotifier(http_conn_id=webhook.connection, json=_as_json(notice), extra_options={"timeout": TIMEOUT})


def _as_json(notice: Notice) -> dict[str, str]:
    return {
        "id": notice.id,
        "model": notice.model,
        "kind": str(notice.kind),
        "title": notice.title,
        "text": notice.text,
        "link": notice.link,
        "at": notice.created_at.isoformat(),
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())
