"""Sends the notices of the outbox, a task of the DAG `reconciler`. No way to people can fail it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from evergreen import wiring
from evergreen.core.audience import Audience
from evergreen.core.outbox import TRIES, due, error_text, failed_ways, without_secrets
from evergreen.orchestration.notifiers import Way, own_ways, way_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.core.ports import Ledger
    from evergreen.core.records import Notice
    from evergreen.core.spec import ModelSpec

log = logging.getLogger(__name__)


def send(context: Context) -> str:
    """Send all that are due; says what was done.

    A notice may go out twice where this is killed, never not at all: what fails is tried again (core.outbox).
    """
    settings = wiring.Settings.load()
    return send_due(wiring.ledger(settings), Audience.of_project(settings.root), context, datetime.now(UTC))


def waiting(ledger: Ledger, specs: Mapping[str, ModelSpec], now: datetime) -> list[Notice]:
    """Those that a run is worth: due, and wanted by somebody. The others are done with the next run."""
    found = [notice for notice in ledger.notices.unsent(tries=TRIES) if due(notice, now)]
    return found if own_ways() else [notice for notice in found if _may_be_wanted(notice, specs)]


def _may_be_wanted(notice: Notice, specs: Mapping[str, ModelSpec]) -> bool:
    spec = specs.get(notice.model)
    return spec is None or any(notice.kind in entry.on for entry in spec.notify)


def send_due(ledger: Ledger, audience: Audience, context: Context, now: datetime) -> str:
    """Send those that are due, oldest first: 'notices: 2 sent, 1 failed'."""
    sent, failed, unreachable = 0, 0, dict[str, str]()
    for notice in ledger.notices.unsent(tries=TRIES):
        ways = _ways(notice, audience)
        if not due(notice, now) or not (ways or audience.complete):
            continue
        errors = _tell(notice, ways, context, unreachable)
        if errors:
            ledger.notices.failed(notice.id, error_text(errors))
            failed += 1
        else:
            ledger.notices.sent(notice.id, now)
            sent += 1
    return f"notices: {sent} sent, {failed} failed" if sent or failed else "nothing to send"


def _ways(notice: Notice, audience: Audience) -> Sequence[Way]:
    """All that are wanted; at a further try those that failed, unless the spec has none of them any more."""
    ways = [*(way_of(entry) for entry in audience.wanting(notice)), *own_ways()]
    failed = failed_ways(notice)
    return [way for way in ways if way.name in failed] or ways


def _tell(notice: Notice, ways: Sequence[Way], context: Context, unreachable: dict[str, str]) -> dict[str, str]:
    """Over each way; the errors by way. What cannot be reached is not asked again in this run, lest all wait for it."""
    errors: dict[str, str] = {}
    for way in ways:
        if way.name in unreachable:
            errors[way.name] = unreachable[way.name]
            continue
        try:
            way.tell(context, notice)
        except Exception as error:
            errors[way.name] = without_secrets(error)
            log.warning("Notice %r did not go out over %s: %s", notice.title, way.name, errors[way.name])
            if isinstance(error, OSError):
                unreachable[way.name] = errors[way.name]
    return errors
