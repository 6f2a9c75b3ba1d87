"""What of the store may be removed. Pure: facts of the ledger and a listing of the store in, files out.

Kept whatever their age: the live release, the previous one and the one that a rollback would go back to, what a
question is open about, candidates of runs at work, the newest `retention.versions`. Kept of any model: what was
written or used within `retention.keep`, and never less than a day: a run that has just begun leans on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core import bundle
from evergreen.core.evidence import EVIDENCE as EVIDENCE_FILE
from evergreen.core.records import ENDED, Candidate, CandidateState, Release

if TYPE_CHECKING:
    from evergreen.core.ports import StoredFile
    from evergreen.core.spec import Retention

YOUNG = timedelta(days=1)
BUNDLES, SNAPSHOTS, QUARANTINE, EVIDENCE = "bundles/", "snapshots/", "quarantine/", "evidence/"
OF_A_MODEL = (SNAPSHOTS, QUARANTINE, EVIDENCE)  # folders with a folder for each model


@dataclass(frozen=True)
class ModelFacts:
    """What the ledger knows of a model: releases oldest first, versions asked about, ids of its requests at work."""

    candidates: Sequence[Candidate]
    releases: Sequence[Release]
    asked: frozenset[int] = frozenset()
    at_work: frozenset[str] = frozenset()


def age_limit(keep: Retention, now: datetime) -> datetime:
    """Nothing that was written or used after this is removed."""
    return now - max(keep.keep, YOUNG)


def needed_versions(facts: ModelFacts, keep: Retention, now: datetime) -> frozenset[int]:
    """The versions of which all is kept."""
    since = age_limit(keep, now)
    newest = sorted((one.version for one in facts.candidates), reverse=True)[: keep.versions]
    young = [one.version for one in facts.candidates if one.created_at >= since]
    released = [one.version for one in facts.releases if one.released_at >= since]
    at_work = [one.version for one in facts.candidates if one.state not in ENDED and one.request_id in facts.at_work]
    return frozenset([*newest, *young, *released, *at_work, *facts.asked, *_live_and_ways_back(facts)])


def _live_and_ways_back(facts: ModelFacts) -> Iterator[int]:
    """The live version, the one released before it, and the newest before it that was not rolled back."""
    if not facts.releases:
        return
    live = facts.releases[-1].version
    rolled_back = {one.version for one in facts.candidates if one.state is CandidateState.ROLLED_BACK}
    earlier = [one.version for one in reversed(facts.releases) if one.version != live]
    yield live
    yield from earlier[:1]
    yield from [version for version in earlier if version not in rolled_back][:1]


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
