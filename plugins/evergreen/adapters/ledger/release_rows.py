"""Releases and champions as rows: read, told and changed within a transaction."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from evergreen.adapters.ledger.tables import champion as ch
from evergreen.adapters.ledger.tables import release as r
from evergreen.adapters.ledger.tables import release_event as e
from evergreen.core import records
from evergreen.core.records import Candidate, Champion, Release, ReleaseEvent, ReleaseKind, RolloutPlan, RolloutState

WENT_LIVE = r.c.generation > 0
ON_TRIAL = r.c.state.in_([state.value for state in records.ON_TRIAL])
UNDER_WAY = ON_TRIAL | (r.c.state == RolloutState.PREPARED.value)


def new_release(candidate: Candidate, pool: str, seen: int, *, generation: int = 0, **told: Any) -> Release:
    """A release of the candidate that is in no table yet."""
    return Release(
        id=uuid.uuid4().hex,
        model=candidate.model,
        version=candidate.version,
        bundle=candidate.bundle,
        request_id=candidate.request_id,
        pool=pool,
        seen=seen,
        generation=generation,
        **told,
    )


def champion_row(connection: Connection, model: str, *, lock: bool = False) -> Champion:
    """Who is champion; generation 0 where nothing was released yet."""
    query = select(ch).where(ch.c.model == model)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return Champion(model, None, 0) if row is None else Champion(**row._mapping)


def get_release(connection: Connection, release_id: str) -> Release:
    """KeyError if there is none."""
    row = connection.execute(select(r).where(r.c.id == release_id)).one_or_none()
    if row is None:
        raise KeyError(f"no release {release_id}")
    return release_record(row)


def newest(connection: Connection, *where: ColumnElement[bool]) -> Release | None:
    """The newest release of which this is true."""
    row = connection.execute(select(r).where(*where).order_by(r.c.seq.desc()).limit(1)).one_or_none()
    return None if row is None else release_record(row)


def of_version(model: str, version: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Whether a release is of this version."""
    return (r.c.model == model, r.c.version == version)


def change_release(connection: Connection, kept: Release, state: RolloutState, **told: Any) -> None:
    """Give a release another state, in which it is not on trial, and tell it."""
    connection.execute(update(r).where(r.c.id == kept.id).values(state=state.value, weight=0, stage_since=None))
    tell(connection, replace(kept, state=state), **told)


def tell(connection: Connection, changed: Release, *, by: str, reason: str, at: datetime) -> None:
    """Add the event of the release's state."""
    event = {"release_id": changed.id, "state": changed.state.value, "actor": by, "reason": reason, "at": at}
    connection.execute(insert(e).values(event))


def columns(new: Release) -> dict[str, Any]:
    """The row of a release."""
    values = {name: getattr(new, name) for name in new.__dataclass_fields__}
    told = {"kind": new.kind.value, "state": new.state.value, "act": new.act or None}  # none is not unique
    return {**values, **told, "plan": new.plan and plan_to_json(new.plan)}


def release_record(row: Row[Any]) -> Release:
    """The row of a release as a record."""
    values = {name: value for name, value in row._mapping.items() if name != "seq"}
    told = {"kind": ReleaseKind(row.kind), "state": RolloutState(row.state), "act": row.act or ""}
    told["plan"] = row.plan and plan_from_json(row.plan)
    return Release(**{**values, **told, "generation": max(row.generation, 0)})


def event_record(row: Row[Any]) -> ReleaseEvent:
    """The row of an event, with its release's model and version."""
    state = RolloutState(row.state)
    return ReleaseEvent(row.release_id, row.model, row.version, state, row.actor, row.reason, row.at)


_LENGTHS = ("shadow", "step", "bake")


def plan_to_json(plan: RolloutPlan) -> dict[str, Any]:
    """Lengths in seconds."""
    return {**vars(plan), **{name: getattr(plan, name).total_seconds() for name in _LENGTHS}}


def plan_from_json(told: dict[str, Any]) -> RolloutPlan:
    """What plan_to_json wrote."""
    lengths = {name: timedelta(seconds=told[name]) for name in _LENGTHS}
    return RolloutPlan(**{**told, **lengths, "canary": tuple(told["canary"])})
