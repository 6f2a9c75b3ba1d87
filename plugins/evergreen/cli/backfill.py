"""`evergreen backfill`: retrain past windows, one run each."""

from __future__ import annotations

import getpass
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from evergreen import wiring
from evergreen.cli.acting import Acting, compose_user, embedded_user, follow
from evergreen.cli.screen import AsJson, console, counted, find_model, print_json
from evergreen.core import moments
from evergreen.core.backfill import window_ends
from evergreen.core.catalog import load_catalog
from evergreen.core.run_params import RunParams, given
from evergreen.core.status import outcome
from evergreen.core.triggers import readable_time

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Past:
    """One window: its end, its run, and what became of it. `outcome` is empty where nobody waited."""

    window_end: str
    run_id: str
    url: str
    state: str = "queued"
    outcome: str = ""


def backfill(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    first: Annotated[str, typer.Option("--from", metavar="TIME", help="End of the oldest window.")],
    last: Annotated[str, typer.Option("--to", metavar="TIME", help="No window ends later.")],
    every: Annotated[str, typer.Option(metavar="LENGTH", help="From one window's end to the next: 30d.")],
    promote: Annotated[bool, typer.Option("--promote", help="Let what passes be released.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger and shown on the runs.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow them, one after another.")] = False,
    as_json: AsJson = False,
) -> None:
    """Retrain a model on past windows, the oldest first.

    \b
    One run a window, which uses no row later than the window's end: data,
    validation, training and judgement are as they would have been then, with
    today's spec and code. The runs are dry: they end at the verdict, and nothing
    is asked or released.
    With --promote they are runs as any other: gates and approval decide.

    \b
    A window that ends at a day ends at its midnight, UTC. --wait starts each run
    when the one before has ended; exit status 1 if one did not succeed. Without
    it all are started at once, and the model's lease lets one at a time work.
    Compose: as EVERGREEN_AIRFLOW_USER with EVERGREEN_AIRFLOW_PASSWORD, who needs
    the role Operator.

    \b
    Examples:
      evergreen backfill delay --from 2013-06-01 --to 2013-09-01 --every 30d
      evergreen backfill delay --from 2013-06-01 --to 2013-09-01 --every 30d \\
        --wait --json | jq -r '.[] | [.window_end, .outcome] | @tsv'
    """
    settings, now = wiring.Settings.load(), datetime.now(UTC)
    spec = find_model(load_catalog(settings.root), model)
    begin, end = moments.moment("--from", first), moments.moment("--to", last)
    ends = window_ends(begin, end, moments.length("--every", every), now)
    composed = compose_user()
    acting = composed or embedded_user(settings, oncall=False)
    who = composed.user if composed else getpass.getuser()
    asked = {"requested_by": who, "reason": reason, "dry_run": not promote}
    runs = []
    for number, window_end in enumerate(ends, 1):
        conf = given({**asked, "window_end": window_end.isoformat()})
        RunParams.of(conf)  # told here, before a run is started
        if wait:
            typer.echo(f"{number} of {len(ends)}: window until {readable_time(window_end)}", err=True)
        run = _start(acting, spec.name, window_end, conf)
        runs.append(_ended(settings, acting, spec.name, run) if wait else run)
    if as_json:
        print_json([asdict(run) for run in runs])
    else:
        _show(runs, model=spec.name, promote=promote, waited=wait)
    raise typer.Exit(1 if wait and any(run.state != "success" for run in runs) else 0)


def _start(acting: Acting, model: str, window_end: datetime, conf: dict[str, object]) -> Past:
    run_id = acting.api.trigger(model, conf)
    return Past(window_end.isoformat(), run_id, acting.page_of(model, run_id))


def _ended(settings: wiring.Settings, acting: Acting, model: str, run: Past) -> Past:
    state = follow(acting.api, model, run.run_id)
    request = wiring.ledger(settings).requests.for_run(model, run.run_id)
    return Past(run.window_end, run.run_id, run.url, state, outcome(request) if request else "")


def _show(runs: list[Past], *, model: str, promote: bool, waited: bool) -> None:
    what = "as any other run" if promote else "dry: nothing is released"
    typer.echo(f"{counted(len(runs), 'run')} of {model}, {what}.")
    console().print(_table(runs, waited=waited))
    if not waited:
        typer.echo(f"\nEach ends in `evergreen history {model}`; the runs are in Airflow:")
        typer.echo(runs[0].url.rpartition("/runs/")[0])


def _table(runs: list[Past], *, waited: bool) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    columns = [("window until", 16), ("state", 8), ("outcome" if waited else "run", 52)]
    for name, wide in columns:
        table.add_column(name, max_width=wide, overflow="fold")
    for run in runs:
        until = f"{datetime.fromisoformat(run.window_end):%Y-%m-%d %H:%M}"
        table.add_row(until, run.state, run.outcome if waited else run.run_id)
    return table
