"""`make demo`: the story on a fresh embedded shape, which is left running."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

from rich.console import Console

from evergreen import supervisor, wiring
from evergreen.core.errors import EvergreenError
from evergreen.demo.plot import play
from evergreen.demo.stage import Person, Stage
from evergreen.demo.story import DemoFailed
from evergreen.demo.warehouse import Warehouse

MARK = "made-by-demo"


def play_embedded(*, ask: bool = False) -> int:
    """Start everything and play; returns the exit status."""
    console = Console()
    try:
        settings = _fresh_home(console)
        stack = supervisor.up(settings, progress=lambda line: console.print(f"[dim]{line}[/dim]"))
        play(console, _stage(settings, stack), Warehouse(f"sqlite:///{settings.home / 'warehouse.db'}"), ask=ask)
    except EvergreenError as error:
        console.print(f"[red]The demo did not do what it promises.[/red] {error}", soft_wrap=True)
        return 1
    return 0


def _stage(settings: wiring.Settings, stack: supervisor.Stack) -> Stage:
    return Stage(
        settings=settings,
        airflow=stack.airflow_url,
        serving=stack.serving_url,
        pages=stack.airflow_url,
        answers=stack.serving_url,
        admin=Person(stack.user, stack.password),
        oncall=Person(stack.oncall, stack.oncall_password),
        notes=(("MLflow", stack.mlflow_url),),
        command=".venv/bin/evergreen",
        logs=str(settings.home / "logs"),
    )


def _fresh_home(console: Console) -> wiring.Settings:
    """An empty home. What an earlier demo left is removed; anything else is not touched."""
    settings = wiring.Settings.load()
    home = settings.home
    if (home / "ledger.db").exists() and not (home / MARK).exists():
        raise DemoFailed(
            f"{home} holds models that no demo made. Play the demo in another clone, or set EVERGREEN_HOME to an "
            "empty folder."
        )
    if supervisor.down(settings):
        console.print("Stopped what an earlier demo left running.")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700, parents=True)
    (home / MARK).write_text(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n")
    return settings
