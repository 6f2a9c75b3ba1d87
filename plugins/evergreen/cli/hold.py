"""`evergreen hold` and `evergreen release-hold`: stop releases that no person has decided, and let them go on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from evergreen import wiring
from evergreen.cli.acting import WithoutAirflow, act, compose_user
from evergreen.cli.known import Reason, existing_ledger, known_model, whoever_asks
from evergreen.cli.screen import AsJson, print_json
from evergreen.core.holds import held, how_to_lift
from evergreen.core.records import FLEET, Hold

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

Model = Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")]
All = Annotated[bool, typer.Option("--all", help="All models, also those that come later.")]


def hold(
    reason: Reason,
    model: Model = "",
    everything: All = False,
    directly: WithoutAirflow = False,
    as_json: AsJson = False,
) -> None:
    """Hold a model, or all: nothing is released without a person.

    \b
    Runs that the schedule, new data or the API start are skipped, and say why.
    A person's run (evergreen retrain) goes on; what passes waits for an approval,
    also where approval.mode is auto. The champion goes on answering. A rollback
    holds its model by itself.
    Compose: a run of the DAG `hold`, as EVERGREEN_AIRFLOW_USER with
    EVERGREEN_AIRFLOW_PASSWORD, who needs the role Operator.

    \b
    Examples:
      evergreen hold flight-delay --reason "the schedule of June is wrong"
      evergreen hold --all --reason "migration of the warehouse"
    """
    what, why = _what(model, everything), _sentence(reason)
    if not directly and _told_by_airflow("hold", what, why, as_json):
        return
    ledger = _ledger(what)
    before = _own(ledger.holds.applying(what), what)
    placed = ledger.holds.place(what, by=whoever_asks(), reason=why, now=datetime.now(UTC))
    if as_json:
        print_json({**_as_dict(placed), "placed": before is None})
        return
    typer.echo(f"{_name(what)}: {'already ' if before else ''}{held(placed)}.")
    typer.echo(f"To lift it: {how_to_lift(placed)} --reason …")


def release_hold(
    reason: Reason,
    model: Model = "",
    everything: All = False,
    directly: WithoutAirflow = False,
    as_json: AsJson = False,
) -> None:
    """Lift the hold on a model, or on all.

    \b
    A hold on all models and one on a model are lifted each by its own command.
    Lifting one that is not there is no error: exit status 0.
    Compose: as `evergreen hold` does it.

    \b
    Examples:
      evergreen release-hold flight-delay --reason "the schedule was repaired"
      evergreen release-hold --all --reason "the migration is done"
    """
    what, why = _what(model, everything), _sentence(reason)
    if not directly and _told_by_airflow("lift", what, why, as_json):
        return
    ledger = _ledger(what)
    lifted = ledger.holds.lift(what, by=whoever_asks(), reason=why, now=datetime.now(UTC))
    still = ledger.holds.applying(what)
    if as_json:
        print_json({"model": what, "lifted": lifted, "still_held": _as_dict(still) if still else None})
        return
    typer.echo(f"{_name(what)}: the hold is lifted." if lifted else f"{_name(what)}: was not held.")
    if still:
        typer.echo(f"But {held(still)}. To lift that: {how_to_lift(still)} --reason …")


def _told_by_airflow(what: str, model: str, reason: str, as_json: bool) -> bool:
    """Let a run of the DAG `hold` do it, in the compose shape, and tell; false in the embedded one."""
    composed = compose_user()
    if composed is None:
        return False
    told = act(composed, "hold", {"act": what, "model": model, "reason": reason})
    print_json({"model": model, **told}) if as_json else typer.echo(told["outcome"])
    return True


def _what(model: str, everything: bool) -> str:
    if bool(model) == everything:
        raise typer.BadParameter("name one model, or write --all", param_hint="MODEL")
    return model or FLEET


def _sentence(reason: str) -> str:
    if not reason.strip():
        raise typer.BadParameter("say why in a sentence; others will read it", param_hint="--reason")
    return reason.strip()


def _ledger(what: str) -> Ledger:
    """The ledger, once it is known that there is such a model."""
    settings = wiring.Settings.load()
    ledger = existing_ledger(settings)
    if what != FLEET:
        known_model(settings, ledger, what)
    return ledger


def _own(hold: Hold | None, what: str) -> Hold | None:
    return hold if hold and hold.model == what else None


def _name(what: str) -> str:
    return "all models" if what == FLEET else what


def _as_dict(hold: Hold) -> dict[str, str]:
    return {"model": hold.model, "by": hold.by, "reason": hold.reason, "since": hold.since.isoformat()}
