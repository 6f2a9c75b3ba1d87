"""The spec's `notify`: who is told what, and over which of Airflow's connections. Secrets stand in those only."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from evergreen.core.records import NoticeKind
from evergreen.core.spec_fields import Strict, refuse_one, shown

WAYS = ("smtp", "slack", "webhook")
WAYS_WORDS = "one of smtp, slack and webhook"
CONNECTION_WORDS = "the id of an Airflow connection: letters, digits and _"
IN_CONNECTION = (
    "Keep the address and its secrets in an Airflow connection (docs/notifications.md), and write its id here."
)
GOOD_NEWS = (NoticeKind.RELEASED, NoticeKind.ALERT_CLOSED)  # nobody need act on it
WANTED: list[NoticeKind] = [kind for kind in NoticeKind if kind not in GOOD_NEWS]  # by default

_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,249}")
_ADDRESS = re.compile(r"[^@\s,;:<>\"]+@[^@\s,;:<>\"]+")


def _connection(value: Any) -> Any:
    """Refuse what is no id, without telling a URL again: it may hold a token."""
    if isinstance(value, str) and not _ID.fullmatch(value):
        found = "an address" if _may_hold_a_secret(value) else shown(value)
        refuse_one(value, found=found, allowed=CONNECTION_WORDS, do=IN_CONNECTION)
    return value


def _may_hold_a_secret(text: str) -> bool:
    return any(mark in text for mark in "/:@") or len(text) > 60  # longer than ids that people choose


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        do = "Write each address as an entry of its own."
        refuse_one(text, found=shown(text), allowed="a mail address, such as oncall@example.com", do=do)
    return text


ConnectionId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$"), BeforeValidator(_connection)]
Address = Annotated[str, AfterValidator(_address)]


class _Way(Strict):
    """What all three have in common: they are maps."""

    @model_validator(mode="before")
    @classmethod
    def _a_map(cls, value: Any) -> Any:
        if isinstance(value, str):  # a webhook's URL, most likely: it is not told again
            refuse_one(value, found="a text", allowed=f"a map with {', '.join(cls.model_fields)}", do=IN_CONNECTION)
        return value


class Smtp(_Way):
    """A mail, over an Airflow connection of type smtp (whose `from_email` it comes from)."""

    to: list[Address] = Field(min_length=1, description="Mail addresses")
    connection: ConnectionId = Field(default="smtp_default", description=f"Of type smtp: {CONNECTION_WORDS}")


class Slack(_Way):
    """A message in a Slack channel, over an Airflow connection of type slackwebhook."""

    connection: ConnectionId = Field(description=f"Of type slackwebhook: {CONNECTION_WORDS}")


class Webhook(_Way):
    """A POST of the notice as JSON, over an Airflow connection of type http."""

    connection: ConnectionId = Field(description=f"Of type http: {CONNECTION_WORDS}")


class Notify(Strict):
    """One way to tell people: exactly one of smtp, slack and webhook, and what is told over it."""

    smtp: Smtp | None = Field(default=None, description="Tell by mail")
    slack: Slack | None = Field(default=None, description="Tell in Slack")
    webhook: Webhook | None = Field(default=None, description="Tell another program")
    on: list[Annotated[NoticeKind, Field(strict=False)]] = Field(
        default=[*WANTED],
        min_length=1,
        description=f"What is told: {', '.join(NoticeKind)}; left out: all but {' and '.join(GOOD_NEWS)}",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Notify:
        given = [way for way in WAYS if getattr(self, way) is not None]
        if len(given) != 1:
            found = " and ".join(f"'{way}'" for way in given) or "none of 'smtp', 'slack' and 'webhook'"
            refuse_one(self, found=found, allowed=WAYS_WORDS, do="Write each way as an entry of its own.")
        return self
