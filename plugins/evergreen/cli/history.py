"""`evergreen history`: what happened, who decided it, and why."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.history_file import check_name, write
from evergreen.cli.known import existing_ledger, known_model
from evergreen.cli.screen import AsJson, console, counted, print_json
from evergreen.core import moments
from evergreen.core.catalog import load_catalog
from evergreen.core.history import EVERY, HistoryEntry, history_of
from evergreen.core.lineage_find import models_known

if TYPE_CHECKING:
    from rich.table import Table

    from evergreen.core.ports import Ledger

ALL = "all models"


def history(
    model: Annotated[str, typer.Argument(help="Only this model.")] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="Nothing before: 7d, 2013-06-01, or a time.")] = "",
    export: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a .csv or .parquet file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what happened, who decided it, and why.

    \b
    Rollouts (prepared, on trial, released, replaced, rolled back, aborted,
    promoted), approvals, refused versions, how trigger requests ended, holds,
    and what people did by hand; the oldest first, times in UTC. Reads the
    ledger, so that it answers while nothing runs too.

    \b
    --export writes one row an event, whole or not at all:
      time     when, in UTC (CSV: 2013-06-01T12:00:00.000000Z)
      model    its name, or: all models
      what     'released', 'approved', 'refused', …
      version  the version that it is about, empty for none
      who      a person, 'auto', or what asked for the run
      why      the reason as it was given

    \b
    Examples:
      evergreen history
      evergreen history flight-delay --since 30d
      evergreen history flight-delay --export flight-delay.csv
      evergreen history flight-delay --json | jq -r '.[] | select(.version == 3)'
    """
    settings = wiring.Settings.load()
    if export:
        check_name(export)
    first = moments.since("--since", since, datetime.now(UTC)) if since else None
    ledger = existing_ledger(settings)
    if model:
        known_model(settings, ledger, model)
    models = [model] if model else models_known(ledger, load_catalog(settings.root).specs)
    rows = [row for row in _rows(ledger, models) if first is None or row[1].time >= first]
    if export:
        write(export, rows)
        typer.echo(f"Wrote {counted(len(rows), 'event')} to {export}", err=as_json)
    if as_json:
        print_json([_as_dict(name, entry) for name, entry in rows])
    elif rows and not export:
        console().print(_table(rows, with_model=not model))
    elif not export:
        typer.echo(_nothing(model, first))


def _nothing(model: str, first: datetime | None) -> str:
    to = f" to {model}" if model else ""
    if first:
        return f"Nothing happened{to} since {first:%Y-%m-%d %H:%M} UTC."
    return f"Nothing happened yet{to}: no candidate was judged or released."


def _rows(ledger: Ledger, models: list[str]) -> list[tuple[str, HistoryEntry]]:
    """Every entry with its model, oldest first; a hold on all models stands in each model's history, and here once."""
    rows = [
        (ALL if entry.what.endswith(f"({ALL})") else name, entry)
        for name in models
        for entry in history_of(ledger, name, EVERY)
    ]
    return sorted(dict.fromkeys(rows), key=lambda row: row[1].time)


def _as_dict(model: str, entry: HistoryEntry) -> dict[str, Any]:
    return {"model": model, **asdict(entry), "time": entry.time.isoformat()}


def _table(rows: list[tuple[str, HistoryEntry]], *, with_model: bool) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    wide = [("when", 16), ("model", 16), ("what", 14), ("version", 7), ("who", 10), ("why", 40)]
    for name, most in wide:
        if with_model or name != "model":
            table.add_column(name, max_width=most, overflow="fold", justify="right" if name == "version" else "left")
    for model, entry in rows:
        cells = [f"{entry.time:%Y-%m-%d %H:%M}", model, entry.what, str(entry.version or ""), entry.who, entry.why]
        table.add_row(*(cells if with_model else cells[:1] + cells[2:]))
    return table
