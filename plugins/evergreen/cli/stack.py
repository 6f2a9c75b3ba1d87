"""`evergreen up`, `evergreen down` and `evergreen demo`: the embedded shape on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from evergreen import wiring
from evergreen.cli.screen import AsJson, print_json, where_it_runs


def up(as_json: AsJson = False) -> None:
    """Start Airflow, MLflow and serving; return when they answer.

    \b
    Uses free ports of the loopback interface and a generated password; keeps its
    state in .evergreen/ and restarts what dies. Asked again, it shows what runs.

    \b
    Examples:
      evergreen up
      evergreen up --json | jq -r .airflow_url
    """
    from evergreen import supervisor

    stack = supervisor.up(wiring.Settings.load(), progress=lambda line: typer.echo(line, err=True))
    if as_json:
        print_json(asdict(stack))
        return
    typer.echo("\n".join(["", *where_it_runs(stack), "", "Next: `evergreen status`. To stop: `evergreen down`."]))


def down(as_json: AsJson = False) -> None:
    """Stop everything that `up` or `demo` started here. Models and data stay in .evergreen/.

    \b
    Stopping what does not run is no error: exit status 0.
    """
    from evergreen import supervisor

    ended = supervisor.down(wiring.Settings.load())
    if as_json:
        print_json({"ended": ended})
    else:
        typer.echo(f"Stopped {ended} processes." if ended else "Nothing was running.")


def demo(
    ask: Annotated[bool, typer.Option("--ask", help="Wait for you to approve in the Airflow UI.")] = False,
) -> None:
    """Play the whole loop on real flights.

    \b
    First models, a retrain by new data, a batch stopped, an approval, a worse
    candidate refused, a rollback. Takes some minutes, shows what happens, and
    leaves everything running to be looked at; the end names the addresses and how
    to stop. Exit status 1 if anything that it promises did not happen. Its home
    (EVERGREEN_HOME, default .evergreen) must hold no models of your own: it
    starts with an empty one.

    \b
    Examples:
      evergreen demo          on-call's approval comes through the same API
      evergreen demo --ask    you are on call
    """
    from evergreen.demo.embedded import play_embedded

    raise typer.Exit(play_embedded(ask=ask))
