"""housekeep: remove from the store what no release, no run and no question needs any more, and old values of metrics.

File by file, so that it may be killed at any point and run again. A model is left alone while a run of it is at work
between pull and judge (housekeeping takes the model's lease), and while it is held: somebody is looking into it.
A dry run tells what would go, and takes nothing, not even the lease.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from evergreen.core import logged_parts as logged
from evergreen.core import retention as rt
from evergreen.core.errors import LeaseBusy
from evergreen.core.monitoring import day
from evergreen.core.records import FLEET, Candidate, TriggerRequest
from evergreen.core.spec import Retention
from evergreen.core.triggers import judged_again, overridden
from evergreen.steps.thin_points import thin_points

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Store, StoredFile

HOLDER = "housekeeping"
LEASE = timedelta(minutes=10)
Name = TypeVar("Name", bound=Hashable)
log = logging.getLogger(__name__)


@dataclass
class Housekept:
    """The files that were removed (in a dry run: that would be), each with its model, empty where it belongs to none.

    `points` counts the values of metrics that went, by model. `kept` says why a version's files stay, by model and
    version; `left_alone` why nothing of a model was looked at.
    """

    files: list[tuple[str, str, StoredFile]] = field(default_factory=list)  # model, kind, file
    points: dict[str, int] = field(default_factory=dict)
    kept: dict[str, dict[int, str]] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)

    @property
    def removed(self) -> dict[str, tuple[int, int]]:
        """Files and bytes by kind ('bundles', 'snapshots', …)."""
        return _sums((kind, file) for _, kind, file in self.files)

    def __str__(self) -> str:
        kinds = sorted(self.removed.items())
        what = [f"{kind}: {files:,} files, {size / 1e6:,.1f} MB" for kind, (files, size) in kinds]
        what += [f"points: {sum(self.points.values()):,}"] if self.points else []
        alone = [f"{model} left alone ({why})" for model, why in sorted(self.left_alone.items())]
        return "; ".join([*(what or ["nothing to remove"]), *alone])


def by_model(done: Housekept) -> dict[tuple[str, str], tuple[int, int]]:
    """Files and bytes by model and kind."""
    return _sums(((model, kind), file) for model, kind, file in done.files)


def _sums(named: Iterable[tuple[Name, StoredFile]]) -> dict[Name, tuple[int, int]]:
    sums: dict[Name, tuple[int, int]] = {}
    for name, file in named:
        files, size = sums.get(name, (0, 0))
        sums[name] = (files + 1, size + file.size)
    return sums


def housekeep(
    ledger: Ledger,
    store: Store,
    retentions: Mapping[str, Retention],
    *,
    now: datetime,
    watched: Mapping[str, Collection[str]] = MappingProxyType({}),
    recalls: Mapping[str, int] = MappingProxyType({}),
    leave: Collection[str] = (),
    only: str | None = None,
    dry_run: bool = False,
) -> Housekept:
    """Remove what the models' `retention` lets go, those of models without a spec by its defaults.

    `watched` names the metrics that a model's rules look at, whose values are kept longer (steps.thin_points).
    `recalls` says of how many of the newest versions a model's recalls may take one (`versions` of the trigger).
    `leave` names models that are not touched: their spec cannot be read, so nobody knows how long they are to keep.
    `only` one model's files are looked at, and none that belong to no model. `dry_run` changes nothing at all.
    """
    broom = _Broom(store, dry_run)
    bundles = store.keys(rt.BUNDLES)
    known: set[str] = set()
    for model in [only] if only else sorted(_models(ledger, store, retentions) | set(leave)):
        known |= {candidate.bundle for candidate in ledger.models.candidates(model)}
        if why := _why_alone(ledger, model, leave):
            broom.done.left_alone[model] = why
            continue
        keep = retentions.get(model, Retention())
        _one_model(ledger, broom, model, keep, bundles, now, recalls.get(model, 0))
        if model not in broom.done.left_alone:
            gone = thin_points(ledger, model, keep, watched.get(model, ()), now=now, dry_run=dry_run)
            broom.done.points |= {model: gone} if gone else {}
    if not only:
        broom.sweep(now - rt.YOUNG)
        oldest = min(rt.age_limit(keep, now) for keep in [Retention(), *retentions.values()])
        broom.remove_bundles("", {rt.bundle_of(key) for key in bundles} - known, oldest)  # their training was killed
        broom.remove("", (file for file in store.listing(logged.FORGOTTEN) if file.modified < oldest))
    return broom.done


class _Broom:
    """Removes files and notes them; in a dry run only notes them."""

    def __init__(self, store: Store, dry_run: bool) -> None:
        self.store, self.dry_run, self.done = store, dry_run, Housekept()

    def remove(self, model: str, files: Iterable[StoredFile]) -> None:
        for file in files:
            if not self.dry_run:
                self.store.remove(file.key)
                log.info("Removed %s", file.key)
            self.done.files.append((model, _kind(file.key), file))

    def remove_log(self, model: str, before: datetime) -> None:
        files = (file for kind in logged.KINDS for file in self.store.listing(f"{kind}{model}/"))
        self.remove(model, logged.outdated(files, before))

    def remove_tallies(self, model: str, before: datetime) -> None:
        """What the monitor has counted of days that were over before then; their own age does not count."""
        files = self.store.listing(f"{day.FOLDER}{model}/")
        self.remove(model, [one for one in files if (of := day.day_of(one.key)) is not None and of < before.date()])

    def remove_bundles(self, model: str, bundles: Collection[str], before: datetime) -> None:
        for name in sorted(bundles):  # listed one by one, just before: it may have been written again
            self.remove(model, rt.whole_bundle(self.store.listing(f"{rt.BUNDLES}{name}/"), before=before))

    def sweep(self, before: datetime) -> None:
        left = self.store.sweep(before, dry_run=self.dry_run)
        self.done.files.extend(("", "unfinished writes", file) for file in left)


def _models(ledger: Ledger, store: Store, retentions: Mapping[str, Retention]) -> set[str]:
    """All that may have something in the store, those whose spec is gone too."""
    stored = rt.models_in(key for folder in rt.OF_A_MODEL for key in store.keys(folder))
    answered = logged.models_in(key for kind in logged.KINDS for key in store.keys(kind))
    counted = {key.split("/")[1] for key in store.keys(day.FOLDER)}
    return {*retentions, *stored, *answered, *counted, *(release.model for release in ledger.releases.history())}


def _why_alone(ledger: Ledger, model: str, leave: Collection[str]) -> str:
    if model in leave:
        return "its spec has a problem: `evergreen check`"
    hold = ledger.holds.applying(model)
    if hold:
        return f"{'all models are' if hold.model == FLEET else 'it is'} held by {hold.by}: {hold.reason}"
    return ""


def _one_model(
    ledger: Ledger, broom: _Broom, model: str, keep: Retention, bundles: Iterable[str], now: datetime, recalls: int
) -> None:
    try:
        with _nobody_at_work(ledger, model, now, dry_run=broom.dry_run):
            # from here on no run of it pulls, trains or judges; what ended before is in the facts, and young
            facts = _facts(ledger, model)
            needed, before = rt.needed_versions(facts, keep, now, recalls=recalls), rt.age_limit(keep, now)
            parts = _parts(ledger, [one for one in facts.candidates if one.version in needed])
            broom.done.kept[model] = needed
            gone = rt.unneeded_bundles(facts, needed) & {rt.bundle_of(key) for key in bundles}
            broom.remove_bundles(model, gone, before)
            files = [file for folder in rt.OF_A_MODEL for file in broom.store.listing(f"{folder}{model}/")]
            gone_files = rt.removable(files, needed=needed, parts=parts, before=before)
            broom.remove(model, gone_files)
            left = {file.key for file in files} - {file.key for file in gone_files}
            found = broom.store.listing(f"{rt.VALIDATED}{model}/")
            broom.remove(
                model, rt.outdated_findings(found, [key for key in left if key.startswith(rt.SNAPSHOTS)], before)
            )
            if not broom.dry_run:
                _forget_pulled_days(ledger, broom.store, model)
            broom.remove_log(model, before)
            broom.remove_tallies(model, before)
    except LeaseBusy:
        broom.done.left_alone[model] = "a run is at work"
    except KeyError as error:
        broom.done.left_alone[model] = f"the ledger is not whole: {error.args[0]}"


def _forget_pulled_days(ledger: Ledger, store: Store, model: str) -> None:
    """Days whose part has gone, with this pass or an earlier one that was killed: they are to be read again."""
    there = set(store.keys(f"{rt.SNAPSHOTS}{model}/"))
    days = ledger.pulled_days.of(model)
    ledger.pulled_days.remove(day for day in days if day.key and day.key not in there)


@contextmanager
def _nobody_at_work(ledger: Ledger, model: str, now: datetime, *, dry_run: bool) -> Iterator[None]:
    """Hold the model's lease, or in a dry run only look at it. Raises LeaseBusy."""
    if dry_run:
        lease = ledger.leases.get(model)
        if lease and lease.expires_at > now:
            raise LeaseBusy(f"{lease.holder} holds the lease of {model}")
        yield
        return
    ledger.leases.acquire(model, HOLDER, LEASE, now)
    try:
        yield
    finally:
        ledger.leases.release(model, HOLDER)


