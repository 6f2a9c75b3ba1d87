"""`evergreen alerts`: what the monitor has found, open and closed."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger, known_model
from evergreen.cli.screen import AsJson, console, counted, print_json
from evergreen.core import moments
from evergreen.core.monitoring import alert_texts
from evergreen.core.readable import readable_age
from evergreen.core.records import ALL

if TYPE_CHECKING:
    from rich.table import Table

    from evergreen.core.records import Alert


def alerts(
    model: Annotated[str, typer.Argument(help="Only this model.")] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="Closed ones too, after this: 7d, 2013-06-01.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the alerts that are open, or were, and why.

    \b
    An alert opens when a rule of the spec (monitoring.alerts, or a metric among
    the triggers) is broken for long enough, and closes when it is not any more.
    With one model, what to do next is said too. Reads the ledger, so that it
    answers while nothing runs.

    \b
    Examples:
      evergreen alerts
      evergreen alerts flight-delay
      evergreen alerts --since 30d --json
    """
    settings, now = wiring.Settings.load(), datetime.now(UTC)
    first = moments.since("--since", since, now) if since else None
    ledger = existing_ledger(settings)
    if model:
        known_model(settings, ledger, model)
    found = ledger.alerts.history(model or None, since=first) if first else ledger.alerts.open_ones(model or None)
    if as_json:
        print_json([_as_dict(alert) for alert in found])
    elif not found:
        typer.echo(_nothing(model, first))
    else:
        console().print(_table(found, now))
        if model:
            for alert in (one for one in found if one.closed_at is None):
                console().print(f"\n{alert_texts.sentence(alert)}", markup=False)


def _nothing(model: str, first: datetime | None) -> str:
    of = f" of {model}" if model else ""
    return f"No alert{of} was open since {first:%Y-%m-%d %H:%M} UTC." if first else f"No alert{of} is open."


def _table(found: list[Alert], now: datetime) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title=counted(len(found), "alert"), title_justify="left")
    for column in ("model", "metric", "now", "limit", "for", ""):
        table.add_column(column, overflow="fold")
    for alert in found:
        where = f" ({alert.slice})" if alert.slice != ALL else ""
        closed = f"closed: {alert.closed_why}" if alert.closed_at else str(alert.severity)
        table.add_row(
            alert.model,
            f"{alert.metric}{where}",
            alert_texts.number(alert.closed_value if alert.closed_at else alert.worst),
            f"{alert.direction} {alert_texts.number(alert.limit)}",
            readable_age((alert.closed_at or now) - alert.opened_at),
            closed + ("; a retrain was asked for" if alert.request_id else ""),
        )
    return table


def _as_dict(alert: Alert) -> dict[str, Any]:
    times = {name: value.isoformat() for name, value in asdict(alert).items() if isinstance(value, datetime)}
    return {**asdict(alert), **times}
