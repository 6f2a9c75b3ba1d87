"""Releases and champions in SQL: a release or a rollback is one compare-and-set transaction.

Every such transaction locks the candidate's row first and changes the champion's after it, so that none waits in a
circle.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.holds import place_hold
from evergreen.adapters.ledger.models import change_state, locked_state
from evergreen.adapters.ledger.tables import champion as ch
from evergreen.adapters.ledger.tables import release as r
from evergreen.adapters.ledger.tables import release_event as e
from evergreen.core.errors import EvergreenError, PromotionConflict
from evergreen.core.records import REFUSED, Candidate, CandidateState, Champion, Release, ReleaseKind

LIVE = "live"  # the state of a release without a rollout


class SqlReleases:
    """Implements core.ports.Releases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def champion(self, model: str) -> Champion:
        """Generation 0 where nothing was released yet."""
        with self._database.read() as connection:
            return _champion(connection, model)

    def release(
        self,
        candidate: Candidate,
        *,
        pool: str,
        released_by: str,
        reason: str,
        watermark: datetime | None,
        now: datetime,
    ) -> Release:
        """Make the candidate champion, if the generation is still `candidate.generation_seen`.

        The newest release of a candidate whose state is RELEASED comes back unchanged. Raises PromotionConflict if
        the champion has changed, EvergreenError for a candidate that is rejected, declined or rolled back, KeyError
        for one that was never kept.
        """
        model, version, generation = candidate.model, candidate.version, candidate.generation_seen + 1
        told = {"released_by": released_by, "reason": reason, "watermark": watermark, "released_at": now}
        new = _new(candidate, pool=pool, generation=generation, **told)
        with self._database.write() as connection:
            state = locked_state(connection, model, version)
            if state is CandidateState.RELEASED and (done := _newest(connection, *_of(model, version))):
                return done
            if state in REFUSED:
                raise EvergreenError(f"{model}: version {version} is {state}. Nothing was released.")
            return _make_champion(connection, new)

    def roll_back(
        self, candidate: Candidate, *, seen: int, pool: str, by: str, reason: str, act: str, now: datetime
    ) -> Release:
        """Make an earlier version champion again, if the generation is still `seen`; the model is held.

        The same act again returns its release. Raises PromotionConflict if the champion has changed, EvergreenError
        for a version that was never released or is champion already, KeyError for a candidate that was never kept.
        """
        model, version = candidate.model, candidate.version
        with self._database.write() as connection:
            locked_state(connection, model, version)
            if act and (done := _newest(connection, r.c.model == model, r.c.act == act)):
                return done
            left, earlier = _way_back(connection, model, version, seen)
            told = {"released_by": by, "reason": reason, "watermark": earlier.watermark, "released_at": now}
            new = _new(candidate, pool=pool, generation=seen + 1, kind=ReleaseKind.ROLLBACK, act=act, **told)
            made = _make_champion(connection, new)
            change_state(connection, model, left.version, CandidateState.ROLLED_BACK)
            place_hold(connection, model, by=by, reason=reason, now=now)
            return made

    def get(self, release_id: str) -> Release:
        """KeyError if there is none."""
        with self._database.read() as connection:
            return _get(connection, release_id)

    def history(self, model: str | None = None) -> list[Release]:
        """All releases, oldest first."""
        query = select(r).order_by(r.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(query if model is None else query.where(r.c.model == model))
            return [_record(row) for row in rows]

    def live(self, pool: str) -> list[Release]:
        """The release of each champion of a pool, by model name."""
        query = select(r).join(ch, ch.c.release_id == r.c.id).where(r.c.pool == pool).order_by(r.c.model)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]


def _new(candidate: Candidate, **told: Any) -> Release:
    return Release(
        id=uuid.uuid4().hex,
        model=candidate.model,
        version=candidate.version,
        bundle=candidate.bundle,
        request_id=candidate.request_id,
        **told,
    )


def _champion(connection: Connection, model: str) -> Champion:
    row = connection.execute(select(ch).where(ch.c.model == model)).one_or_none()
    return Champion(model, None, 0) if row is None else Champion(**row._mapping)


def _get(connection: Connection, release_id: str) -> Release:
    row = connection.execute(select(r).where(r.c.id == release_id)).one_or_none()
    if row is None:
        raise KeyError(f"no release {release_id}")
    return _record(row)


def _of(model: str, version: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (r.c.model == model, r.c.version == version)


def _newest(connection: Connection, *where: ColumnElement[bool]) -> Release | None:
    row = connection.execute(select(r).where(*where).order_by(r.c.seq.desc()).limit(1)).one_or_none()
    return None if row is None else _record(row)


def _way_back(connection: Connection, model: str, version: int, seen: int) -> tuple[Release, Release]:
    """The release that a rollback leaves, and the newest one of the version that it goes back to."""
    earlier = _newest(connection, *_of(model, version))
    if earlier is None:
        raise EvergreenError(f"{model}: version {version} was never released. Nothing was rolled back.")
    champion = _champion(connection, model)
    if champion.generation != seen:
        raise PromotionConflict(model, seen=seen, found=champion.generation)
    left = _get(connection, str(champion.release_id))
    if left.version == version:
        raise EvergreenError(f"{model}: version {version} is champion already. Nothing was rolled back.")
    return left, earlier


def _make_champion(connection: Connection, new: Release) -> Release:
    seen = new.generation - 1
    # Of two that saw the same generation one finds (model, generation) taken, and everything is undone.
    if not (insert_if_absent(connection, r, _columns(new)) and _compare_and_set(connection, new, seen)):
        raise PromotionConflict(new.model, seen=seen, found=_champion(connection, new.model).generation)
    event = {"state": LIVE, "actor": new.released_by, "reason": new.reason, "at": new.released_at}
    connection.execute(insert(e).values(release_id=new.id, **event))
    change_state(connection, new.model, new.version, CandidateState.RELEASED)
    return new


def _compare_and_set(connection: Connection, new: Release, seen: int) -> bool:
    values = {"release_id": new.id, "generation": new.generation}
    if seen == 0:
        return insert_if_absent(connection, ch, {"model": new.model, **values})
    unchanged = update(ch).where(ch.c.model == new.model, ch.c.generation == seen)
    return connection.execute(unchanged.values(values)).rowcount == 1


def _columns(new: Release) -> dict[str, Any]:
    values = {name: getattr(new, name) for name in new.__dataclass_fields__}
    return {**values, "kind": new.kind.value, "act": new.act or None}  # none is not unique


def _record(row: Row[Any]) -> Release:
    values = {name: value for name, value in row._mapping.items() if name != "seq"}
    return Release(**{**values, "kind": ReleaseKind(row.kind), "act": row.act or ""})
