"""The last step: make the candidate champion, and let the model registry show it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.errors import EvergreenError
from evergreen.core.records import Candidate, CandidateState, Release, RequestState

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Registry
    from evergreen.core.spec import ModelSpec

STEP = "roll_out"


def roll_out(
    spec: ModelSpec,
    ledger: Ledger,
    registry: Registry,
    *,
    request_id: str,
    version: int,
    released_by: str,
    reason: str,
    now: datetime,
) -> Release:
    """Release a version that passed; done before, the same release comes back and nothing changes.

    Raises EvergreenError for a candidate that did not pass, PromotionConflict where the champion changed
    since it was judged.
    """
    candidate = _passed(ledger, spec.name, version)
    request = ledger.requests.get(request_id)
    release = ledger.releases.release(
        candidate,
        pool=spec.serving.pool,
        released_by=released_by,
        reason=reason,
        watermark=request.watermark,
        now=now,
    )
    project(ledger, registry, spec.name)
    registry.end_run(candidate.mlflow_run)
    if request.state is not RequestState.SERVED:
        served = f"released version {release.version}"
        ledger.requests.mark(request_id, now=now, state=RequestState.SERVED, step=STEP, reason=served)
    return release


def project(ledger: Ledger, registry: Registry, model: str) -> None:
    """Set the registry's aliases `champion` and `previous` to what the ledger says now, whoever ran last."""
    champion = ledger.releases.champion(model)
    versions = {release.generation: release.version for release in ledger.releases.history(model)}
    for alias, generation in (("champion", champion.generation), ("previous", champion.generation - 1)):
        if generation in versions:
            registry.set_alias(model, alias, versions[generation])


def _passed(ledger: Ledger, model: str, version: int) -> Candidate:
    try:
        candidate = ledger.models.candidate(model, version)
    except KeyError:
        raise EvergreenError(f"{model}: there is no candidate of version {version}. Nothing was released.") from None
    if candidate.state not in (CandidateState.PASSED, CandidateState.RELEASED):
        raise EvergreenError(
            f"{model}: version {version} is {candidate.state}, and only one that passed its gates can be released. "
            "Nothing was released."
        )
    return candidate
