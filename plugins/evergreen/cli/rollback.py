"""`evergreen rollback`: make an earlier version champion again, now."""

from __future__ import annotations

import textwrap
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.acting import WithoutAirflow, act, compose_user
from evergreen.cli.known import Reason, existing_ledger, known_model, whoever_asks
from evergreen.cli.screen import WIDTH, AsJson, print_json

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.steps.roll_back import RolledBack


def rollback(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    reason: Reason,
    to: Annotated[int | None, typer.Option("--to", metavar="N", help="The version; else the one before.")] = None,
    directly: WithoutAirflow = False,
    as_json: AsJson = False,
) -> None:
    """Make an earlier version answer again, and hold the model.

    \b
    Checks first that the version is whole and still gives the answers it gave
    when it was trained; then changes the champion, and returns once serving
    answers with it. No request is lost. Works while Airflow and MLflow are down.

    \b
    The version that was champion does not come back: its data and settings are
    blocked, and the model is held: nothing is released without a person, until
      evergreen release-hold <model> --reason "the fares are repaired"

    \b
    Compose: a run of the DAG `rollback`, as EVERGREEN_AIRFLOW_USER with
    EVERGREEN_AIRFLOW_PASSWORD, who needs the role Operator. Is Airflow down:
    --without-airflow, in the container `scheduler`.

    \b
    Exit status 1: refused, with the reason, and nothing was changed; or the
    champion was changed and serving did not follow within a minute.

    \b
    Examples:
      evergreen rollback flight-delay --reason "too many false alarms since noon"
      evergreen rollback flight-delay --to 3 --reason "back to the version of May"
      evergreen history flight-delay      which versions there are
    """
    composed = None if directly else compose_user()
    if composed:
        told = act(composed, "rollback", {"model": model, "to_version": to, "reason": reason})
        print_json({"model": model, **told}) if as_json else typer.echo(textwrap.fill(told["outcome"], WIDTH))
        return
    settings = wiring.Settings.load()
    ledger = existing_ledger(settings)
    known_model(settings, ledger, model)
    done = _do(settings, ledger, model, to, reason)
    if as_json:
        print_json(_as_dict(done))
    else:
        typer.echo("\n".join(_told(done)))


def _do(settings: wiring.Settings, ledger: Ledger, model: str, to: int | None, reason: str) -> RolledBack:
    from evergreen.steps.rehearse import golden_rows_pass
    from evergreen.steps.roll_back import roll_back

    client, store, slots = wiring.serving_client(), wiring.store(settings), wiring.slots(settings)
    return roll_back(
        model,
        ledger,
        lambda: wiring.hasty_registry(settings),
        client,
        store,
        rehearse=lambda candidate: golden_rows_pass(slots, client, store, candidate),
        to=to,
        by=whoever_asks(),
        reason=reason,
        act=f"command:{uuid.uuid4().hex}",
        now=datetime.now(UTC),
        tell=lambda line: typer.echo(line, err=True),
    )


def _told(done: RolledBack) -> list[str]:
    release = done.release
    lines = [f"Rolled back {release.model} from version {done.from_version} to version {release.version}."]
    if done.serving and done.serving.answers:
        lines.append(f"Serving: {done.serving}.")
    lines += [f"Warning: {warning}." for warning in done.warnings]
    lines.append(
        f"Held: nothing of {release.model} is released without a person now, and version {done.from_version} is not "
        "trained again from the same data."
    )
    wrapped = [textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False) for line in lines]
    return [*wrapped, f"To lift the hold: evergreen release-hold {release.model} --reason …"]


def _as_dict(done: RolledBack) -> dict[str, Any]:
    release, serving = done.release, done.serving
    return {
        "model": release.model,
        "from_version": done.from_version,
        "version": release.version,
        "release": release.id,
        "by": release.released_by,
        "reason": release.reason,
        "at": release.released_at.isoformat(),
        "answers": bool(serving and serving.answers),
        "replicas": list(serving.replicas) if serving else [],
        "warnings": list(done.warnings),
        "held": True,
    }
