"""The reconciler's part for models that are made from others: a release there is a reason to retrain here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evergreen.core.records import Cause, Release, ReleaseKind
from evergreen.core.triggers import cause_told

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.spec import ModelSpec


def watch_upstream(
    ledger: Ledger, specs: Mapping[str, ModelSpec], *, now: datetime, known: set[tuple[str, str]] | None = None
) -> list[str]:
    """Open a request for each release that a model's `upstream` trigger names and that has none yet.

    Only the newest one counts, and only while it is live; a rollback brings back what has been here before. `known` is
    the caller's memory from pass to pass, by model and release: so that a pass writes nothing where nothing is new.
    """
    known = set() if known is None else known
    released = {name: _released(ledger, name) for name in {up for spec in specs.values() for up in spec.upstream}}
    done = []
    for spec in specs.values():
        for release in filter(None, map(released.get, spec.upstream)):
            if (spec.name, key_of(release)) not in known:
                done += _ask_for(ledger, spec, release, now)
                known.add((spec.name, key_of(release)))
    return done


def key_of(release: Release) -> str:
    """What makes two requests for a release the same."""
    return f"upstream:{release.model}:{release.generation}"


def _released(ledger: Ledger, upstream: str) -> Release | None:
    champion = ledger.releases.champion(upstream)
    release = ledger.releases.get(champion.release_id) if champion.release_id else None
    return release if release and release.kind is ReleaseKind.PROMOTION else None


def _ask_for(ledger: Ledger, spec: ModelSpec, release: Release, now: datetime) -> list[str]:
    """What was opened now; nothing where it was before. Its run looks at the source when it is admitted."""
    detail: dict[str, Any] = {
        "upstream": release.model,
        "version": release.version,
        "generation": release.generation,
    }
    request = ledger.requests.open(
        model=spec.name,
        source=spec.source.id,
        cause=Cause.UPSTREAM,
        dedupe_key=key_of(release),
        run_id=None,
        watermark=None,
        as_of=None,
        detail=detail,
        now=now,
    )
    return [f"{spec.name}: opened request {request.id}: {cause_told(request)}"] if request.requested_at == now else []
