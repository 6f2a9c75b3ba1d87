"""The auth manager of the compose shape: Airflow's own users and roles, with the rules for approvals.

Only the API server makes one. Everything else of Airflow reads its class at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.www.security.permissions import RESOURCE_HITL_DETAIL

from evergreen.core.roles import PROMOTE, may_answer
from evergreen.orchestration.sign_in_limit import SignInLimit

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
    from airflow.providers.fab.auth_manager.models import User


class EvergreenAuthManager(FabAuthManager):
    """Knows `role:`, `user:` and `not:` in the ids that an approval is assigned to."""

    def init_flask_resources(self) -> None:
        """Nothing: evergreen.orchestration.roles makes the roles, and Airflow would add those that it has left out."""

    def is_authorized_hitl_task(self, *, assigned_users: set[str], user: User) -> bool:
        """Whether the user may answer. Called only where the user may answer approvals at all."""
        roles = {role.name for role in user.roles}
        return may_answer(assigned_users, user_id=user.get_id(), name=user.username, roles=roles)

    def is_authorized_dag(
        self,
        *,
        method: Any,
        user: User,
        access_entity: DagAccessEntity | None = None,
        details: DagDetails | None = None,
    ) -> bool:
        """As Airflow does, but an answer to an approval does not need the right to change the DAG: Approvers only look.

        Airflow asks for the right to edit the DAG with every change of anything below it. A run of the DAG `promote`,
        which is an answer too, is started by who may answer.
        """
        if access_entity is DagAccessEntity.HITL_DETAIL and method == "PUT":
            return self._may_answer(user) and super().is_authorized_dag(method="GET", user=user, details=details)
        if details and details.id == PROMOTE and access_entity and method != "GET" and not self._may_answer(user):
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)

    def _may_answer(self, user: User) -> bool:
        return self._is_authorized(method="PUT", resource_type=RESOURCE_HITL_DETAIL, user=user)

    def get_fastapi_middlewares(self) -> list[tuple[Any, dict[str, Any]]]:
        """Airflow's own, and the limit on wrong passwords."""
        return [*super().get_fastapi_middlewares(), (SignInLimit, {})]
