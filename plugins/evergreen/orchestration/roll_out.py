"""The task roll_out: it prepares the release, and waits in the triggerer where the release has a trial before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from evergreen import wiring
from evergreen.core.errors import EvergreenError
from evergreen.core.refitting import answering
from evergreen.orchestration.release_trigger import ReleaseTrigger
from evergreen.orchestration.run_notes import tell
from evergreen.orchestration.task_run import TaskRun, run_step
from evergreen.steps.roll_out import over, roll_out

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.core.records import Release
    from evergreen.core.spec import ModelSpec

STEP = "roll_out"


class RollOut(BaseOperator):
    """Releases the version that 'approve' let through; returns the release's id.

    Each time that it runs it does the same: it finds the release where it is, on trial too, and waits on.
    """

    def __init__(self, *, spec: ModelSpec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._spec = spec

    def execute(self, context: Context) -> str:
        """Prepare, and finish where nothing is to be waited for."""
        return self._release(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Go on once the trial is over: the ledger says how."""
        self.log.info("Release %s is %s.", event["release"], event["state"])
        return self._release(context)

    def _release(self, context: Context) -> str:
        run = TaskRun(self._spec, context)
        with run_step(run, STEP):
            release = _roll_out(run)
            if over(release):
                request = run.request
                tell(context, request.reason if request else f"released version {release.version}")
                return release.id
            run.wait(STEP, _waiting(release))
        self.defer(trigger=ReleaseTrigger(release.id), method_name="execute_complete")


def _waiting(release: Release) -> str:
    if release.stage_since is None:
        return f"version {release.version} is prepared, and waits until the trial of another version is over"
    return f"version {release.version} is on trial: {release.stage}"


def _roll_out(run: TaskRun) -> Release:
    made = run.ledger.models.candidate(run.spec.name, run.handed_on("train"))
    version = answering(run.ledger.models, made).version
    approved = _approved(run, version)
    return roll_out(
        run.spec,
        run.ledger,
        wiring.registry(run.settings),
        request_id=run.handed_on("admit"),
        version=version,
        released_by=approved["by"],
        reason=approved["reason"],
        now=run.now,
    )


def _approved(run: TaskRun, version: int) -> dict[str, Any]:
    """What 'approve' says of this version. Who may clear tasks may also mark them as done: that approves nothing."""
    approved: dict[str, Any] = run.handed_on("approve")
    if approved.get("version") != version:
        raise EvergreenError(f"Task 'approve' did not let version {version} through. Clear it, and let it be answered.")
    return approved
