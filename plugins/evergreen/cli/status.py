"""`evergreen status`: which version answers, what came last and why, what each model waits for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evergreen import wiring
from evergreen.cli.screen import AsJson, console, counted, find_model, print_json, where_it_runs
from evergreen.core.catalog import load_catalog
from evergreen.core.readable import readable_age
from evergreen.core.reconciling import RECONCILER
from evergreen.core.reconciling import told as told_of_reconciler
from evergreen.core.records import FLEET
from evergreen.core.slot_health import told
from evergreen.core.status import Facts, ModelStatus, facts_of, status_of
from evergreen.core.trial import milliseconds
from evergreen.core.trial_status import StageRow, TrialStatus, trials
from evergreen.core.watching import MONITOR, first_release
from evergreen.core.watching import told as told_of_monitor

if TYPE_CHECKING:
    from rich.table import Table

    from evergreen.core.spec import ModelSpec


def status(
    model: Annotated[str, typer.Argument(help="Only this model, in full.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show which versions answer, what came last, what comes next.

    \b
    Reads the ledger, so that it answers while nothing runs too.

    \b
    Examples:
      evergreen status
      evergreen status flight-delay
      evergreen status --json | jq -r '.models[] | "\\(.model) \\(.version)"'
    """
    from evergreen import supervisor

    settings, now = wiring.Settings.load(), datetime.now(UTC)
    catalog = load_catalog(settings.root)
    specs = [find_model(catalog, model)] if model else list(catalog.specs.values())
    rows = _rows(settings, specs, now)
    stack = supervisor.running(settings)
    if as_json:
        models = [row.as_dict(now) for row in rows]
        print_json({"running": asdict(stack) if stack else None, "models": models, "problems": len(catalog.problems)})
        return
    typer.echo("\n".join(where_it_runs(stack) if stack else [_where_else()]))
    for line in _one(rows[0], now) if model else []:
        typer.echo(line)
    if model and rows[0].trial:
        console().print("", _stages(rows[0].trial, now))
    if rows and not model:
        console().print("", _table(rows, now))
        for line in [*_trials(rows), *_holds(rows), *_background(settings, catalog.specs, now), *_slots(settings, now)]:
            typer.echo(line)
    if catalog.problems:
        typer.echo(
            f"\n{counted(len(catalog.problems), 'problem')} in model specs or suites: `evergreen check` names them."
        )


def _where_else() -> str:
    """Of a shape that another program starts."""
    if pages := os.environ.get("AIRFLOW__API__BASE_URL"):
        return f"Runs in containers: `make status` on the host. Airflow  {pages}"
    return "Not running: `evergreen up` starts it."


def _background(settings: wiring.Settings, specs: Mapping[str, ModelSpec], now: datetime) -> list[str]:
    """What is wrong with reconciler and monitor, where Airflow runs: here, or where this is asked in a container."""
    from evergreen import supervisor

    if not (supervisor.running(settings) or os.environ.get("AIRFLOW__API__BASE_URL")):
        return []
    ledger = wiring.ledger(settings)
    lines = told_of_reconciler(ledger.heartbeats.last(RECONCILER), now)
    lines += told_of_monitor(specs, ledger.heartbeats.last(MONITOR), first_release(ledger), now)
    return ["", *map(_filled, lines)] if lines else []


def _slots(settings: wiring.Settings, now: datetime) -> list[str]:
    """What happened to container slots in the last day."""
    if not settings.slots_url:
        return []
    lines = told(wiring.ledger(settings).slot_events.latest(50), since=now - timedelta(days=1))
    return ["", "Serving slots:", *(_filled(line) for line in lines)] if lines else []


def _rows(settings: wiring.Settings, specs: list[ModelSpec], now: datetime) -> list[ModelStatus]:
    """Does not make a ledger where there is none yet."""
    file = settings.ledger_url.removeprefix("sqlite:///")
    if file != settings.ledger_url and not Path(file).exists():
        return [status_of(spec, Facts(), now) for spec in specs]
    ledger = wiring.ledger(settings)
    on_trial = trials(ledger)
    return [status_of(spec, facts_of(spec.name, ledger, now, on_trial), now) for spec in specs]


