"""What people are told of alerts, each once: see core.notices. All return whether the notice is new."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.monitoring import alert_texts
from evergreen.core.records import NoticeKind

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Alert


def opened(ledger: Ledger, alert: Alert, link: str, now: datetime) -> bool:
    """A rule was broken for long enough. Tell it after its retrain was asked for: the text says so."""
    return _tell(ledger, alert, "opened", alert_texts.title(alert), alert_texts.sentence(alert), link, now)


def closed(ledger: Ledger, alert: Alert, link: str, now: datetime) -> bool:
    """An alert closed, and why."""
    told = alert_texts.closed_title(alert), alert_texts.closed_sentence(alert)
    return _tell(ledger, alert, "closed", *told, link, now, kind=NoticeKind.ALERT_CLOSED)


def flaps(ledger: Ledger, alert: Alert, link: str, now: datetime) -> bool:
    """An alert comes and goes, and stays open for it."""
    told = alert_texts.flaps_title(alert), alert_texts.flaps_sentence(alert)
    return _tell(ledger, alert, "flaps", *told, link, now)


def backs_off(ledger: Ledger, alert: Alert, unhelpful: int, until: datetime, link: str, now: datetime) -> bool:
    """Retrains do not help: told once for each that did not."""
    told = alert_texts.backs_off_title(alert), alert_texts.backs_off_sentence(alert, unhelpful, until)
    return _tell(ledger, alert, f"backs_off:{unhelpful}", *told, link, now)


def _tell(
    ledger: Ledger,
    alert: Alert,
    what: str,
    title: str,
    text: str,
    link: str,
    now: datetime,
    *,
    kind: NoticeKind = NoticeKind.ALERT,
) -> bool:
    key = f"alert:{alert.id}:{what}"
    return ledger.notices.add(alert.model, kind, key=key, title=title, text=text, link=link, now=now)
