"""Snapshots and candidates in SQL."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import date
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.leases import check_lease
from evergreen.adapters.ledger.tables import candidate as c
from evergreen.adapters.ledger.tables import snapshot as s
from evergreen.core.errors import EvergreenError
from evergreen.core.records import ENDED, REFUSED, Candidate, CandidateState, Lease, Part, Snapshot, Verdict
from evergreen.core.verdict_json import finite, from_json, to_json


class SqlModels:
    """Implements core.ports.Models."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_snapshot(self, snapshot: Snapshot, *, lease: Lease | None = None) -> None:
        """Keep a snapshot; the same id again changes nothing, but for a `suite` where there was none."""
        parts = [{**asdict(part), "day": part.day.isoformat()} for part in snapshot.parts]
        with self._database.write() as connection:
            check_lease(connection, lease)
            if not insert_if_absent(connection, s, {**_columns(snapshot), "parts": parts}) and snapshot.suite:
                this = (s.c.model == snapshot.model, s.c.id == snapshot.id, s.c.suite == "")
                connection.execute(update(s).where(*this).values(suite=snapshot.suite))

    def snapshot(self, model: str, snapshot_id: str) -> Snapshot:
        """KeyError if there is none."""
        row = self._row(select(s).where(s.c.model == model, s.c.id == snapshot_id))
        if row is None:
            raise KeyError(f"{model}: no snapshot {snapshot_id}")
        parts = tuple(Part(**{**part, "day": date.fromisoformat(part["day"])}) for part in row.parts)
        return Snapshot(**{**row._mapping, "parts": parts})

    def add_candidate(self, candidate: Candidate, *, lease: Lease | None = None) -> Candidate:
        """Keep a candidate, or return the one that has its (model, train key).

        Metrics that are not finite are left out. Raises EvergreenError where the version belongs to another train
        key.
        """
        values = {
            **_columns(candidate),
            "metrics": finite(candidate.metrics),
            "state": candidate.state.value,
            "verdict": candidate.verdict and to_json(candidate.verdict),
        }
        with self._database.write() as connection:
            check_lease(connection, lease)
            insert_if_absent(connection, c, values)
        kept = self.by_train_key(candidate.model, candidate.train_key)
        if kept is None:
            raise EvergreenError(
                f"{candidate.model}: version {candidate.version} was made from another train key. "
                "The model registry and the ledger disagree: were they restored from different times?"
            )
        return kept

    def candidate(self, model: str, version: int) -> Candidate:
        """KeyError if there is none."""
        row = self._row(select(c).where(c.c.model == model, c.c.version == version))
        if row is None:
            raise KeyError(f"{model}: no candidate of version {version}")
        return candidate_record(row)

    def candidates(self, model: str) -> list[Candidate]:
        """All candidates of a model, newest version first."""
        query = select(c).where(c.c.model == model).order_by(c.c.version.desc())
        with self._database.read() as connection:
            return [candidate_record(row) for row in connection.execute(query)]

    def by_train_key(self, model: str, train_key: str) -> Candidate | None:
        """The candidate made from exactly this."""
        row = self._row(select(c).where(c.c.model == model, c.c.train_key == train_key))
        return None if row is None else candidate_record(row)

    def judge(
        self,
        model: str,
        version: int,
        *,
        verdict: Verdict,
        state: CandidateState,
        generation_seen: int,
        lease: Lease | None = None,
    ) -> Candidate:
        """Keep the verdict and the champion generation that it was reached against. KeyError if there is none.

        A candidate that has ended meanwhile comes back as it is: a late verdict undoes no release and no rejection.
        Numbers of the verdict that are not finite become none, or are left out of its metrics.
        """
        values = {
            "verdict": to_json(verdict),
            "state": CandidateState(state).value,
            "generation_seen": generation_seen,
        }
        with self._database.write() as connection:
            check_lease(connection, lease)
            this = (c.c.model == model, c.c.version == version)
            ended = [state.value for state in ENDED]
            connection.execute(update(c).where(*this, c.c.state.not_in(ended)).values(values))
        return self.candidate(model, version)

    def reopen(self, model: str, version: int) -> Candidate:
        """Let a rejected, declined or rolled-back candidate be judged anew: state TRAINED. Others stay as they are.

        Its verdict stays until the next one. KeyError if there is none.
        """
        with self._database.write() as connection:
            change_state(connection, model, version, CandidateState.TRAINED, only_from=REFUSED)
        return self.candidate(model, version)

    def _row(self, query: Select[Any]) -> Row[Any] | None:
        with self._database.read() as connection:
            return connection.execute(query).one_or_none()


def candidate_record(row: Row[Any]) -> Candidate:
    """The row of a candidate as a record."""
    state, verdict = CandidateState(row.state), row.verdict and from_json(row.verdict)
    return Candidate(**{**row._mapping, "state": state, "verdict": verdict})


def change_state(
    connection: Connection,
    model: str,
    version: int,
    state: CandidateState,
    *,
    only_from: Collection[CandidateState] = (),
) -> None:
    """Change a candidate's state, within a transaction; where `only_from` is given, from one of these only."""
    change = update(c).where(c.c.model == model, c.c.version == version).values(state=state.value)
    if only_from:
        change = change.where(c.c.state.in_([allowed.value for allowed in only_from]))
    connection.execute(change)


def locked_state(connection: Connection, model: str, version: int) -> CandidateState:
    """A candidate's state; its row stays locked until the transaction ends. KeyError if there is none."""
    this = select(c.c.state).where(c.c.model == model, c.c.version == version)
    state = connection.scalar(this.with_for_update())
    if state is None:
        raise KeyError(f"{model}: no candidate of version {version}")
    return CandidateState(state)


def _columns(record: Snapshot | Candidate) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