def _table(rows: list[ModelStatus], now: datetime) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    for name, wide in (("model", 16), ("champion", 12), ("last trigger", 12), ("outcome", 20), ("waiting for", 16)):
        table.add_column(name, max_width=wide, overflow="fold")
    for row in rows:
        table.add_row(row.model, _champion(row, now), _trigger(row, now), _short(row.outcome), row.waiting_for)
    return table


def _champion(row: ModelStatus, now: datetime) -> str:
    if row.version is None or row.released_at is None:
        return "none yet"
    data = f"\ndata to {row.data_until:%Y-%m-%d}" if row.data_until else ""
    back = f"\nrolled back by {row.released_by}" if row.rolled_back else ""
    again = f"\n{row.recalled.partition(':')[0]}" if row.recalled else ""
    return f"version {row.version}{back}{again}\n{readable_age(now - row.released_at)} old{data}"


def _trigger(row: ModelStatus, now: datetime) -> str:
    return f"{row.cause}\n{readable_age(now - row.requested_at)} ago" if row.cause and row.requested_at else "none yet"


def _short(text: str) -> str:
    """A table holds the beginning; `evergreen status <model>` shows it all."""
    return text if len(text) <= 160 else f"{text[:159]}…"


def _trials(rows: list[ModelStatus]) -> list[str]:
    """Each version on trial, under the table."""
    told = [_filled(f"{row.model}: {row.trial}") for row in rows if row.trial]
    return ["", *told] if told else []


def _stages(trial: TrialStatus, now: datetime) -> Table:
    """The trial, stage by stage: how often both versions were asked in it, what failed, and the latency."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    for name in ("stage", "began", f"version {trial.version}", "failed", "p99", "champion", "failed", "p99"):
        table.add_column(name, justify="left" if name in ("stage", "began") else "right", no_wrap=True)
    for one in trial.stages:
        here = "▸" if one.name == trial.stage else " "
        began = f"{readable_age(now - one.since)} ago" if one.since else ""
        table.add_row(f"{here} {one.name}", began, *(_arms(one) if one.since else []))
    return table


def _arms(one: StageRow) -> list[str]:
    challenger = [f"{one.requests:,}", _share(one.error_rate), _ms(one.p99_ms)]
    return [*challenger, f"{one.champion_requests:,}", _share(one.champion_error_rate), _ms(one.champion_p99_ms)]


def _share(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.2%}"


def _ms(p99: float | None) -> str:
    return "" if p99 is None else milliseconds(p99)


def _holds(rows: list[ModelStatus]) -> list[str]:
    """Each hold, once, under the table."""
    held = [row.hold if row.hold_of == FLEET else f"{row.model} is {row.hold}" for row in rows if row.hold]
    return ["", *(_filled(text) for text in dict.fromkeys(held))] if held else []


def _one(row: ModelStatus, now: datetime) -> list[str]:
    told = {
        "model": row.model,
        "champion": ", ".join(_champion(row, now).split("\n")),
        "on trial": str(row.trial) if row.trial else "",
        "released by": "" if row.rolled_back else row.released_by or "",
        "window": row.window,
        "tuning": row.tuning,
        "metric": row.recovery,
        "recalled": row.recalled,
        "refit": row.refit,
        "hold": row.hold,
        "last trigger": ", ".join(_trigger(row, now).split("\n")),
        "run": row.run_id or "",
        "outcome": row.outcome,
        "waiting for": row.waiting_for,
    }
    return ["", *(_filled(text, name) for name, text in told.items() if text)]


def _filled(text: str, name: str = "") -> str:
    """In 80 columns, beside its name."""
    import textwrap

    wide = 14 if name else 0
    return textwrap.fill(
        text,
        80,
        initial_indent=f"{name:<{wide}}",
        subsequent_indent=" " * wide,
        break_long_words=False,
        break_on_hyphens=False,
    )
