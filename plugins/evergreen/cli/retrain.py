"""`evergreen retrain`: a person asks for a retrain now."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from evergreen import wiring
from evergreen.cli.screen import AsJson, console, find_model, print_json, running_stack
from evergreen.core.catalog import load_catalog

if TYPE_CHECKING:
    from evergreen.adapters.airflow_api import AirflowApi
    from evergreen.supervisor import Stack

ENDED = frozenset({"success", "failed"})
UNDER_WAY = frozenset({"running", "queued", "deferred", "awaiting_input", "up_for_retry", "up_for_reschedule"})
POLL = 1.0  # seconds


def retrain(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger and shown on the run.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Take up again what was refused or rolled back.")] = False,
    window_end: Annotated[str, typer.Option(metavar="TIME", help="Use no row later than this.")] = "",
    window_train: Annotated[str, typer.Option(metavar="LENGTH", help="Instead of the spec's window.train.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; exit status 1 if it does not succeed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Retrain a model now, whatever its triggers and cooldown say.

    \b
    Needed after data was repaired in place, which no watcher can see. The run has
    the same steps as any other: validation, gates and approval still decide.

    \b
    Examples:
      evergreen retrain flight-delay --reason "May was repaired in the source"
      evergreen retrain flight-delay --wait && echo it answers
      evergreen retrain flight-delay --window-end 2013-12-01T00:00:00Z
      evergreen retrain flight-delay --window-train 120d --force
    """
    from evergreen.core.run_params import RunParams, given

    settings = wiring.Settings.load()
    spec = find_model(load_catalog(settings.root), model)
    stack = running_stack(settings)
    api = wiring.airflow(stack.airflow_url, stack.user, stack.password)
    asked = {"reason": reason, "force": force, "window_end": window_end, "window_train": window_train}
    conf = given({"requested_by": getpass.getuser(), **asked})
    RunParams.of(conf)  # told here, before a run is started
    run_id = api.trigger(spec.name, conf)
    told = {"model": spec.name, "run_id": run_id, "url": _url(stack, spec.name, run_id)}
    if not as_json:
        typer.echo(f"Retraining {spec.name}: {told['url']}")
    state = _follow(api, spec.name, run_id) if wait else "queued"
    why = _why(settings, spec.name, run_id) if wait else {}
    if as_json:
        print_json({**told, "state": state, **why})
    elif wait:
        typer.echo(f"The run ended: {state}. {why.get('outcome', '')}".rstrip())
    raise typer.Exit(1 if wait and state != "success" else 0)


def _url(stack: Stack, model: str, run_id: str) -> str:
    return f"{stack.airflow_url}/dags/{quote(model)}/runs/{quote(run_id, safe='')}"


def _follow(api: AirflowApi, model: str, run_id: str) -> str:
    """Wait until the run has ended; its state. The progress goes to stderr."""
    began = time.monotonic()
    with console(stderr=True).status("waiting for Airflow") as line:
        while (state := str(api.run(model, run_id)["state"])) not in ENDED:
            now = [task for task, state in api.tasks(model, run_id).items() if state in UNDER_WAY]
            line.update(f"{', '.join(now) or state} ({time.monotonic() - began:.0f} s)")
            time.sleep(POLL)
    return state


def _why(settings: wiring.Settings, model: str, run_id: str) -> dict[str, Any]:
    """What the ledger says of the run: Airflow knows that it ended, not why."""
    from evergreen.core.status import outcome

    request = wiring.ledger(settings).requests.for_run(model, run_id)
    return {"request": request.state.value, "outcome": outcome(request)} if request else {}
