"""Requests that make no version: one that is there is judged anew, against the champion of now.

The reconciler asks for it where the champion changed before an answer or a release (core.requested.again), a person
where a version that was refused is wanted all the same (the run parameter `override`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evergreen.core.bundle import SCHEMA
from evergreen.core.champion import facts_of, why_apart
from evergreen.core.errors import FoundProblem, RunEnds
from evergreen.core.outcome import on_trial, what_became
from evergreen.core.records import ENDED, REFUSED, Candidate, TriggerRequest
from evergreen.core.refitting import answering
from evergreen.core.requested import judged_again, overridden

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.spec import ModelSpec


@dataclass(frozen=True)
class Anew:
    """What a request asks for. `override`: a person decides on it even where gates fail."""

    version: int
    because: str
    override: bool


def asked_anew(request: TriggerRequest) -> Anew | None:
    """The version that this request has judged anew; none where it makes one."""
    again, override = judged_again(request), overridden(request)
    if again is not None:
        return Anew(again, str(request.detail.get("because") or ""), override=override is not None)
    if override is not None:
        return Anew(override, str(request.detail.get("reason") or ""), override=True)
    return None


def taken_up(ledger: Ledger, request: TriggerRequest) -> Candidate | None:
    """The candidate that this request has judged anew, as it is now, or its refit; none where it makes one.

    Raises FoundProblem for a version that is not there, or that was released and so needs no override; RunEnds for
    one that has ended meanwhile or is on trial, so that there is nothing to judge.
    """
    anew = asked_anew(request)
    if anew is None:
        return None
    try:
        candidate = answering(ledger.models, ledger.models.candidate(request.model, anew.version))
    except KeyError:
        raise _refused(request, anew, "no such version of this model") from None
    if judged_for(candidate, request.id) or not (candidate.state in ENDED or on_trial(ledger, candidate)):
        return candidate
    if not anew.override or candidate.state not in ENDED:
        raise RunEnds(f"nothing to judge: version {candidate.version} {what_became(ledger, candidate)}", served=True)
    if candidate.state not in REFUSED:
        raise _refused(request, anew, "a version that was released: there is nothing to override")
    return candidate


def told(request: TriggerRequest) -> str:
    """'version 7 is judged again: …', for the log of each step that passes it on."""
    anew = asked_anew(request)
    return f"version {anew.version} is judged again: {anew.because or 'no reason was given'}" if anew else ""


def judged_for(candidate: Candidate, request_id: str) -> bool:
    """Whether its verdict was reached for this request. Older verdicts do not say: theirs made the version."""
    verdict = candidate.verdict
    return verdict is not None and (verdict.request_id or candidate.request_id) == request_id


def check_fits(spec: ModelSpec, request: TriggerRequest, candidate: Candidate, files: Mapping[str, bytes]) -> None:
    """Raise FoundProblem where the candidate, of which these are the bundle's files, is none of the spec of now."""
    why = why_unfit(spec, files)
    anew = asked_anew(request)
    if why and anew:
        raise _refused(request, anew, f"version {candidate.version}, which model.yaml has left behind: {why}")


def why_unfit(spec: ModelSpec, files: Mapping[str, bytes]) -> str:
    """Why the bundle with these files is none of the spec of now; empty where it is."""
    facts = facts_of(files)
    if why := why_apart(replace(facts, task=str(spec.task), label=spec.label.column), facts):
        return why
    fitted = {feature["name"] for feature in json.loads(files[SCHEMA])["features"]}
    changed = sorted(fitted.symmetric_difference(spec.features.columns))
    return f"its features are not those of now (see {', '.join(changed)})" if changed else ""


def _refused(request: TriggerRequest, anew: Anew, found: str) -> FoundProblem:
    return FoundProblem(
        f"{request.model}: version {anew.version}, which is to be judged again",
        found=found,
        allowed="a version made by the spec of now that its gates, a person or a rollback refused",
        do=f"`evergreen history {request.model}` shows them; `evergreen retrain {request.model}` makes a new one.",
    )
