"""Makes the roles of the compose shape, its first admin and the platform's own account; run after each migration.

    python -m evergreen.orchestration.roles

Run as often as you like: it puts right what differs. EVERGREEN_ADMIN_PASSWORD is the first admin's, and never read
again once somebody has the role Admin; EVERGREEN_SERVICE_PASSWORD is always that of EVERGREEN_AIRFLOW_USER.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride as Fab
from airflow.providers.fab.www.security import permissions as p

from evergreen.core.errors import EvergreenError, FoundProblem
from evergreen.core.roles import ADMIN, APPROVER, OPERATOR, PAGES, PROMOTE, SERVICE, VIEWER

if TYPE_CHECKING:
    from airflow.providers.fab.auth_manager.models import User

Right = tuple[str, str]  # (what, of which resource), in FAB's names

FIRST_ADMIN = "admin"
LEFT_OUT = ("User", "Op")  # of Airflow's own: with more rights than a viewer, and none of Evergreen's roles
READ: frozenset[Right] = frozenset(
    {
        *Fab.VIEWER_PERMISSIONS,
        (p.ACTION_CAN_ACCESS_MENU, p.RESOURCE_HITL_DETAIL),  # Required Actions
        (p.ACTION_CAN_READ, p.RESOURCE_PLUGIN),  # without it, Airflow's navigation does not show the Models pages
        (p.ACTION_CAN_READ, PAGES),
    }
)
START_RUNS: frozenset[Right] = frozenset(
    {
        (p.ACTION_CAN_EDIT, p.RESOURCE_DAG),  # Airflow asks for it with every change of a run; it lets one pause, too
        (p.ACTION_CAN_CREATE, p.RESOURCE_DAG_RUN),
        (p.ACTION_CAN_EDIT, p.RESOURCE_DAG_RUN),
    }
)
START_PROMOTE: frozenset[Right] = frozenset(
    {
        (p.ACTION_CAN_EDIT, p.resource_name(PROMOTE, p.RESOURCE_DAG)),
        (p.ACTION_CAN_CREATE, p.resource_name(PROMOTE, p.RESOURCE_DAG_RUN)),
    }
)
RIGHTS: dict[str, frozenset[Right]] = {
    VIEWER: READ,
    OPERATOR: READ | START_RUNS | {(p.ACTION_CAN_EDIT, p.RESOURCE_TASK_INSTANCE)},
    APPROVER: READ | {(p.ACTION_CAN_EDIT, p.RESOURCE_HITL_DETAIL)} | START_PROMOTE,
    SERVICE: START_RUNS
    | {(p.ACTION_CAN_EDIT, p.RESOURCE_HITL_DETAIL)}  # to end a wait for an answer: the ledger takes none of its own
    | {
        (p.ACTION_CAN_READ, of)
        for of in (
            p.RESOURCE_DAG,
            p.RESOURCE_DAG_RUN,
            p.RESOURCE_TASK_INSTANCE,
            p.RESOURCE_HITL_DETAIL,
            p.RESOURCE_IMPORT_ERROR,
            p.RESOURCE_WEBSITE,
        )
    },
    "Public": frozenset(),
}


def main() -> int:
    """Make all of it; returns the exit status."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded

    logging.getLogger(Fab.__module__).setLevel(logging.WARNING)  # a line for each right of each role otherwise

    @providers_configuration_loaded  # type: ignore[untyped-decorator]
    def made() -> None:
        with get_application_builder() as builder:
            builder.add_permissions(update_perms=True)
            make_roles(builder.sm)
            make_users(builder.sm, os.environ)

    try:
        made()
    except EvergreenError as error:
        print(f"evergreen: {error}", file=sys.stderr)
        return 1
    return 0


def make_roles(security: Fab) -> None:
    """Give each role its rights, no more and no less. A role that people made by themselves stays as it is."""
    security.create_perm_vm_for_all_dag()
    security.bulk_sync_roles([role for role in security.ROLE_CONFIGS if role["role"] == ADMIN])
    for name, rights in RIGHTS.items():
        role = security.add_role(name)
        wanted = [security.create_permission(*right) for right in sorted(rights)]
        if set(role.permissions) != set(wanted):
            role.permissions = wanted
            security.session.commit()
    security.update_admin_permission()
    for name in LEFT_OUT:
        role = security.find_role(name)
        if role is not None and not role.user:
            security.delete_role(name)


def make_users(security: Fab, environment: Any) -> None:
    """The first admin where nobody has the role Admin, and the platform's own account. Raises FoundProblem."""
    if not security.find_role(ADMIN).user:
        _add(security, FIRST_ADMIN, ADMIN, _secret(environment, "EVERGREEN_ADMIN_PASSWORD"))
        print(f"first admin: {FIRST_ADMIN}")
    name = _secret(environment, "EVERGREEN_AIRFLOW_USER")
    password = _secret(environment, "EVERGREEN_SERVICE_PASSWORD")
    user = security.find_user(name) or _add(security, name, SERVICE, password)
    if not security.check_password(name, password):
        security.reset_password(user.id, password)
    if not user.active or [role.name for role in user.roles] != [SERVICE]:
        user.active, user.roles = True, [security.find_role(SERVICE)]
        security.update_user(user)


def _add(security: Fab, name: str, role: str, password: str) -> User:
    return security.add_user(name, name, "", f"{name}@localhost", security.find_role(role), password)


def _secret(environment: Any, name: str) -> str:
    if not environment.get(name):
        raise FoundProblem(name, found="nothing", allowed="a value", do="`make up` writes it into .env.")
    return str(environment[name])


if __name__ == "__main__":
    sys.exit(main())
