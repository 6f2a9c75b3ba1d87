"""The roles of the compose shape, and who of their holders may answer an approval.

Airflow hands its auth manager only the ids that a task was assigned to, so ids carry the rule: `role:Approver` and
`user:anna` may answer, `not:anna` may not, whatever roles she has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

VIEWER, OPERATOR, APPROVER, ADMIN, SERVICE = "Viewer", "Operator", "Approver", "Admin", "Service"
ROLES = (VIEWER, OPERATOR, APPROVER, ADMIN, SERVICE)
CANNOT_APPROVE = (VIEWER, OPERATOR, SERVICE)  # Airflow refuses their answer before it looks at who was asked, or for
# the platform's own account: the ledger takes none (core.approval.decide)
PROMOTE = "promote"  # the DAG that takes the right to answer approvals, not that to start runs
PAGES = "Models"  # the resource whose reading opens the Models pages

ROLE, USER, NOT = "role:", "user:", "not:"


def assigned_ids(approvers: Iterable[str], excluded: Iterable[str]) -> list[str]:
    """The ids for a task whose approvers the spec names (`role:<Name>` or a user's name), but for `excluded` users."""
    who = [one if one.startswith(ROLE) else f"{USER}{one}" for one in approvers]
    return [*who, *(f"{NOT}{name}" for name in excluded)]


def may_answer(assigned: Collection[str], *, user_id: str, name: str, roles: Collection[str]) -> bool:
    """Whether this user may: one of those who were asked, and not excluded. Admin has every role.

    Names are compared as Airflow signs people in: whatever their case. An id without a prefix is Airflow's own.
    """
    asked, name = set(assigned), name.casefold()
    if any(one.casefold() == f"{NOT}{name}" for one in asked):
        return False
    by_role = {one.removeprefix(ROLE) for one in asked if one.startswith(ROLE)}
    if by_role and not by_role.isdisjoint({*roles, *(by_role if ADMIN in roles else ())}):
        return True
    by_name = {one.removeprefix(USER).casefold() for one in asked if one.startswith(USER)}
    return name in by_name or user_id in asked
