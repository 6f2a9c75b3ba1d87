"""What of the store may be removed. Pure: facts of the ledger and a listing of the store in, files out.

Kept whatever their age: the live release, the previous one, the one that a rollback would go back to and one that is
prepared, what a question is open about, candidates of runs at work or that a request is to judge again, the newest
`retention.versions`, those that a recall may let answer again. Kept of any model: what was written or used within
`retention.keep`, and never less than a day: a run that has just begun leans on it. Logged answers and ground truth
(core.logged_parts) are kept for `retention.keep` by the day of the answer, whatever version gave it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core import bundle, recalling, refitting
from evergreen.core.evidence import EVIDENCE as EVIDENCE_FILE
from evergreen.core.records import ENDED, Candidate, CandidateState, Release
from evergreen.core.spec_fields import format_duration

if TYPE_CHECKING:
    from evergreen.core.ports import StoredFile
    from evergreen.core.spec import Retention

YOUNG = timedelta(days=1)
VALIDATED = "validated/"  # what validation found in each part
BUNDLES, SNAPSHOTS, QUARANTINE, EVIDENCE = "bundles/", "snapshots/", "quarantine/", "evidence/"
OF_A_MODEL = (SNAPSHOTS, QUARANTINE, EVIDENCE)  # folders with a folder for each model


@dataclass(frozen=True)
class ModelFacts:
    """What the ledger knows of a model: releases that went live, oldest first; versions of prepared releases, on
    trial, asked about, and that an unfinished request is to judge again; ids of its requests at work.
    """

    candidates: Sequence[Candidate]
    releases: Sequence[Release]
    prepared: frozenset[int] = frozenset()
    on_trial: frozenset[int] = frozenset()
    asked: frozenset[int] = frozenset()
    wanted: frozenset[int] = frozenset()
    at_work: frozenset[str] = frozenset()


def age_limit(keep: Retention, now: datetime) -> datetime:
    """Nothing that was written or used after this is removed."""
    return now - max(keep.keep, YOUNG)


def needed_versions(facts: ModelFacts, keep: Retention, now: datetime, *, recalls: int = 0) -> dict[int, str]:
    """The versions of which all is kept, newest first, each with the first reason why.

    `recalls`: so many of the newest versions may answer again (`versions` of a recall trigger).
    """
    why: dict[int, str] = {}
    for version, reason in [*_reasons(facts, keep, now), *_recalled(facts, recalls)]:
        why.setdefault(version, reason)
    for one in facts.candidates:
        if one.version in why and (fit := recalling.recalled(one)):
            why.setdefault(fit, f"it answers again as version {one.version}")
    for one in facts.candidates:
        if one.version in why and (of := refitting.refit_of(one)):
            why.setdefault(of, f"version {one.version}, its refit, is judged by its answers")
    return dict(sorted(why.items(), reverse=True))


def _reasons(facts: ModelFacts, keep: Retention, now: datetime) -> Iterator[tuple[int, str]]:
    yield from _live_and_ways_back(facts)
    yield from ((version, "it is on trial") for version in facts.on_trial)
    yield from ((version, "its release is prepared") for version in facts.prepared)
    yield from ((version, "a question about it is open") for version in facts.asked)
    yield from ((version, "a request is to judge it again") for version in facts.wanted)
    for one in facts.candidates:
        if one.state is CandidateState.TO_OVERRIDE:
            yield one.version, "a person is to override its gates"
        if one.state not in ENDED and one.request_id in facts.at_work:
            yield one.version, "its run is at work"
    counted = (one.version for one in facts.candidates if one.state is not CandidateState.REFITTED)  # see its refit
    newest = sorted(counted, reverse=True)[: keep.versions]
    yield from ((version, f"among the newest {keep.versions} (retention.versions)") for version in newest)
    yield from _young(facts, keep, now)


def _recalled(facts: ModelFacts, recalls: int) -> Iterator[tuple[int, str]]:
    for one in recalling.kept(facts.candidates, recalls) if recalls else []:
        yield one.version, f"a recall may let it answer again (the newest {recalls})"


def _young(facts: ModelFacts, keep: Retention, now: datetime) -> Iterator[tuple[int, str]]:
    since, lately = age_limit(keep, now), f"within {format_duration(max(keep.keep, YOUNG))} (retention.keep)"
    yield from ((one.version, f"trained {lately}") for one in facts.candidates if one.created_at >= since)
    yield from ((one.version, f"released {lately}") for one in facts.releases if one.released_at >= since)


def _live_and_ways_back(facts: ModelFacts) -> Iterator[tuple[int, str]]:
    """The live version, the one released before it, and the newest before it that was not rolled back."""
    if not facts.releases:
        return
    live = facts.releases[-1].version
    rolled_back = {one.version for one in facts.candidates if one.state is CandidateState.ROLLED_BACK}
    earlier = [one.version for one in reversed(facts.releases) if one.version != live]
    yield live, "live"
    yield from ((version, "released before the live one") for version in earlier[:1])
    ways_back = [version for version in earlier if version not in rolled_back]
    yield from ((version, "a rollback would go back to it") for version in ways_back[:1])


def unneeded_bundles(facts: ModelFacts, needed: Collection[int]) -> frozenset[str]:
    """The bundles of the other versions, if no needed one has the same."""
    kept = {one.bundle for one in facts.candidates if one.version in needed}
    return frozenset(one.bundle for one in facts.candidates) - kept


def removable(
    files: Iterable[StoredFile], *, needed: Collection[int], parts: Collection[str], before: datetime
) -> list[StoredFile]:
    """Those of a model's snapshots, quarantine and evidence that are older than `before` and belong to nothing needed.

    `parts` are the keys of the parts of the needed versions' snapshots; parts are shared between snapshots.
    """
    gone = [file for file in files if file.modified < before and not _belongs(file.key, needed, parts)]
    return sorted(gone, key=_first)


def _belongs(key: str, needed: Collection[int], parts: Collection[str]) -> bool:
    if key.startswith(SNAPSHOTS):
        return key in parts
    if key.startswith(EVIDENCE):
        _, _, version, *_ = key.split("/")
        return not version.isdigit() or int(version) in needed
    return not key.startswith(QUARANTINE)  # what lies elsewhere was not written by Evergreen


def validated_key(part: str, suite: str) -> str:
    """Where what was found in a part (its key) by a suite (a hash) is kept."""
    return f"{VALIDATED}{part.removeprefix(SNAPSHOTS).removesuffix('.parquet')}/{suite[:32]}.json"


def key_hashes_key(part: str, how: str) -> str:
    """Where the hashes of a part's keys are kept, made in some way (a hash)."""
    return f"{VALIDATED}{part.removeprefix(SNAPSHOTS).removesuffix('.parquet')}/{how[:32]}.keys"


