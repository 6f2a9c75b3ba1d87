"""Snapshots and candidates in SQL."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any

from sqlalchemy import Row, Select, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import candidate as c
from evergreen.adapters.ledger.tables import snapshot as s
from evergreen.core.errors import EvergreenError
from evergreen.core.records import Candidate, CandidateState, GateResult, Part, Snapshot, Verdict


class SqlModels:
    """Implements core.ports.Models."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; the same id again changes nothing."""
        parts = [{**asdict(part), "day": part.day.isoformat()} for part in snapshot.parts]
        with self._database.write() as connection:
            insert_if_absent(connection, s, {**_columns(snapshot), "parts": parts})

    def snapshot(self, model: str, snapshot_id: str) -> Snapshot:
        """KeyError if there is none."""
        row = self._row(select(s).where(s.c.model == model, s.c.id == snapshot_id))
        if row is None:
            raise KeyError(f"{model}: no snapshot {snapshot_id}")
        parts = tuple(Part(**{**part, "day": date.fromisoformat(part["day"])}) for part in row.parts)
        return Snapshot(**{**row._mapping, "parts": parts})

    def add_candidate(self, candidate: Candidate) -> Candidate:
        """Keep a candidate, or return the one that has its (model, train key).

        Raises EvergreenError where the version belongs to another train key.
        """
        values = {**_columns(candidate), "state": candidate.state.value, "verdict": _plain(candidate.verdict)}
        with self._database.write() as connection:
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

    def by_train_key(self, model: str, train_key: str) -> Candidate | None:
        """The candidate made from exactly this."""
        row = self._row(select(c).where(c.c.model == model, c.c.train_key == train_key))
        return None if row is None else candidate_record(row)

    def judge(
        self, model: str, version: int, *, verdict: Verdict, state: CandidateState, generation_seen: int
    ) -> Candidate:
        """Keep the verdict and the champion generation that it was reached against. KeyError if there is none."""
        values = {"verdict": _plain(verdict), "state": state.value, "generation_seen": generation_seen}
        with self._database.write() as connection:
            connection.execute(update(c).where(c.c.model == model, c.c.version == version).values(values))
        return self.candidate(model, version)

    def _row(self, query: Select[Any]) -> Row[Any] | None:
        with self._database.read() as connection:
            return connection.execute(query).one_or_none()


def candidate_record(row: Row[Any]) -> Candidate:
    """The row of a candidate as a record."""
    return Candidate(
        **{**row._mapping, "state": CandidateState(row.state), "verdict": row.verdict and _verdict(row.verdict)}
    )


def _columns(record: Snapshot | Candidate) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _plain(verdict: Verdict | None) -> dict[str, Any] | None:
    return None if verdict is None else asdict(verdict)


def _verdict(plain: dict[str, Any]) -> Verdict:
    return Verdict(**{**plain, "gates": tuple(GateResult(**gate) for gate in plain["gates"])})
