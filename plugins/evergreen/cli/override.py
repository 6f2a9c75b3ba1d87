"""`evergreen approve --override`: a person wants a version that its gates refused."""

from __future__ import annotations

import getpass
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from evergreen import wiring
from evergreen.cli import acting
from evergreen.cli.known import existing_ledger, known_model
from evergreen.cli.screen import console, print_json
from evergreen.core.errors import FoundProblem, ServiceFailed
from evergreen.core.records import ApprovalState, CandidateState
from evergreen.core.status import outcome

if TYPE_CHECKING:
    from evergreen.cli.acting import Acting
    from evergreen.core.ports import Ledger

SEEN = 3.0  # seconds: an answer within one of its question makes Airflow ask again


@dataclass(frozen=True)
class _Wanted:
    """The version that is wanted, who answers, and why. In the embedded shape another user starts the run."""

    ledger: Ledger
    who: Acting
    model: str
    version: int
    reason: str

    @property
    def where(self) -> str:
        """For errors."""
        return f"override of {self.model}, version {self.version}"


def approve_refused(
    settings: wiring.Settings, who: Acting, model: str, version: int | None, reason: str, *, as_json: bool
) -> None:
    """Have the version judged once more, and approve it as `who` although gates fail.

    Raises FoundProblem where that cannot be (no such version, not refused, no reason, another person must answer),
    ServiceFailed where the run ends and has asked nobody.
    """
    ledger = existing_ledger(settings)
    known_model(settings, ledger, model)
    if version is None or not reason.strip():
        found = "no version" if version is None else "no reason"
        do = f"`evergreen history {model}` shows what was refused; add --version N and --reason."
        raise FoundProblem(f"override of {model}", found=found, allowed="a version and a reason", do=do)
    wanted = _Wanted(ledger, who, model, version, reason.strip())
    _check_refused(wanted)
    run_id = _waiting(wanted) or _asked_anew(settings, wanted)
    _answer(wanted, run_id)
    if as_json:
        print_json({"model": model, "version": version, "run_id": run_id, "answer": "approve"})
        return
    follows = f"It answers within seconds; `evergreen status {model}` shows it."
    typer.echo(f"Approve: version {version} of {model}, whatever its gates say, as {who.user}. {follows}")


def _check_refused(wanted: _Wanted) -> None:
    try:
        state = wanted.ledger.models.candidate(wanted.model, wanted.version).state
    except KeyError:
        found = "no such version"
    else:
        if state in (CandidateState.REJECTED, CandidateState.TO_OVERRIDE):
            return
        found = f"a version that is {state.replace('_', ' ')}"
    do = f"`evergreen history {wanted.model}` shows which were refused by their gates."
    raise FoundProblem(wanted.where, found=found, allowed="a version that its gates refused", do=do)


def _waiting(wanted: _Wanted, run_id: str = "") -> str:
    """The run whose question waits, another person's perhaps, or this one, of a version that passes now; else empty."""
    asked = wanted.ledger.approvals.latest(wanted.model, wanted.version)
    if asked is None or asked.state is not ApprovalState.OPEN or not (asked.overrides or asked.run_id == run_id):
        return ""
    waits = wanted.who.api.tasks(asked.model, asked.run_id).get("approve") == "awaiting_input"
    return asked.run_id if waits else ""  # the ledger has the question a moment before Airflow has


def _asked_anew(settings: wiring.Settings, wanted: _Wanted) -> str:
    """Start the run that judges it once more; the run that asks, when it does."""
    composed = acting.compose_user()
    starts = composed or acting.embedded_user(settings, oncall=False)
    by = composed.user if composed else getpass.getuser()
    conf = {"override": wanted.version, "reason": wanted.reason, "requested_by": by}
    run_id = starts.api.trigger(wanted.model, conf)
    page = starts.page_of(wanted.model, run_id)
    typer.echo(f"Judging version {wanted.version} of {wanted.model} once more: {page}", err=True)
    with console(stderr=True).status("waiting for the question"):
        while not (asks := _waiting(wanted, run_id)):
            if (state := str(starts.api.run(wanted.model, run_id)["state"])) in acting.ENDED:
                request = wanted.ledger.requests.for_run(wanted.model, run_id)
                raise ServiceFailed(f"Nobody was asked: {outcome(request) if request else state}. See {page}")
            time.sleep(acting.POLL)
    time.sleep(SEEN)
    return asks


def _answer(wanted: _Wanted, run_id: str) -> None:
    from evergreen.adapters.airflow_api import NotAllowed

    try:
        wanted.who.api.approve(wanted.model, run_id, "Approve", reason=wanted.reason)
    except NotAllowed as refused:
        page = wanted.who.page_of(wanted.model, run_id)
        raise FoundProblem(
            wanted.where,
            found=refused.found,
            allowed="an answer of somebody who may approve, and with four-eyes not of whoever started the run",
            do=f"The question waits: another person answers it on {page}/tasks/approve/required_actions.",
        ) from refused
