"""`evergreen approve` and `evergreen reject`: the answer to a waiting approval, as on Airflow's page."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from evergreen import wiring
from evergreen.cli.acting import Acting, compose_user, embedded_user
from evergreen.cli.known import existing_ledger, known_model
from evergreen.cli.screen import AsJson, print_json
from evergreen.core.errors import FoundProblem

if TYPE_CHECKING:
    from evergreen.adapters.airflow_api import Question


class User(StrEnum):
    """The users of the embedded shape."""

    ONCALL = "oncall"
    ADMIN = "admin"


Model = Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")]
Version = Annotated[int | None, typer.Option("--version", metavar="N", help="The version, where several wait.")]
As = Annotated[User | None, typer.Option("--as", help="Embedded: the user who answers, else oncall.")]


def approve(
    model: Model,
    version: Version = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")] = "",
    override: Annotated[bool, typer.Option("--override", help="Although the version's gates refused it.")] = False,
    user: As = None,
    as_json: AsJson = False,
) -> None:
    """Release the version that waits for approval.

    \b
    The same answer as a click on Airflow's page (Required Actions), under the
    same rules: the first answer stands, and a reason is needed where the model is
    held or its champion could not be compared. Read the evidence first: the page
    shows it, `evergreen open` leads there, `evergreen status` says what waits.
    Compose: as EVERGREEN_AIRFLOW_USER with EVERGREEN_AIRFLOW_PASSWORD, who needs
    a role that the model's spec names, and with four-eyes not the one who asked.

    \b
    --override releases a version that its gates refused: a run judges it once
    more, against the champion of now, and this command then answers its question.
    The gates that are set aside, who did it and why stay in the history. It needs
    the right to start runs too; with four-eyes another person must answer.

    \b
    Examples:
      evergreen approve flight-delay
      evergreen approve flight-delay --version 4 --reason "fares are right"
      evergreen approve flight-delay --override --version 4 --reason "JFK is shut"
    """
    if override:
        from evergreen.cli.override import approve_refused

        settings = wiring.Settings.load()
        approve_refused(settings, _acting(settings, user), model, version, reason, as_json=as_json)
        return
    _answer(model, version, "Approve", reason, user, as_json)


def reject(
    model: Model,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence; kept in the ledger.")],
    version: Version = None,
    user: As = None,
    as_json: AsJson = False,
) -> None:
    """Refuse the version that waits for approval.

    \b
    The champion stays. What was rejected is not trained again from the same
    data, spec and code. The first answer stands.

    \b
    Examples:
      evergreen reject flight-delay --reason "worse at JFK, see the slices"
    """
    _answer(model, version, "Reject", reason, user, as_json)


def _answer(model: str, version: int | None, option: str, reason: str, user: User | None, as_json: bool) -> None:
    settings = wiring.Settings.load()
    acting = _acting(settings, user)
    ledger = existing_ledger(settings)
    known_model(settings, ledger, model)
    asked = {question.run_id: question for question in acting.api.waiting(model)}
    versions = {one.version: asked[one.run_id] for one in ledger.approvals.history(model) if one.run_id in asked}
    chosen = _choose(model, versions, version)
    _check_reason(model, versions[chosen], option, reason)
    acting.api.approve(model, versions[chosen].run_id, option, reason=reason)
    if as_json:
        print_json({"model": model, "version": chosen, "run_id": versions[chosen].run_id, "answer": option.lower()})
        return
    follows = "It answers within seconds" if option == "Approve" else "The champion stays"
    typer.echo(
        f"{option}: version {chosen} of {model}, as {acting.user}. {follows}; `evergreen status {model}` shows it."
    )


def _acting(settings: wiring.Settings, user: User | None) -> Acting:
    composed = compose_user()
    if composed and user:
        do = f"Set EVERGREEN_AIRFLOW_USER={user} and EVERGREEN_AIRFLOW_PASSWORD instead."
        raise FoundProblem("--as", found=f"'{user}'", allowed="nothing, in the compose shape", do=do)
    return composed or embedded_user(settings, oncall=user is not User.ADMIN)


def _choose(model: str, waiting: dict[int, Question], version: int | None) -> int:
    """The version that is meant. Raises FoundProblem where none waits, another, or several and none is named."""
    listed = ", ".join(str(number) for number in sorted(waiting)) or "none"
    if version is None and len(waiting) == 1:
        return next(iter(waiting))
    if version in waiting:
        return version
    if version is None and waiting:
        found, do = f"versions {listed} waiting", "Say which: --version N."
    else:
        found = f"version {version} not waiting" if version else "nothing that waits for approval"
        do = f"`evergreen status {model}` says what the model waits for, `evergreen history {model}` what was answered."
    raise FoundProblem(f"approval of {model}", found=found, allowed=f"one that waits ({listed})", do=do)


def _check_reason(model: str, question: Question, option: str, reason: str) -> None:
    """The rule of the page, told before the answer is spent: without its reason it would be void."""
    if reason.strip() or (option == "Approve" and not question.needs_reason):
        return
    why = "a rejection needs one" if option == "Reject" else "the model is held, or its champion could not be compared"
    do = "Add --reason and say why, in a sentence."
    raise FoundProblem(f"approval of {model}", found="no reason", allowed=f"a reason: {why}", do=do)