def _facts(ledger: Ledger, model: str) -> rt.ModelFacts:
    unfinished = ledger.requests.unfinished(model)
    return rt.ModelFacts(
        candidates=ledger.models.candidates(model),
        releases=ledger.releases.history(model),
        prepared=frozenset(one.version for one in ledger.releases.prepared() if one.model == model),
        on_trial=frozenset(one.version for one in ledger.releases.on_trial() if one.model == model),
        asked=frozenset(one.version for one in ledger.approvals.open_ones() if one.model == model),
        wanted=frozenset(version for one in unfinished for version in _versions_of(one)),
        at_work=frozenset(one.id for one in unfinished),
    )


def _versions_of(request: TriggerRequest) -> list[int]:
    """The versions that it is about: to be judged again, or to be overridden."""
    return [version for version in (judged_again(request), overridden(request)) if version is not None]


def _parts(ledger: Ledger, candidates: Iterable[Candidate]) -> set[str]:
    ids = {(candidate.model, candidate.snapshot_id) for candidate in candidates}
    return {part.key for model, snapshot in ids for part in ledger.models.snapshot(model, snapshot).parts}


def _kind(key: str) -> str:
    """'bundles', 'snapshots', … and of what serving logged 'predictions', 'ground-truth', 'forgotten'."""
    return key.removeprefix(logged.LOG).partition("/")[0]
