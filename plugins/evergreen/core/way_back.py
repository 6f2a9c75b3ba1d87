"""The way back: which earlier version a rollback would make champion again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.errors import FoundProblem
from evergreen.core.records import Candidate, CandidateState, Release, ReleaseKind
from evergreen.core.triggers import readable_time

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger


class RollbackRefused(FoundProblem):
    """Raised when a rollback cannot be done as asked; nothing was changed."""


@dataclass(frozen=True)
class Plan:
    """From which version to which, in the pool that serves the model now; `seen` is the champion's generation."""

    from_version: int
    to: Candidate
    pool: str
    seen: int


def plan(ledger: Ledger, model: str, to: int | None) -> Plan:
    """What a rollback would do now: to the version named, else to the one that was champion before this one.

    Raises RollbackRefused where there is nothing to go back to, or where none is named and the champion came by a
    rollback itself: whoever asks for the same twice does not mean to go back two versions.
    """
    champion = ledger.releases.champion(model)
    history = ledger.releases.history(model)
    if champion.release_id is None:
        raise RollbackRefused(
            f"rollback of {model}",
            found="no champion",
            allowed="a model that was released at least twice",
            do=f"`evergreen status {model}` says what it waits for.",
        )
    present = ledger.releases.get(champion.release_id)
    released = {release.version for release in history}
    version = to if to is not None else _previous(ledger, present, history)
    if version not in released or version == present.version:
        raise _not_possible(model, version, present, released)
    return Plan(present.version, ledger.models.candidate(model, version), present.pool, champion.generation)


def _previous(ledger: Ledger, present: Release, history: Sequence[Release]) -> int:
    if present.kind is ReleaseKind.ROLLBACK:
        others = sorted({release.version for release in history} - {present.version})
        raise RollbackRefused(
            f"rollback of {present.model}",
            found=f"version {present.version}, which {present.released_by} rolled back to at "
            f"{readable_time(present.released_at)} ({present.reason})",
            allowed=f"--to one of {_listed(others)}, to go back further",
            do="If that rollback is the one you want, it is done already.",
        )
    for release in reversed(history):
        if release.version != present.version and not _is_rolled_back(ledger, release):
            return release.version
    raise RollbackRefused(
        f"rollback of {present.model}",
        found=f"no release before version {present.version} that was not rolled back itself",
        allowed="an earlier version",
        do=f"To stop automatic releases until this is solved: `evergreen hold {present.model} --reason …`.",
    )


def _is_rolled_back(ledger: Ledger, release: Release) -> bool:
    return ledger.models.candidate(release.model, release.version).state is CandidateState.ROLLED_BACK


def _not_possible(model: str, version: int, present: Release, released: set[int]) -> RollbackRefused:
    is_champion = version == present.version
    return RollbackRefused(
        f"rollback of {model} to version {version}",
        found="the version that is champion now" if is_champion else "a version that was never released",
        allowed=_listed(sorted(released - {present.version})),
        do=f"`evergreen history {model}` shows all releases.",
    )


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions)) or "none: no other version was ever released"
