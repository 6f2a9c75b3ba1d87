"""What commands share: the console, JSON on stdout, and finding a model by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen.core.errors import FoundProblem, ServiceFailed

if TYPE_CHECKING:
    from rich.console import Console

    from evergreen.core.catalog import Catalog
    from evergreen.core.spec import ModelSpec
    from evergreen.supervisor import Stack
    from evergreen.wiring import Settings

AsJson = Annotated[bool, typer.Option("--json", help="JSON for a script, on stdout.")]
WIDTH = 80
INDENT = 2


class UnknownModel(FoundProblem):
    """Raised when a command names a model that has no valid spec."""


def console(*, stderr: bool = False) -> Console:
    """A console of at most 80 columns."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    made.width = min(made.width, WIDTH)
    return made


@contextmanager
def progress_bar(doing: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar over rows on a terminal's stderr, gone at the end; nothing elsewhere. It is told how many are done, and
    of how many where that is known."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(stderr=True)
    parts = [TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeRemainingColumn()]
    with Progress(*parts, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, rows: bar.update(task, completed=done, total=rows)


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    typer.echo(json.dumps(value, indent=INDENT, ensure_ascii=False))


def counted(number: int, thing: str) -> str:
    """'1 model', '2 models'."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def find_model(catalog: Catalog, name: str) -> ModelSpec:
    """The spec of a model. Raises UnknownModel, with a near name if there is one."""
    from evergreen.core.spec_fields import did_you_mean

    if name in catalog.specs:
        return catalog.specs[name]
    broken = any(problem.file.startswith(f"models/{name}/") for problem in catalog.problems)
    repair = "Its spec has problems: `evergreen check` names them." if broken else ""
    do = repair or did_you_mean(name, catalog.specs) or "`evergreen check` lists the models."
    raise UnknownModel(f"model '{name}'", found="no valid spec", allowed=", ".join(catalog.specs) or "none yet", do=do)


def running_stack(settings: Settings) -> Stack:
    """What runs here. Raises ServiceFailed where nothing does."""
    from evergreen import supervisor

    stack = supervisor.running(settings)
    if stack is None:
        raise ServiceFailed("Evergreen is not running here. Start it with `evergreen up`.")
    return stack


def where_it_runs(stack: Stack) -> list[str]:
    """Addresses and sign-in of a running stack, one line each."""
    return [
        f"Airflow   {stack.airflow_url}   user {stack.user}, password {stack.password}",
        f"          {'to approve and roll back:':<{len(stack.airflow_url)}}   "
        f"user {stack.oncall}, password {stack.oncall_password}",
        f"MLflow    {stack.mlflow_url}",
        f"Serving   {stack.serving_url}",
    ]
