"""What may be released, and the compare-and-set that makes a champion; all within the caller's transaction.

Every such transaction locks the candidate's row first and the champion's after it, so that none waits in a circle.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select, update

from evergreen.adapters.ledger.engine import insert_if_absent
from evergreen.adapters.ledger.models import change_state
from evergreen.adapters.ledger.release_rows import (
    ON_TRIAL,
    WENT_LIVE,
    champion_row,
    change_release,
    columns,
    get_release,
    newest,
    of_version,
    tell,
)
from evergreen.adapters.ledger.tables import approval as ap
from evergreen.adapters.ledger.tables import champion as ch
from evergreen.adapters.ledger.tables import release as r
from evergreen.adapters.ledger.tables import trip
from evergreen.core.errors import EvergreenError, PromotionConflict, TrialTripped
from evergreen.core.records import (
    NEVER_RELEASED,
    ApprovalState,
    Candidate,
    CandidateState,
    Release,
    ReleaseKind,
    RolloutState,
)
from evergreen.core.verdict_json import digest


def refuse(connection: Connection, candidate: Candidate, state: CandidateState) -> None:
    """Raise EvergreenError for a candidate that may not be released."""
    if state in NEVER_RELEASED or (state is CandidateState.TO_OVERRIDE and not _is_approved(connection, candidate)):
        raise may_not(candidate.model, candidate.version, state)


def may_not(model: str, version: int, state: CandidateState) -> EvergreenError:
    """The error of a candidate that may not be released."""
    return EvergreenError(f"{model}: version {version} is {state}. Nothing was released.")


def _is_approved(connection: Connection, candidate: Candidate) -> bool:
    """Whether a person has approved this verdict."""
    what = {"model": candidate.model, "version": candidate.version, "evidence": digest(candidate.verdict)}
    query = select(ap.c.id).filter_by(**what, state=ApprovalState.APPROVED.value).limit(1)
    return connection.scalar(query) is not None


def check_unchanged(connection: Connection, new: Release, *, lock: bool = False) -> None:
    """Raise PromotionConflict where the champion is another than the release was decided against."""
    found = champion_row(connection, new.model, lock=lock).generation
    if found != new.seen:
        raise PromotionConflict(new.model, seen=new.seen, found=found)


def check_not_tripped(connection: Connection, new: Release) -> None:
    """Raise TrialTripped where a guard took the release off its trial."""
    if connection.scalar(select(trip.c.release_id).where(trip.c.release_id == new.id)):
        raise TrialTripped(new.model, new.version)


def check_alone(connection: Connection, new: Release) -> None:
    """Raise EvergreenError where another release of the model is on trial. The champion's row must be locked."""
    other = newest(connection, r.c.model == new.model, r.c.id != new.id, ON_TRIAL)
    if other:
        raise EvergreenError(f"{new.model}: version {other.version} is on trial; version {new.version} has to wait.")


def below_all(connection: Connection, new: Release) -> int:
    """A generation that no release of the model has: those that are not live yet have negative ones."""
    lowest = connection.scalar(select(func.min(r.c.generation)).where(r.c.model == new.model))
    return min(lowest or 0, 0) - 1


def way_back(connection: Connection, model: str, version: int, seen: int) -> tuple[Release, Release]:
    """The release that a rollback leaves, and the newest one of the version that it goes back to."""
    earlier = newest(connection, *of_version(model, version), WENT_LIVE)
    if earlier is None:
        raise EvergreenError(f"{model}: version {version} was never released. Nothing was rolled back.")
    champion = champion_row(connection, model)
    if champion.generation != seen:
        raise PromotionConflict(model, seen=seen, found=champion.generation)
    left = get_release(connection, str(champion.release_id))
    if left.version == version:
        raise EvergreenError(f"{model}: version {version} is champion already. Nothing was rolled back.")
    return left, earlier


def make_champion(
    connection: Connection, new: Release, leaves: RolloutState, *, by: str = "", reason: str = ""
) -> None:
    """The release, prepared before or new, is live from here on, and the one before `leaves`.

    `by` and `reason` tell who made it so, where that is not who released it.

    Raises PromotionConflict where another came first: then everything is undone. The champion's row is locked before
    any release is changed, so that a promotion and a rollback at once do not wait for each other.
    """
    champion = champion_row(connection, new.model, lock=True)
    # The champion can only point to a row that is there: a rollback's is new. Of two first promotions at once, which
    # find no champion's row to lock, one must find that row taken, not the generation of the other's release.
    steps = (_keep, _compare_and_set) if new.kind is ReleaseKind.ROLLBACK else (_compare_and_set, _keep)
    if champion.generation != new.seen or not all(step(connection, new) for step in steps):
        raise PromotionConflict(new.model, seen=new.seen, found=champion_row(connection, new.model).generation)
    told: dict[str, Any] = {"by": by or new.released_by, "reason": reason or new.reason, "at": new.released_at}
    if champion.release_id:
        change_release(connection, get_release(connection, champion.release_id), leaves, **told)
    tell(connection, new, **told)
    change_state(connection, new.model, new.version, CandidateState.RELEASED)


def _keep(connection: Connection, new: Release) -> bool:
    if new.kind is ReleaseKind.ROLLBACK:
        return insert_if_absent(connection, r, columns(new))
    changes = {"state": new.state.value, "generation": new.generation, "released_at": new.released_at}
    changes |= {"weight": 0, "stage_since": None}
    return connection.execute(update(r).where(r.c.id == new.id).values(changes)).rowcount == 1


def _compare_and_set(connection: Connection, new: Release) -> bool:
    values = {"release_id": new.id, "generation": new.generation}
    if new.seen == 0:
        return insert_if_absent(connection, ch, {"model": new.model, **values})
    unchanged = update(ch).where(ch.c.model == new.model, ch.c.generation == new.seen)
    return connection.execute(unchanged.values(values)).rowcount == 1
