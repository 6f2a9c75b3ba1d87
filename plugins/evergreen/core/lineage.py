"""Where a version, a release or a snapshot came from, as a tree that the ledger tells. Nothing is guessed.

release → approval, verdict, version → run, snapshot → suite; version → training, spec, code, image, libraries. A
version that was recalled has the snapshot and the code of the one that was fitted; one that was fitted again names the
one that was judged.
What the ledger does not hold stands in the tree as not recorded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evergreen.core import lineage_texts as say
from evergreen.core import refitting, verdict_json
from evergreen.core.monitoring.recovery import Recovery, recoveries
from evergreen.core.recalling import fitted, recalled, why_recalled
from evergreen.core.records import CandidateState
from evergreen.core.triggers import cause_told
from evergreen.core.tuning import KEPT_AS as TUNED

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Approval, Candidate, Release, Snapshot, TriggerRequest

PageOf = Callable[[str, str], str]  # model and run id → the run's address, empty where nobody knows it
EVERY = 1_000_000  # how many requests of a model are searched, the newest ones, for those that judged a version again


@dataclass(frozen=True)
class Node:
    """One link of the chain: its kind, a sentence about it, JSON values by name, and what stands below it."""

    kind: str
    says: str
    facts: dict[str, Any] = field(default_factory=dict)
    below: tuple[Node, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: {"kind", "says", …facts, "below": [the same]}."""
        told = {name: say.plain(value) for name, value in self.facts.items()}
        return {"kind": self.kind, "says": self.says, **told, "below": [node.as_dict() for node in self.below]}


def not_recorded(kind: str, why: str) -> Node:
    """A link that the ledger does not hold."""
    return Node(kind, f"{kind} not recorded: {why}", {"recorded": False})


def nowhere(model: str, run_id: str) -> str:
    """A PageOf where it is not known where Airflow's pages are."""
    return ""


# ---------------------------------------------------------------- what may be traced


def of_version(ledger: Ledger, model: str, version: int, page_of: PageOf = nowhere, *, look_back: int = EVERY) -> Node:
    """The version, what became of it, and what it was made from. KeyError if there is none."""
    candidate = ledger.models.candidate(model, version)
    ids = dict.fromkeys(event.release_id for event in ledger.releases.events(model) if event.version == version)
    releases = [_release(ledger, ledger.releases.get(release_id)) for release_id in ids]
    asked = [one for one in ledger.approvals.history(model) if one.version == version]
    shown = {node.facts["id"] for release in releases for node in release.below if "id" in node.facts}
    approvals = [_approval(one, candidate) for one in asked if one.id not in shown]
    return _version(candidate, (*releases, *approvals, *_made_from(ledger, candidate, page_of, look_back)))


def of_release(ledger: Ledger, release_id: str, page_of: PageOf = nowhere, *, look_back: int = EVERY) -> Node:
    """The release, who let it through, and the version with all that it was made from. KeyError if there is none."""
    release = ledger.releases.get(release_id)
    found = _release(ledger, release)
    candidate = ledger.models.candidate(release.model, release.version)
    verdict, *made_from = _made_from(ledger, candidate, page_of, look_back)
    below = (*found.below, verdict, _version(candidate, tuple(made_from)))
    return Node(found.kind, found.says, found.facts, below)


def of_snapshot(
    ledger: Ledger, model: str, snapshot_id: str, page_of: PageOf = nowhere, *, look_back: int = EVERY
) -> Node:
    """The snapshot with its suite, and the versions that were made from it. KeyError if there is none."""
    found = _snapshot(ledger.models.snapshot(model, snapshot_id))
    made = [one for one in _made(ledger, model) if one.snapshot_id == snapshot_id]
    traced = (of_version(ledger, model, one.version, page_of, look_back=look_back) for one in made)
    versions = tuple(_without_snapshot(node) for node in traced)
    says = f"{found.says}; {say.versions_made([one.version for one in made])}"
    return Node(found.kind, says, {**found.facts, "versions": [one.version for one in made]}, found.below + versions)


def release_ids(ledger: Ledger, model: str) -> list[str]:
    """The releases that went live, that are prepared, and that were aborted, oldest first."""
    return list(dict.fromkeys(event.release_id for event in ledger.releases.events(model)))


