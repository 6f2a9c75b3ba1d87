"""What each page shows, read from the ledger and the store. Raises NotThere for a model or version that is not."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from evergreen.core import data_docs as docs
from evergreen.core import evidence as ev
from evergreen.core import verdict_json
from evergreen.core.history import HistoryEntry, history_of
from evergreen.core.lineage import Node, of_version
from evergreen.core.records import (
    Approval,
    ApprovalState,
    Candidate,
    Hold,
    Release,
    ReleaseEvent,
    ReleaseKind,
    TriggerRequest,
)
from evergreen.core.reported import FILE as REPORT
from evergreen.core.retention import QUARANTINE
from evergreen.core.status import ModelStatus, facts_of, status_of
from evergreen.core.trial_status import TrialStatus, trial_of, trials
from evergreen.ui.watched import Watched, watched

if TYPE_CHECKING:
    from evergreen.core.catalog import Catalog
    from evergreen.core.ports import Ledger
    from evergreen.core.spec import ModelSpec
    from evergreen.ui.platform import Platform

MOST_EVENTS, MOST_CANDIDATES, MOST_APPROVALS, MOST_ROLLOUTS = 200, 100, 20, 20
MOST_REQUESTS = 1_000  # that a page looks through for those that judged a version again
HIGHEST = 2**31 - 1  # a database cannot even be asked for a higher version


class NotThere(Exception):
    """A model or version that nobody knows, and what to look at instead: (text, path below /evergreen)."""

    def __init__(self, what: str, instead: Sequence[tuple[str, str]] = ()) -> None:
        self.what, self.instead = what, instead
        super().__init__(what)


@dataclass(frozen=True)
class ModelRow:
    """One model. `status` and `spec` are none where its spec has an error or is gone."""

    name: str
    spec: ModelSpec | None
    status: ModelStatus | None
    trial: TrialStatus | None
    hold: Hold | None
    asked: Approval | None


@dataclass(frozen=True)
class Reign:
    """A version's time as champion; `until` is none for the one of now."""

    release: Release
    until: datetime | None

    @property
    def rollback(self) -> bool:
        """Whether it came back by a rollback."""
        return self.release.kind is ReleaseKind.ROLLBACK


@dataclass(frozen=True)
class Rollout:
    """A release, live or not, with the changes of its state, oldest first."""

    release: Release
    events: list[ReleaseEvent]


@dataclass(frozen=True)
class ReportOf:
    """The newest report on a model: on which version, and when it was made."""

    version: int
    at: datetime


@dataclass(frozen=True)
class StoppedRequest:
    """The newest request that validation stopped, and when: it has data docs."""

    request_id: str
    at: datetime


@dataclass(frozen=True)
class ModelPage:
    """All that the page of one model shows, newest first."""

    row: ModelRow
    reigns: list[Reign]
    requests: list[TriggerRequest]
    rollouts: list[Rollout]
    approvals: list[Approval]
    candidates: list[Candidate]
    watched: Watched
    reported: ReportOf | None
    stopped: StoppedRequest | None
    with_evidence: frozenset[int]
    history: list[HistoryEntry]
    more: bool


@dataclass(frozen=True)
class VersionPage:
    """One version: `evidence` is none where none was stored, `verdict` where it has not been judged."""

    candidate: Candidate
    evidence: dict[str, Any] | None
    verdict: dict[str, Any] | None
    champion_now: int | None
    asked: Approval | None
    run_id: str | None
    origin: Node
    reported: bool


def models_page(platform: Platform, now: datetime) -> tuple[list[ModelRow], Catalog]:
    """Every model that has a spec or was ever released."""
    catalog, ledger = platform.catalog(None), platform.ledger()
    released = {release.model for release in ledger.releases.history()}
    names = sorted(released | set(catalog.specs))
    on_trial = trials(ledger)
    return [_row(name, catalog.specs.get(name), ledger, now, on_trial) for name in names], catalog


def model_page(platform: Platform, model: str, now: datetime) -> ModelPage:
    """One model that has a spec, or a candidate in the ledger."""
    ledger = platform.ledger()
    spec = platform.catalog(model).specs.get(model)
    candidates = ledger.models.candidates(model)
    if spec is None and not candidates:
        raise _no_model(platform, model)
    history = history_of(ledger, model)[::-1]
    shown = candidates[:MOST_CANDIDATES]
    return ModelPage(
        row=_row(model, spec, ledger, now, trials(ledger)),
        reigns=_reigns(ledger.releases.history(model)),
        requests=ledger.requests.unfinished(model)[::-1],
        rollouts=_rollouts(ledger, model),
        approvals=ledger.approvals.history(model)[: -MOST_APPROVALS - 1 : -1],
        candidates=shown,
        watched=watched(ledger, model, spec, candidates, now),
        reported=_reported(platform, model),
        stopped=_stopped(platform, model),
        with_evidence=_with_evidence(platform, model),
        history=history[:MOST_EVENTS],
        more=len(history) > MOST_EVENTS or len(candidates) > MOST_CANDIDATES,
    )


def version_page(platform: Platform, model: str, version: int) -> VersionPage:
    """One candidate, whatever became of it."""
    ledger = platform.ledger()
    candidate = _candidate(platform, ledger, model, version)
    evidence = evidence_of(platform, model, version)
    verdict = candidate.verdict and verdict_json.to_json(candidate.verdict)
    champion = ledger.releases.champion(model)
    return VersionPage(
        candidate=candidate,
        evidence=evidence,
        verdict=verdict or (evidence["verdict"] if evidence else None),
        champion_now=ledger.releases.get(champion.release_id).version if champion.release_id else None,
        asked=_open(ledger.approvals.latest(model, version)),
        run_id=_run_of(ledger, candidate),
        origin=of_version(ledger, model, version, look_back=MOST_REQUESTS),
        reported=platform.store().exists(ev.key(model, version, REPORT)),
    )