def outdated_findings(files: Iterable[StoredFile], parts: Collection[str], before: datetime) -> list[StoredFile]:
    """What was found in parts of which none is left (`parts` are the keys of those that are), and what is old."""
    left = {validated_key(part, "").rpartition("/")[0] for part in parts}
    return [file for file in files if file.key.rpartition("/")[0] not in left or file.modified < before]


def whole_bundle(files: Collection[StoredFile], *, before: datetime) -> list[StoredFile]:
    """All files of a bundle if all are older than `before`, else none: it goes whole, or stays.

    The manifest comes first: a bundle that is removed by half has none, and is nothing any more.
    """
    if any(file.modified >= before for file in files):
        return []
    return sorted(files, key=_first)


def bundle_of(key: str) -> str:
    """The bundle that a file in bundles/ belongs to."""
    return key.removeprefix(BUNDLES).partition("/")[0]


def _first(file: StoredFile) -> bool:
    """False, which comes first, for the file that names the others: what it names is to be there."""
    return file.key.rpartition("/")[2] not in (bundle.MANIFEST, EVIDENCE_FILE)


def models_in(keys: Iterable[str]) -> frozenset[str]:
    """The models that have files in a listing of the store."""
    return frozenset(key.split("/")[1] for key in keys if key.startswith(OF_A_MODEL) and key.count("/") > 1)