def snapshot_ids(ledger: Ledger, model: str) -> list[str]:
    """The snapshots that versions were made from, oldest version first."""
    return list(dict.fromkeys(one.snapshot_id for one in _made(ledger, model)))


def _made(ledger: Ledger, model: str) -> list[Candidate]:
    """The versions that were fitted, oldest first: one that was recalled is only judged on its snapshot."""
    return [one for one in reversed(ledger.models.candidates(model)) if recalled(one) is None]


# ---------------------------------------------------------------- the links


def _release(ledger: Ledger, release: Release) -> Node:
    events = [one for one in ledger.releases.events(release.model) if one.release_id == release.id]
    facts = {
        "id": release.id, "model": release.model, "version": release.version, "release_kind": release.kind,
        "state": release.state, "generation": release.generation, "pool": release.pool, "by": release.released_by,
        "reason": release.reason, "at": release.released_at, "bundle": release.bundle, "request": release.request_id,
        "events": [{"state": one.state, "at": one.at, "by": one.by, "reason": one.reason} for one in events],
    }  # fmt: skip
    steps = tuple(Node("event", say.event(one, release)) for one in events)
    return Node("release", say.release(release), facts, (*steps, _let_through(ledger, release)))


def _let_through(ledger: Ledger, release: Release) -> Node:
    """The approval, or why nobody was asked."""
    asked = [one for one in ledger.approvals.history(release.model) if one.id == release.approval_id]
    if asked:
        return _approval(asked[0], ledger.models.candidate(release.model, release.version))
    why = say.why_nobody_was_asked(release)
    return Node("approval", f"approval: {why}", {"asked": False, "reason": why}) if why else _unknown_approval(release)


def _unknown_approval(release: Release) -> Node:
    return not_recorded("approval", f"released by {release.released_by} before releases named their approval")


def _approval(asked: Approval, candidate: Candidate) -> Node:
    same = asked.evidence == verdict_json.digest(candidate.verdict)
    facts = {
        "id": asked.id, "asked": True, "state": asked.state, "version": asked.version, "by": asked.answered_by,
        "reason": asked.reason, "asked_at": asked.asked_at, "answered_at": asked.answered_at,
        "overrides": asked.overrides, "evidence": asked.evidence, "same_verdict": same, "run_id": asked.run_id,
        "bundle": asked.bundle, "generation_seen": asked.generation_seen,
    }  # fmt: skip
    return Node("approval", say.approval(asked, same_verdict=same), facts)


def _version(candidate: Candidate, below: tuple[Node, ...]) -> Node:
    facts = {
        "model": candidate.model, "version": candidate.version, "state": candidate.state, "bundle": candidate.bundle,
        "train_key": candidate.train_key, "made_at": candidate.created_at, "data_end": candidate.data_end,
        "mlflow_run": candidate.mlflow_run,
    }  # fmt: skip
    seals = (
        Node("bundle", f"bundle, sha256 {candidate.bundle}"),
        Node("train_key", f"train key {candidate.train_key}"),
    )
    return Node("version", say.version(candidate), facts, seals + below)


def _made_from(ledger: Ledger, candidate: Candidate, page_of: PageOf, look_back: int) -> Iterator[Node]:
    """The verdict, the runs, the snapshot, and what the code was."""
    yield _verdict(candidate)
    yield from _runs(ledger, candidate, page_of, look_back)
    if again := refitting.told(candidate):
        yield Node("refit", again, {"of": refitting.refit_of(candidate)})
    elif candidate.state is CandidateState.REFITTED:
        version = refitting.answering(ledger.models, candidate).version
        yield Node("refit", f"fitted again as version {version}, which is released in its place", {"version": version})
    own = fitted(ledger.models, candidate)
    if why := why_recalled(candidate):
        yield Node("recalled", why, {"version": own.version, "judged_on": candidate.snapshot_id})
    try:
        yield _snapshot(ledger.models.snapshot(own.model, own.snapshot_id))
    except KeyError:
        yield not_recorded("snapshot", f"the ledger has no snapshot {own.snapshot_id}")
    yield from _training(candidate)
    yield from _made_with(candidate)