def evidence_of(platform: Platform, model: str, version: int) -> dict[str, Any] | None:
    """What is stored, none where nothing is."""
    try:
        found: dict[str, Any] = json.loads(platform.store().get(ev.key(model, version)))
    except KeyError:
        return None
    return found


def chart(platform: Platform, model: str, version: int, name: str) -> bytes:
    """A chart that the version's evidence names: nothing else in the store can be asked for."""
    evidence = evidence_of(platform, model, version) if _plain(model) else None
    if evidence and name in evidence["charts"]:
        return platform.store().get(ev.key(model, version, name))
    raise NotThere(f"{model} version {version} has no chart '{name}'", [_to_version(model, version)])


def report(platform: Platform, model: str, version: int) -> bytes:
    """The report on a version's answers."""
    try:
        if _plain(model):
            return platform.store().get(ev.key(model, version, REPORT))
    except KeyError:
        pass
    what = f"{model} version {version} has no report: `evergreen report {model}` makes one of the champion"
    raise NotThere(what, [_to_version(model, version)])


def data_docs(platform: Platform, model: str, request_id: str) -> bytes:
    """The page on a request that validation stopped."""
    try:
        if _plain(model) and _plain(request_id):
            return platform.store().get(docs.key(model, request_id))
    except KeyError:
        pass
    what = f"{model[:60]} has no data docs of request '{request_id[:80]}'"
    why = "They are kept for a while where validation stopped a run; `evergreen data-docs` makes those of any other"
    raise NotThere(f"{what}. {why}", [(model, f"/models/{model}")] if _plain(model) else [])


def _stopped(platform: Platform, model: str) -> StoppedRequest | None:
    """The newest page of a request that validation stopped."""
    listed = platform.store().listing(f"{QUARANTINE}{model}/")
    newest = max((file for file in listed if docs.request_of(file.key)), key=lambda file: file.modified, default=None)
    return StoppedRequest(docs.request_of(newest.key), newest.modified) if newest else None


def _reported(platform: Platform, model: str) -> ReportOf | None:
    """The newest one."""
    files = [file for file in platform.store().listing(f"evidence/{model}/") if file.key.endswith(f"/{REPORT}")]
    newest = max(files, key=lambda file: file.modified, default=None)
    return ReportOf(int(newest.key.split("/")[2]), newest.modified) if newest else None


def _row(name: str, spec: ModelSpec | None, ledger: Ledger, now: datetime, on_trial: Mapping[str, Release]) -> ModelRow:
    asked = reversed(ledger.approvals.history(name))  # a newer request may run while an older one's question is open
    return ModelRow(
        name=name,
        spec=spec,
        status=status_of(spec, facts_of(name, ledger, now, on_trial), now) if spec else None,
        trial=trial_of(ledger, name, now, on_trial),
        hold=ledger.holds.applying(name),
        asked=next((one for one in asked if one.state is ApprovalState.OPEN), None),
    )


def _open(approval: Approval | None) -> Approval | None:
    return approval if approval and approval.state is ApprovalState.OPEN else None


def _reigns(releases: list[Release]) -> list[Reign]:
    ends = [release.released_at for release in releases[1:]]
    return [Reign(release, until) for release, until in zip_longest(releases, ends)][::-1]


def _rollouts(ledger: Ledger, model: str) -> list[Rollout]:
    """The newest, newest first."""
    events = ledger.releases.events(model)
    newest = list(dict.fromkeys(event.release_id for event in events))[: -MOST_ROLLOUTS - 1 : -1]
    return [Rollout(ledger.releases.get(one), [event for event in events if event.release_id == one]) for one in newest]


def _with_evidence(platform: Platform, model: str) -> frozenset[int]:
    keys = platform.store().keys(f"evidence/{model}/")
    return frozenset(int(part) for key in keys if key.endswith(ev.EVIDENCE) and (part := key.split("/")[2]).isdigit())


def _candidate(platform: Platform, ledger: Ledger, model: str, version: int) -> Candidate:
    try:
        if version <= HIGHEST:
            return ledger.models.candidate(model, version)
    except KeyError:
        pass
    known = ledger.models.candidates(model)
    if not known:
        raise _no_model(platform, model)
    versions = [_to_version(model, one.version) for one in known[:5]]
    raise NotThere(f"{model} has no version {version}", [(model, f"/models/{model}"), *versions])


def _run_of(ledger: Ledger, candidate: Candidate) -> str | None:
    try:
        return ledger.requests.get(candidate.request_id).run_id
    except KeyError:
        return None


def _no_model(platform: Platform, model: str) -> NotThere:
    catalog = platform.catalog(None)
    wrong = [problem for problem in catalog.problems if f"models/{model}/" in str(problem)]
    if wrong and _plain(model):
        return NotThere(f"The spec of {model} has an error, and no version was ever trained: run `evergreen check`")
    near = difflib.get_close_matches(model, catalog.specs, n=3, cutoff=0.5) or list(catalog.specs)[:10]
    return NotThere(f"There is no model '{model[:60]}'", [(name, f"/models/{name}") for name in near])


def _to_version(model: str, version: int) -> tuple[str, str]:
    return f"{model} version {version}", f"/models/{model}/versions/{version}"


def _plain(model: str) -> bool:
    """Whether it can be a model's name: no path in it."""
    return model.replace("-", "").isalnum()
