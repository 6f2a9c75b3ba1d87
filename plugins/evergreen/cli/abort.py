"""`evergreen abort`: end a release that has not gone live, on trial or before."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import Annotated

import typer

from evergreen import wiring
from evergreen.cli.acting import WithoutAirflow, act, compose_user
from evergreen.cli.known import Reason, existing_ledger, known_model, whoever_asks
from evergreen.cli.screen import WIDTH, AsJson, print_json


def abort(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    reason: Reason,
    directly: WithoutAirflow = False,
    as_json: AsJson = False,
) -> None:
    """End a release that has not gone live, on trial too.

    \b
    The champion answers all callers. The version is declined: it is not trained
    again from the same data, spec and code. Works while Airflow is down.
    A version that waits for approval is refused with `evergreen reject`, one that
    is live is taken back with `evergreen rollback`.

    \b
    Compose: a run of the DAG `abort`, as EVERGREEN_AIRFLOW_USER with
    EVERGREEN_AIRFLOW_PASSWORD, who needs the role Operator. Is Airflow down:
    --without-airflow, in the container `scheduler`.

    \b
    Exit status 1: no release of the model is on its way.

    \b
    Examples:
      evergreen abort flight-delay --reason "the fares of today are wrong"
    """
    composed = None if directly else compose_user()
    if composed:
        told = act(composed, "abort", {"model": model, "reason": reason})
        print_json({"model": model, **told}) if as_json else typer.echo(textwrap.fill(told["outcome"], WIDTH))
        return
    from evergreen.steps.abort import abort as abort_releases
    from evergreen.steps.abort import told_of

    settings = wiring.Settings.load()
    ledger = existing_ledger(settings)
    known_model(settings, ledger, model)
    by = whoever_asks()
    ended = abort_releases(ledger, model, by=by, reason=reason, now=datetime.now(UTC))
    if as_json:
        print_json({"model": model, "by": by, "reason": reason, "aborted": [release.version for release in ended]})
    else:
        typer.echo(textwrap.fill(told_of(ended), WIDTH))
