"""`evergreen trigger`: a monitor outside says that a metric of a model is no longer right."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger
from evergreen.cli.screen import AsJson, find_model, print_json
from evergreen.core.catalog import load_catalog
from evergreen.core.records import Cause

if TYPE_CHECKING:
    from evergreen.core.records import TriggerRequest

LONGEST = 200  # characters of a metric's name, a window, a key


def trigger(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    metric: Annotated[str, typer.Option(metavar="NAME", help="The metric, such as drift.psi.max.")],
    value: Annotated[float, typer.Option(help="What it is now.")],
    above: Annotated[float | None, typer.Option(metavar="T", help="The limit that it is above.")] = None,
    below: Annotated[float | None, typer.Option(metavar="T", help="The limit that it is below.")] = None,
    window: Annotated[str, typer.Option(metavar="LENGTH", help="Over which time it was measured: 7d.")] = "",
    rows: Annotated[int | None, typer.Option(min=0, help="On how many rows it was measured.")] = None,
    key: Annotated[str, typer.Option(help="The same key twice is one request.")] = "",
    as_json: AsJson = False,
) -> None:
    """Ask for a retrain because of a metric.

    \b
    For scripts and monitors outside. Writes a trigger request into the ledger,
    where the reconciler finds it and starts a run: at once, or when cooldown or
    a hold has ended. Airflow need not run meanwhile. The run's page says what
    the metric was. A monitor that repeats itself gives the same --key for the
    same finding.
    Compose: in the scheduler's container.

    \b
    Examples:
      evergreen trigger flight-delay --metric drift.psi.max --value 0.31 \\
        --above 0.2 --window 7d --rows 12000 --key psi-2013-06-01
      evergreen trigger flight-delay --metric auc --value 0.58 --below 0.62 --json
    """
    detail = _facts(metric, value, above, below, window, rows)
    settings, now = wiring.Settings.load(), datetime.now(UTC)
    spec = find_model(load_catalog(settings.root), model)
    request = existing_ledger(settings).requests.open(
        model=spec.name,
        source=spec.source.id,
        cause=Cause.METRIC,
        dedupe_key=f"metric:{_short('--key', key) or uuid.uuid4().hex}",
        run_id=None,
        watermark=None,
        as_of=None,
        detail=detail,
        now=now,
    )
    is_new = request.requested_at == now
    print_json(_as_dict(request, is_new)) if as_json else typer.echo(_told(request, is_new))


def _facts(
    metric: str, value: float, above: float | None, below: float | None, window: str, rows: int | None
) -> dict[str, Any]:
    """What the request's detail holds, once it is known that it makes sense."""
    if (above is None) == (below is None):
        raise typer.BadParameter("write one of the two", param_hint="--above, --below")
    limit, direction = (above, "above") if above is not None else (below, "below")
    if not (math.isfinite(value) and limit is not None and math.isfinite(limit)):
        raise typer.BadParameter("a number is needed, not nan or inf", param_hint=f"--value, --{direction}")
    if not (value > limit if direction == "above" else value < limit):
        raise typer.BadParameter(
            f"{value:g} is not {direction} {limit:g}: there is nothing to do", param_hint="--value"
        )
    measured = {"window": _short("--window", window), "rows": rows}
    facts = {"metric": _short("--metric", metric), "value": value, "threshold": limit, "direction": direction}
    return facts | {name: given for name, given in measured.items() if given not in ("", None)}


def _short(option: str, text: str) -> str:
    text = text.strip()
    if len(text) > LONGEST or (option == "--metric" and not text):
        raise typer.BadParameter(f"a text of 1 to {LONGEST} characters", param_hint=option)
    return text


def _told(request: TriggerRequest, is_new: bool) -> str:
    from evergreen.core.status import outcome
    from evergreen.core.triggers import cause_told

    told = cause_told(request)
    if not is_new:
        return f"{request.model}: request {request.id} has this key already: {told}. {outcome(request)}."
    return (
        f"{request.model}: request {request.id}: {told}.\n"
        f"The reconciler starts its run, once no cooldown and no hold is against it: evergreen status {request.model}"
    )


def _as_dict(request: TriggerRequest, is_new: bool) -> dict[str, Any]:
    from evergreen.core.status import outcome

    facts = {"model": request.model, "request": request.id, "new": is_new, "state": request.state.value}
    return {**facts, "outcome": outcome(request), "run_id": request.run_id, **request.detail}
