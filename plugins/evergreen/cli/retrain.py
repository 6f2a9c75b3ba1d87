"""`evergreen retrain`: a person asks for a retrain now."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.acting import compose_user, embedded_user, follow
from evergreen.cli.screen import AsJson, find_model, print_json
from evergreen.core.catalog import load_catalog


def retrain(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger and shown on the run.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Take up again what was refused or rolled back.")] = False,
    window_end: Annotated[str, typer.Option(metavar="TIME", help="Use no row later than this.")] = "",
    window_train: Annotated[str, typer.Option(metavar="LENGTH", help="Instead of the spec's window.train.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Up to the verdict; nothing is asked or released.")
    ] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Look for better parameters first.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; exit status 1 if it does not succeed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Retrain a model now, whatever its triggers and cooldown say.

    \b
    Needed after data was repaired in place, which no watcher can see: all days of
    the window are read anew, those older than source.lateness too. The run has
    the same steps as any other: validation, gates and approval still decide.
    --dry-run makes and judges a version, says what would come next, and ends.
    Compose: as EVERGREEN_AIRFLOW_USER with EVERGREEN_AIRFLOW_PASSWORD, who needs
    the role Operator.

    \b
    Examples:
      evergreen retrain flight-delay --reason "May was repaired in the source"
      evergreen retrain flight-delay --wait && echo it answers
      evergreen retrain flight-delay --dry-run --window-end 2013-12-01T00:00:00Z
      evergreen retrain flight-delay --window-train 120d --force
      evergreen retrain flight-delay --tune --dry-run
    """
    from evergreen.core.run_params import RunParams, given

    settings = wiring.Settings.load()
    spec = find_model(load_catalog(settings.root), model)
    composed = compose_user()
    acting = composed or embedded_user(settings, oncall=False)
    who = composed.user if composed else getpass.getuser()
    asked = {"reason": reason, "force": force, "window_end": window_end, "window_train": window_train}
    conf = given({"requested_by": who, **asked, "dry_run": dry_run, "tune": tune})
    RunParams.of(conf)  # told here, before a run is started
    run_id = acting.api.trigger(spec.name, conf)
    told = {"model": spec.name, "run_id": run_id, "url": acting.page_of(spec.name, run_id)}
    if not as_json:
        typer.echo(f"{'Dry run of' if dry_run else 'Retraining'} {spec.name}: {told['url']}")
    state = follow(acting.api, spec.name, run_id) if wait else "queued"
    why = _why(settings, spec.name, run_id) if wait else {}
    if as_json:
        print_json({**told, "state": state, **why})
    elif wait:
        typer.echo(f"The run ended: {state}. {why.get('outcome', '')}".rstrip())
    raise typer.Exit(1 if wait and state != "success" else 0)


def _why(settings: wiring.Settings, model: str, run_id: str) -> dict[str, Any]:
    """What the ledger says of the run: Airflow knows that it ended, not why."""
    from evergreen.core.status import outcome

    request = wiring.ledger(settings).requests.for_run(model, run_id)
    return {"request": request.state.value, "outcome": outcome(request)} if request else {}
