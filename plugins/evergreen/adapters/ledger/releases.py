"""Releases and champions in SQL: a release is one compare-and-set transaction."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import candidate as c
from evergreen.adapters.ledger.tables import champion as ch
from evergreen.adapters.ledger.tables import release as r
from evergreen.adapters.ledger.tables import release_event as e
from evergreen.core.errors import PromotionConflict
from evergreen.core.records import Candidate, CandidateState, Champion, Release

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

        A released candidate's own release comes back unchanged. Raises PromotionConflict if the champion has
        changed, KeyError for a candidate that was never kept.
        """
        new = Release(
            id=uuid.uuid4().hex,
            model=candidate.model,
            version=candidate.version,
            bundle=candidate.bundle,
            pool=pool,
            generation=candidate.generation_seen + 1,
            request_id=candidate.request_id,
            released_by=released_by,
            reason=reason,
            watermark=watermark,
            released_at=now,
        )
        with self._database.write() as connection:
            return _released(connection, candidate) or _release(connection, new)

    def get(self, release_id: str) -> Release:
        """KeyError if there is none."""
        with self._database.read() as connection:
            row = connection.execute(select(r).where(r.c.id == release_id)).one_or_none()
        if row is None:
            raise KeyError(f"no release {release_id}")
        return _record(row)

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


def _champion(connection: Connection, model: str) -> Champion:
    row = connection.execute(select(ch).where(ch.c.model == model)).one_or_none()
    return Champion(model, None, 0) if row is None else Champion(**row._mapping)


def _released(connection: Connection, candidate: Candidate) -> Release | None:
    """The release that the candidate has already; its row stays locked until the transaction ends."""
    this = (c.c.model == candidate.model, c.c.version == candidate.version)
    if connection.execute(select(c.c.version).where(*this).with_for_update()).one_or_none() is None:
        raise KeyError(f"{candidate.model}: no candidate of version {candidate.version}")
    query = select(r).where(r.c.model == candidate.model, r.c.version == candidate.version)
    row = connection.execute(query.order_by(r.c.seq).limit(1)).one_or_none()
    return None if row is None else _record(row)


def _release(connection: Connection, new: Release) -> Release:
    seen = new.generation - 1
    # Of two that saw the same generation one finds (model, generation) taken, and everything is undone.
    if not (insert_if_absent(connection, r, _columns(new)) and _compare_and_set(connection, new, seen)):
        raise PromotionConflict(new.model, seen=seen, found=_champion(connection, new.model).generation)
    event = {"state": LIVE, "actor": new.released_by, "reason": new.reason, "at": new.released_at}
    connection.execute(insert(e).values(release_id=new.id, **event))
    this = (c.c.model == new.model, c.c.version == new.version)
    connection.execute(update(c).where(*this).values(state=CandidateState.RELEASED.value))
    return new


def _compare_and_set(connection: Connection, new: Release, seen: int) -> bool:
    values = {"release_id": new.id, "generation": new.generation}
    if seen == 0:
        return insert_if_absent(connection, ch, {"model": new.model, **values})
    unchanged = update(ch).where(ch.c.model == new.model, ch.c.generation == seen)
    return connection.execute(unchanged.values(values)).rowcount == 1


def _columns(new: Release) -> dict[str, Any]:
    return {name: getattr(new, name) for name in new.__dataclass_fields__}


def _record(row: Row[Any]) -> Release:
    return Release(**{name: value for name, value in row._mapping.items() if name != "seq"})
