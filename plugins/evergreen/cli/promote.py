"""`evergreen promote`: make a version on trial champion now."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import Annotated

import typer

from evergreen import wiring
from evergreen.cli.acting import WithoutAirflow, act, compose_user
from evergreen.cli.known import Reason, existing_ledger, known_model, whoever_asks
from evergreen.cli.screen import WIDTH, AsJson, print_json


def promote(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    reason: Reason,
    directly: WithoutAirflow = False,
    as_json: AsJson = False,
) -> None:
    """Make the version on trial champion now.

    \b
    It answers all callers within seconds. What rolls a version back cannot be
    promoted over: a guard's trip, a limit of rollback_if, a hold of later,
    another champion. Works while Airflow is down.

    \b
    Compose: a run of the DAG `promote`, as EVERGREEN_AIRFLOW_USER with
    EVERGREEN_AIRFLOW_PASSWORD, who needs the role Approver. Is Airflow down:
    --without-airflow, in the container `scheduler`.

    \b
    Exit status 1: no version of the model is on trial, or it must not go live.

    \b
    Examples:
      evergreen promote flight-delay --reason "200 requests take a week here"
    """
    composed = None if directly else compose_user()
    if composed:
        told = act(composed, "promote", {"model": model, "reason": reason})
        print_json({"model": model, **told}) if as_json else typer.echo(textwrap.fill(told["outcome"], WIDTH))
        return
    from evergreen.steps.promote import promote as promote_version
    from evergreen.steps.promote import told_of

    settings = wiring.Settings.load()
    ledger = existing_ledger(settings)
    known_model(settings, ledger, model)
    by = whoever_asks()
    release = promote_version(ledger, model, by=by, reason=reason, now=datetime.now(UTC))
    if as_json:
        print_json({"model": model, "by": by, "reason": reason, "promoted": release.version})
    else:
        typer.echo(textwrap.fill(told_of(release), WIDTH))
