"""`evergreen history`: what happened, who decided it, and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger, known_model
from evergreen.cli.screen import AsJson, console, print_json
from evergreen.core.catalog import load_catalog
from evergreen.core.history import HistoryEntry, history_of

if TYPE_CHECKING:
    from rich.table import Table

    from evergreen.core.ports import Ledger

ALL = "all models"


def history(
    model: Annotated[str, typer.Argument(help="Only this model.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show what happened, who decided it, and why.

    \b
    Releases, rollbacks, approvals, refused versions and holds, the oldest first,
    times in UTC. Reads the ledger, so that it answers while nothing runs too.

    \b
    Examples:
      evergreen history
      evergreen history flight-delay
      evergreen history flight-delay --json | jq -r '.[] | select(.version == 3)'
    """
    settings = wiring.Settings.load()
    ledger = existing_ledger(settings)
    if model:
        known_model(settings, ledger, model)
    models = [model] if model else _models(settings, ledger)
    rows = _rows(ledger, models)
    if as_json:
        print_json([_as_dict(name, entry) for name, entry in rows])
    elif rows:
        console().print(_table(rows, with_model=not model))
    else:
        typer.echo(f"Nothing happened yet{f' to {model}' if model else ''}: no candidate was judged or released.")


def _models(settings: wiring.Settings, ledger: Ledger) -> list[str]:
    """Those with a valid spec, and those that were released and have none now."""
    return sorted({*load_catalog(settings.root).specs, *(release.model for release in ledger.releases.history())})


def _rows(ledger: Ledger, models: list[str]) -> list[tuple[str, HistoryEntry]]:
    """Every entry with its model, oldest first; a hold on all models stands in each model's history, and here once."""
    rows = [
        (ALL if entry.what.endswith(f"({ALL})") else name, entry)
        for name in models
        for entry in history_of(ledger, name)
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
