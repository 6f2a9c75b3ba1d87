"""Who may answer an approval, and what is told of it to those who read the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.records import Cause
from evergreen.core.roles import ROLE, assigned_ids

if TYPE_CHECKING:
    from evergreen.core.records import TriggerRequest
    from evergreen.core.spec import ModelSpec

NOT_ENFORCED = (
    "Whoever is signed in here with the right to edit DAG runs may answer: "
    "roles and four-eyes are not enforced in this set-up."
)


@dataclass(frozen=True)
class Approvers:
    """Who was asked. `enforced` is false where Airflow knows no roles: then anybody may answer who may edit runs."""

    enforced: bool
    asked: tuple[str, ...] = ()  # as approval.approvers has them
    excluded: tuple[str, ...] = ()  # users who started the run, with approval.four_eyes
    about: str = ""  # of approval.four_eyes, for people; empty where it is off
    service: str = (
        ""  # the platform's own account, where it is nobody else's: it may end a wait, and decides on nothing
    )

    @property
    def ids(self) -> list[str]:
        """What the approval's task is assigned to; empty lets Airflow ask nobody in particular."""
        service = (self.service,) if self.service else ()
        return assigned_ids((*self.asked, *service), self.excluded) if self.enforced else []

    def told(self) -> str:
        """One line for the question."""
        if not self.enforced:
            return NOT_ENFORCED
        roles = [one.removeprefix(ROLE) for one in self.asked if one.startswith(ROLE)]
        users = [one for one in self.asked if not one.startswith(ROLE)]
        role = f"whoever has the role {' or '.join([*roles, 'Admin'])}" if roles else ""
        who = " and ".join(part for part in (role, ", ".join(users)) if part)
        return f"Who may answer: {who}.{f' {self.about}' if self.about else ''}"


def approvers_of(spec: ModelSpec, request: TriggerRequest | None, *, enforced: bool, service: str) -> Approvers:
    """Who may answer for a run. `service` is the platform's own account, which starts runs for others.

    Airflow tells who started the run; what a script says beside it (requested_by) only adds to those excluded.
    """
    asked = tuple(spec.approval.approvers)
    own = service if enforced else ""
    if not (enforced and spec.approval.four_eyes):
        return Approvers(enforced, asked, service=own)
    user, behalf = _started_by(request)
    excluded = tuple(dict.fromkeys(name for name in (user, behalf) if name and name != service))
    return Approvers(enforced, asked, excluded, _about(excluded, user == service, behalf), own)


def _started_by(request: TriggerRequest | None) -> tuple[str, str]:
    """The user who started the run, and on whose behalf; empty where cron or new data did."""
    if request is None or request.cause not in (Cause.PERSON, Cause.API):
        return "", ""
    return str(request.detail.get("user") or ""), str(request.detail.get("requested_by") or "")


def _about(excluded: tuple[str, ...], by_service: bool, behalf: str) -> str:
    if by_service and behalf:
        return (
            f"Four-eyes: this run was started with the platform's own account, for '{behalf}'. Airflow does not know "
            "who that is: whoever it was shall leave the answer to another."
        )
    if excluded:
        return f"Four-eyes: not {' or '.join(excluded)}, who started this run."
    return "Four-eyes: no person started this run, so nobody is left out."
