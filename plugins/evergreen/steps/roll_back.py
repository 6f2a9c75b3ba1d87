"""Rollback: make an earlier version champion again. All checks come first; then one transaction; then serving follows.

A rollback is an act with a name. Killed anywhere and done again under the same name, it goes on where it was.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evergreen.core.aliases import project
from evergreen.core.answering import Answering, Ask, Wait, wait_until_answering
from evergreen.core.bundle import GOLDEN
from evergreen.core.champion import load
from evergreen.core.errors import PromotionConflict, RehearsalFailed, ServingFailed
from evergreen.core.records import Candidate, GateResult, Release, ReleaseKind
from evergreen.core.rollout import Abort
from evergreen.core.way_back import Plan, RollbackRefused, plan
from evergreen.steps.advance_rollouts import BY, abort_release
from evergreen.steps.awaited import waiting_request

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Registry, ServingClient, Store
    from evergreen.core.records import Replica

FOLLOWS = Wait(seconds=60)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RolledBack:
    """What a rollback did. `serving` is none where another release came after this one; `warnings` are for people."""

    release: Release
    from_version: int
    serving: Answering | None
    warnings: tuple[str, ...] = ()


def roll_back(
    model: str,
    ledger: Ledger,
    open_registry: Callable[[], Registry],
    client: ServingClient,
    store: Store,
    *,
    rehearse: Callable[[Candidate], GateResult],
    to: int | None,
    by: str,
    reason: str,
    act: str,
    now: datetime,
    wait: Wait = FOLLOWS,
    tell: Callable[[str], None] = log.info,
) -> RolledBack:
    """Check, make the version champion, hold the model, and wait until every live replica answers with the version.

    Needs no spec: a model whose spec was broken can be rolled back. `act` names this rollback, `tell` gets its
    progress. A registry that cannot be opened or does not answer is a warning. Raises RollbackRefused, BundleRefused
    or RehearsalFailed before anything is changed; ServingFailed where the ledger has rolled back and serving does not
    follow within `wait`.
    """
    release = _done_before(ledger, model, act)
    if release is None:
        checked = _check(model, ledger, store, rehearse, to=to, reason=reason, tell=tell)
        release = _commit(ledger, checked, by=by, reason=reason.strip(), act=act, now=now)
    serving = None
    if ledger.releases.champion(model).release_id == release.id:
        tell(f"version {release.version} is champion; waiting until serving answers with it")
        row = json.loads(load(store, release.bundle)[GOLDEN])["rows"][0]
        serving = wait_until_answering(ledger, release, wait, _ask_over_http(client, release, row))
    warnings = (*_warn(release, serving), *_project(ledger, open_registry, model))
    if serving and serving.behind:
        raise ServingFailed(_not_followed(release, serving, wait))
    return RolledBack(release, _before(ledger, release), serving, warnings)


# ---------------------------------------------------------------- checks


def _done_before(ledger: Ledger, model: str, act: str) -> Release | None:
    rollbacks = (r for r in ledger.releases.history(model) if r.kind is ReleaseKind.ROLLBACK)
    return next((release for release in rollbacks if release.act == act), None)


def _check(
    model: str,
    ledger: Ledger,
    store: Store,
    rehearse: Callable[[Candidate], GateResult],
    *,
    to: int | None,
    reason: str,
    tell: Callable[[str], None],
) -> Plan:
    """All that must hold before anything is changed; the champion's generation is read before the rest."""
    if not reason.strip():
        raise RollbackRefused(
            f"rollback of {model}, reason",
            found="an empty text",
            allowed="a sentence that says why",
            do="Give one: it is what people read in the history and on the hold.",
        )
    planned = plan(ledger, model, to)
    version = planned.to.version
    tell(f"{model}: from version {planned.from_version} to version {version}")
    load(store, planned.to.bundle)
    tell(f"rehearsing version {version}: does it still answer its golden rows?")
    found = rehearse(planned.to)
    if not found.passed:
        raise RehearsalFailed(
            f"{model}: version {version} did not pass its rehearsal ({found.limit}): {found.note or found.state}. "
            f"Nothing was changed: version {planned.from_version} goes on answering. "
            f"`evergreen history {model}` shows which other versions there are."
        )
    return planned


def _commit(ledger: Ledger, checked: Plan, *, by: str, reason: str, act: str, now: datetime) -> Release:
    _stop_others(ledger, checked, by, reason, now)
    try:
        return ledger.releases.roll_back(
            checked.to, seen=checked.seen, pool=checked.pool, by=by, reason=reason, act=act, now=now
        )
    except PromotionConflict as conflict:
        raise RollbackRefused(
            f"rollback of {conflict.model} to version {checked.to.version}",
            found="another release or rollback while this one was being checked",
            allowed=f"the champion that was there when it began, version {checked.from_version}",
            do=f"See `evergreen history {conflict.model}`, then ask again if need be. Nothing was changed.",
        ) from conflict


def _stop_others(ledger: Ledger, checked: Plan, by: str, reason: str, now: datetime) -> None:
    """What is about to go live would change the champion under the rollback; it is judged again afterwards."""
    why = Abort(f"{by} rolls back to version {checked.to.version}: {reason}", again=True)
    for release in [*ledger.releases.on_trial(), *ledger.releases.prepared()]:
        if release.model == checked.to.model:
            abort_release(ledger, release, why, by=BY, now=now, request=waiting_request(ledger, release))


# ---------------------------------------------------------------- afterwards


def _before(ledger: Ledger, release: Release) -> int:
    versions = {other.generation: other.version for other in ledger.releases.history(release.model)}
    return versions[release.generation - 1]


def _ask_over_http(client: ServingClient, release: Release, row: Mapping[str, Any]) -> Ask:
    def ask(replica: Replica) -> str:
        try:
            with client.connect(replica.url) as connection:
                answer = connection.predict(release.model, [row])
        except ServingFailed as error:
            return f"does not answer a golden row: {error}"
        return "" if answer.version == release.version else f"answers with version {answer.version}"

    return ask


def _warn(release: Release, serving: Answering | None) -> tuple[str, ...]:
    if serving is None:
        return (f"another release came after this rollback to version {release.version}, and answers now",)
    return () if serving.replicas else (str(serving),)


def _project(ledger: Ledger, open_registry: Callable[[], Registry], model: str) -> tuple[str, ...]:
    """The registry is a picture of the ledger: one that does not answer stops no rollback."""
    try:
        project(ledger, open_registry(), model)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:200]
        return (f"MLflow's aliases are not up to date ({type(error).__name__}: {first}); the reconciler sets them",)
    return ()


def _not_followed(release: Release, serving: Answering, wait: Wait) -> str:
    return (
        f"{release.model}: the ledger has rolled back to version {release.version} and holds the model, but serving "
        f"has not followed within {wait.seconds:.0f} s: {'; '.join(serving.behind)}. Look at that replica's "
        "/v2/health/ready, which says why, and at its log; it follows by itself once it can."
    )
