"""Releases and champions in SQL: going live and rolling back are each one compare-and-set transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.holds import place_hold
from evergreen.adapters.ledger.models import change_state, locked_state
from evergreen.adapters.ledger.release_rows import (
    ON_TRIAL,
    UNDER_WAY,
    WENT_LIVE,
    champion_row,
    change_release,
    columns,
    event_record,
    get_release,
    new_release,
    newest,
    of_version,
    release_record,
    tell,
)
from evergreen.adapters.ledger.release_rules import (
    below_all,
    check_alone,
    check_not_tripped,
    check_unchanged,
    make_champion,
    may_not,
    refuse,
    way_back,
)
from evergreen.adapters.ledger.tables import champion as ch
from evergreen.adapters.ledger.tables import release as r
from evergreen.adapters.ledger.tables import release_event as e
from evergreen.core import records
from evergreen.core.records import (
    NEVER_RELEASED,
    Candidate,
    CandidateState,
    Champion,
    Release,
    ReleaseEvent,
    ReleaseKind,
    RolloutPlan,
    RolloutState,
)

_UNDER_WAY = records.ON_TRIAL | {RolloutState.PREPARED}


class SqlReleases:
    """Implements core.ports.Releases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def champion(self, model: str) -> Champion:
        """Generation 0 where nothing was released yet."""
        with self._database.read() as connection:
            return champion_row(connection, model)

    def prepare(
        self,
        candidate: Candidate,
        *,
        pool: str,
        released_by: str,
        reason: str,
        watermark: datetime | None,
        now: datetime,
        approval_id: str = "",
        plan: RolloutPlan | None = None,
    ) -> Release:
        """Decide to release the candidate, against `candidate.generation_seen`: a release that is prepared.

        Its release that is prepared or on trial comes back where there is one, its newest release where its state is
        RELEASED. Raises PromotionConflict if the champion has changed, EvergreenError for a candidate that may not be
        released, KeyError for one that was never kept.
        """
        told = {"released_by": released_by, "reason": reason, "watermark": watermark, "released_at": now}
        told |= {"state": RolloutState.PREPARED, "approval_id": approval_id, "plan": plan}
        new = new_release(candidate, pool, candidate.generation_seen, **told)
        with self._database.write() as connection:
            state = locked_state(connection, new.model, new.version)
            done = WENT_LIVE if state is CandidateState.RELEASED else UNDER_WAY
            if found := newest(connection, *of_version(new.model, new.version), done):
                return found
            refuse(connection, candidate, state)
            check_unchanged(connection, new)
            while not insert_if_absent(connection, r, {**columns(new), "generation": below_all(connection, new)}):
                pass  # another candidate of the model took that one
            tell(connection, new, by=released_by, reason=reason, at=now)
            return new

    def enter(self, release: Release, state: RolloutState, weight: int, *, reason: str, now: datetime) -> Release:
        """Put a release that is as `release` says (its state and weight) into a stage of its trial.

        One that has moved meanwhile comes back as it is. Raises PromotionConflict if the champion has changed,
        EvergreenError where another release of the model is on trial.
        """
        with self._database.write() as connection:
            kept, _ = _locked(connection, release.id)
            if (kept.state, kept.weight) != (release.state, release.weight):
                return kept
            check_unchanged(connection, kept, lock=True)
            check_alone(connection, kept)
            entered = replace(kept, state=state, weight=weight, stage_since=now)
            values = {"state": state.value, "weight": weight, "stage_since": now}
            connection.execute(update(r).where(r.c.id == kept.id).values(values))
            tell(connection, entered, by=kept.released_by, reason=reason, at=now)
            return entered

    def go_live(self, release_id: str, now: datetime, *, by: str = "", reason: str = "") -> Release:
        """Make a release champion that is prepared or on trial, if the generation is still `seen`.

        Another comes back as it is. Raises PromotionConflict if the champion has changed: then it stays. TrialTripped
        where a guard took it off, EvergreenError for a candidate that may not be released any more, KeyError for a
        release that there is none of.
        """
        with self._database.write() as connection:
            kept, state = _locked(connection, release_id)
            if kept.state not in _UNDER_WAY:
                return kept
            if state in NEVER_RELEASED:
                raise may_not(kept.model, kept.version, state)
            check_not_tripped(connection, kept)
            live = replace(kept, state=RolloutState.LIVE, generation=kept.seen + 1, released_at=now)
            live = replace(live, weight=0, stage_since=None)
            make_champion(connection, live, RolloutState.REPLACED, by=by, reason=reason)
            return live

    def abort(
        self, release_id: str, *, by: str, reason: str, now: datetime, decline: bool = False, tripped: bool = False
    ) -> Release:
        """End a release that is prepared or on trial; another comes back as it is. KeyError if there is none.

        `decline`: a person does not want the candidate, which is then DECLINED. `tripped`: a guard ended its trial, so
        it is ROLLED_BACK and not ABORTED, and so is its candidate.
        """
        ends = RolloutState.ROLLED_BACK if tripped else RolloutState.ABORTED
        with self._database.write() as connection:
            kept, _ = _locked(connection, release_id)
            if kept.state not in _UNDER_WAY:
                return kept
            change_release(connection, kept, ends, by=by, reason=reason, at=now)
            if decline or tripped:
                waiting = (CandidateState.PASSED, CandidateState.TO_OVERRIDE)
                becomes = CandidateState.ROLLED_BACK if tripped else CandidateState.DECLINED
                change_state(connection, kept.model, kept.version, becomes, only_from=waiting)
            return replace(kept, state=ends, weight=0, stage_since=None)

    def prepared(self) -> list[Release]:
        """The prepared releases of all models, oldest first."""
        return self._all(r.c.state == RolloutState.PREPARED.value)

    def on_trial(self, pool: str | None = None) -> list[Release]:
        """The releases on trial, of a pool or of all, oldest first."""
        return self._all(ON_TRIAL if pool is None else ON_TRIAL & (r.c.pool == pool))

    def _all(self, where: ColumnElement[bool]) -> list[Release]:
        with self._database.read() as connection:
            return [release_record(row) for row in connection.execute(select(r).where(where).order_by(r.c.seq))]

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
            if act and (done := newest(connection, r.c.model == model, r.c.act == act)):
                return done
            left, earlier = way_back(connection, model, version, seen)
            told = {"released_by": by, "reason": reason, "watermark": earlier.watermark, "released_at": now}
            new = new_release(candidate, pool, seen, generation=seen + 1, kind=ReleaseKind.ROLLBACK, act=act, **told)
            make_champion(connection, new, RolloutState.ROLLED_BACK)
            change_state(connection, model, left.version, CandidateState.ROLLED_BACK)
            place_hold(connection, model, by=by, reason=reason, now=now)
            return new

    def get(self, release_id: str) -> Release:
        """KeyError if there is none."""
        with self._database.read() as connection:
            return get_release(connection, release_id)

    def history(self, model: str | None = None) -> list[Release]:
        """All releases that went live, oldest first."""
        went = (e.c.release_id == r.c.id) & (e.c.state == RolloutState.LIVE.value)
        query = select(r).join(e, went).order_by(e.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(query if model is None else query.where(r.c.model == model))
            return [release_record(row) for row in rows]

    def events(self, model: str | None = None) -> list[ReleaseEvent]:
        """All changes of state of all releases, oldest first."""
        query = select(e, r.c.model, r.c.version).join(r, r.c.id == e.c.release_id).order_by(e.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(query if model is None else query.where(r.c.model == model))
            return [event_record(row) for row in rows]

    def live(self, pool: str) -> list[Release]:
        """The release of each champion of a pool, by model name."""
        query = select(r).join(ch, ch.c.release_id == r.c.id).where(r.c.pool == pool).order_by(r.c.model)
        with self._database.read() as connection:
            return [release_record(row) for row in connection.execute(query)]

    def changes(self) -> int:
        """Another number than before where a release has changed its state since, of any model; 0 before the first.

        It is the newest event's, the end of an index. Postgres gives out numbers before the commit: of two transactions
        at once the later number may be seen first, and the other one is missed.
        """
        with self._database.read() as connection:
            return connection.execute(select(func.max(e.c.seq))).scalar() or 0


def _locked(connection: Connection, release_id: str) -> tuple[Release, CandidateState]:
    """The release as it is now that nobody can change it, and its candidate's state. KeyError if there is none."""
    kept = get_release(connection, release_id)
    state = locked_state(connection, kept.model, kept.version)
    return get_release(connection, release_id), state