def _verdict(candidate: Candidate) -> Node:
    found = candidate.verdict
    if found is None:
        return Node("verdict", "verdict: none yet, the version was not judged", {"judged": False})
    facts = {
        "judged": found.judged, "passed": found.passed, "rows": found.rows, "reason": found.reason,
        "ask_why": found.ask_why, "champion_version": found.champion_version,
        "generation_seen": candidate.generation_seen, "evidence": verdict_json.digest(found),
        "request": found.request_id,
        "gates": verdict_json.to_json(found)["gates"],
    }  # fmt: skip
    return Node("verdict", say.verdict(found), facts, tuple(Node("gate", say.gate(one)) for one in found.gates))


def _runs(ledger: Ledger, candidate: Candidate, page_of: PageOf, look_back: int) -> Iterator[Node]:
    """The run that made the version, then those that judged it again or asked about it, oldest first."""
    requests = ledger.requests.latest(candidate.model, limit=look_back)
    found = recoveries(ledger, candidate.model, requests)
    try:
        made = ledger.requests.get(candidate.request_id)
        yield _run(made, say.MADE, page_of, found.get(made.id))
    except KeyError:
        yield not_recorded("run", f"the ledger has no trigger request {candidate.request_id}")
    asked_by = {one.request_id for one in ledger.approvals.history(candidate.model) if one.version == candidate.version}
    for request in reversed(requests):
        what = say.what_it_did(request, candidate.version) or (request.id in asked_by and say.ASKED_AGAIN)
        if what and request.id != candidate.request_id:
            yield _run(request, what, page_of)


def _run(request: TriggerRequest, what: str, page_of: PageOf, recovery: Recovery | None = None) -> Node:
    facts = {
        "id": request.run_id, "model": request.model, "request": request.id, "what": what, "cause": request.cause,
        "by": say.who(request), "watermark": request.watermark, "as_of": request.as_of, "state": request.state,
        "reason": request.reason, "detail": request.detail, "requested_at": request.requested_at,
        "closed_at": request.closed_at, "url": page_of(request.model, request.run_id),
    }  # fmt: skip
    why = Node("request", f"request {request.id}: {cause_told(request)}; {say.asked(request)}")
    return Node("run", say.run(request, what), facts, (why, *_recovery(recovery)))


def _recovery(found: Recovery | None) -> Iterator[Node]:
    """Of a run that a metric asked for: whether the metric came back."""
    if found:
        facts = {"helped": found.helped, "at": found.at, "version": found.version, "asked": found.asked}
        yield Node("recovery", found.says, facts)


def _snapshot(snapshot: Snapshot) -> Node:
    facts = {
        "id": snapshot.id, "model": snapshot.model, "start": snapshot.start, "as_of": snapshot.as_of,
        "rows": snapshot.rows, "unlabelled": snapshot.unlabelled, "quarantined": snapshot.quarantined,
        "parts": [{"day": one.day, "key": one.key, "rows": one.rows, "sha256": one.sha256} for one in snapshot.parts],
        "schema_hash": snapshot.schema_hash,
    }  # fmt: skip
    return Node("snapshot", say.snapshot(snapshot), facts, (_suite(snapshot),))


def _suite(snapshot: Snapshot) -> Node:
    if not snapshot.suite:
        return not_recorded("suite", say.EARLIER)
    name, _, digest = snapshot.suite.rpartition("@")
    return Node("suite", f"suite {name}, sha256 {digest}", {"name": name, "sha256": digest})


def _training(candidate: Candidate) -> Iterator[Node]:
    if engine := candidate.made_with.get("engine"):
        tuned = json.loads(candidate.made_with.get(TUNED, "{}"))
        yield Node("training", say.training(engine, tuned), {"engine": engine, "tuned": tuned})


def _made_with(candidate: Candidate) -> Iterator[Node]:
    for kind, name, words in say.MADE_WITH:
        value = candidate.made_with.get(name, "")
        missing = "no image was named (EVERGREEN_IMAGE)" if candidate.made_with and name == "image" else say.EARLIER
        yield Node(kind, f"{words} {value}", {name: value}) if value else not_recorded(kind, missing)


def _without_snapshot(version: Node) -> Node:
    return Node(version.kind, version.says, version.facts, tuple(n for n in version.below if n.kind != "snapshot"))
