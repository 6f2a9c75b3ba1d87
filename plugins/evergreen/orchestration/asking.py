"""Whom Airflow lets answer an approval: the ids that the task is assigned to, where its auth manager knows roles."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow.sdk.configuration import conf
from airflow.sdk.execution_time.hitl import HITLUser

from evergreen.core.approvers import Approvers, approvers_of

if TYPE_CHECKING:
    from evergreen.orchestration.task_run import TaskRun

AUTH_MANAGER = "evergreen.orchestration.auth_manager.EvergreenAuthManager"


def approvers(run: TaskRun) -> Approvers:
    """Who may answer for this run."""
    enforced = conf.get("core", "auth_manager") == AUTH_MANAGER
    return approvers_of(run.spec, run.request, enforced=enforced, service=os.environ.get("EVERGREEN_AIRFLOW_USER", ""))


def assigned(who: Approvers) -> list[HITLUser]:
    """The same as Airflow takes it."""
    return [HITLUser(id=one, name=one) for one in who.ids]
