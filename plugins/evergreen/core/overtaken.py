"""Questions that something has overtaken before anybody answered: by a newer candidate, or by a new champion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evergreen.core.approval import what_changed
from evergreen.core.records import ApprovalState, CandidateState

if TYPE_CHECKING:
    from evergreen.core.records import Approval, Candidate, Champion


def superseded(asked: Approval, questions: Sequence[Approval], *, let_through: int = 0) -> str:
    """Why nobody needs to answer any more; empty where somebody still must.

    `questions` are all of the model, oldest first, `let_through` is the newest version that nobody was asked about and
    that came after this question. An override speaks for its own version only: it supersedes none.
    """
    at = next(place for place, one in enumerate(questions) if one.id == asked.id)
    newer = [one.version for place, one in enumerate(questions) if _newer(asked, one, later=place > at)]
    if newest := max([*newer, *([let_through] if let_through > asked.version else [])], default=0):
        return f"version {newest} came before an answer"
    anew = [one.request_id for one in questions[at + 1 :] if _the_same_anew(asked, one)]
    return f"request {anew[-1]} asks about it anew" if anew else ""


def _newer(asked: Approval, other: Approval, *, later: bool) -> bool:
    """Whether the other is about a newer version and came later, or is open all the same."""
    if other.version <= asked.version or other.overrides:
        return False
    return later or (other.state is ApprovalState.OPEN and not asked.overrides)


def _the_same_anew(asked: Approval, other: Approval) -> bool:
    """Of one version only the newest question stays. Not so for overrides: whoever ends one has its version refused."""
    same = other.version == asked.version and other.request_id != asked.request_id
    return same and other.state is ApprovalState.OPEN and not (asked.overrides or other.overrides)


def stale(asked: Approval, candidate: Candidate, champion: Champion) -> str:
    """Why no answer can count any more, so that nobody should read the question; empty where one may.

    That there is a hold, or another verdict, since then is left to the answer: the one may be lifted, and who has
    judged anew is about to ask anew.
    """
    ended = candidate.state not in (CandidateState.PASSED, CandidateState.TO_OVERRIDE)
    return (
        what_changed(asked, candidate, champion, None) if ended or champion.generation != asked.generation_seen else ""
    )
