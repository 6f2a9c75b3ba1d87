"""The verdict on a candidate beside its champion: gates on its answers, on its size, then the rehearsal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evergreen.core import refitting
from evergreen.core.champion import facts_of, load, why_apart
from evergreen.core.errors import BundleRefused, NotComparable
from evergreen.core.fresh import scored_rows
from evergreen.core.gates import judge_measured, judge_quality, too_few, verdict_of
from evergreen.core.judgement import REHEARSAL, REHEARSAL_LIMIT
from evergreen.core.measure import all_values
from evergreen.core.records import Candidate, CandidateState, GateResult, GateState, Verdict
from evergreen.core.verdict_json import finite

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.judgement import Rehearse
    from evergreen.core.ports import Store, Trainer
    from evergreen.core.scored import Scored
    from evergreen.core.spec import ModelSpec

NOT_REHEARSED = "refused before the rehearsal"
MB = 1e6


@dataclass(frozen=True)
class Rivals:
    """The candidate and the champion with their bundles' files. `apart` says why they cannot be compared, if so."""

    candidate: Candidate
    files: Mapping[str, bytes]
    champion: Candidate | None
    champion_files: Mapping[str, bytes]
    apart: str

    @classmethod
    def read(cls, store: Store, candidate: Candidate, champion: Candidate | None) -> Rivals:
        """Raises BundleRefused where the candidate's bundle is not what was registered."""
        files = load(store, candidate.bundle)
        if champion is None:
            return cls(candidate, files, None, {}, "")
        try:
            theirs = load(store, champion.bundle)
        except BundleRefused as error:
            return cls(candidate, files, champion, {}, f"its bundle cannot be read ({error})")
        return cls(candidate, files, champion, theirs, why_apart(facts_of(files), facts_of(theirs)))

    def released_as(self, store: Store, candidate: Candidate) -> Rivals:
        """With the version that is to be released in the candidate's place, if it is another one: its refit."""
        if candidate.version == self.candidate.version:
            return self
        return replace(self, candidate=candidate, files=load(store, candidate.bundle))


@dataclass(frozen=True)
class Answers:
    """What both say of the fresh rows, why the champion says nothing of them, if so, and the gates on that: none where
    there are too few rows."""

    scored: Scored
    apart: str
    gates: tuple[GateResult, ...]

    @classmethod
    def of(cls, spec: ModelSpec, trainer: Trainer, rivals: Rivals, fresh: pl.DataFrame) -> Answers:
        """Ask them. Raises NotComparable where the candidate cannot be asked."""
        champion, apart = None, rivals.apart
        if rivals.champion and not apart:
            try:
                champion = trainer.predict(rivals.champion_files, fresh)
            except NotComparable as error:
                apart = str(error)
        scored = scored_rows(spec, fresh, trainer.predict(rivals.files, fresh), champion)
        if scored.rows < spec.window.holdout.min_rows:
            return cls(scored, apart, ())
        has_champion = rivals.champion is not None
        return cls(scored, apart, judge_quality(spec, scored, has_champion=has_champion, not_comparable=apart))


def goes_on(spec: ModelSpec, rivals: Rivals, answers: Answers) -> bool:
    """Whether only the rehearsal can still stop the candidate."""
    return bool(answers.gates) and not any(gate.vetoes for gate in _before_rehearsal(spec, rivals, answers))


def verdict(spec: ModelSpec, rivals: Rivals, answers: Answers, rehearse: Rehearse, *, always: bool) -> Verdict:
    """By the answers, and by size and rehearsal of the rivals' candidate. `always`: rehearse whatever gates say."""
    scored, champion = answers.scored, rivals.champion
    if scored.rows < spec.window.holdout.min_rows:
        return too_few(spec, scored.rows, refitting.told(champion) if champion else "")
    if always or goes_on(spec, rivals, answers):
        rehearsed = rehearse(rivals.candidate, champion)
    else:
        rehearsed = _not_rehearsed(spec, has_champion=champion is not None)
    why = f"the champion, version {champion.version}, cannot be compared: {answers.apart}" if champion else ""
    return verdict_of(
        spec,
        (*_before_rehearsal(spec, rivals, answers), *rehearsed),
        scored.rows,
        champion_version=champion.version if champion else None,
        metrics=finite(all_values(spec.task, scored.label, scored.candidate)),
        champion_metrics={}
        if scored.champion is None
        else finite(all_values(spec.task, scored.label, scored.champion)),
        ask_why=why if answers.apart else "",
    )


def state_of(found: Verdict, *, override: bool) -> CandidateState:
    """What it makes of the candidate. `override`: a person decides, as long as it loads and answers."""
    if not found.judged:
        return CandidateState.NOT_JUDGED
    if found.passed:
        return CandidateState.PASSED
    answers = any(gate.metric == REHEARSAL and gate.passed for gate in found.gates)
    return CandidateState.TO_OVERRIDE if override and answers else CandidateState.REJECTED


def _before_rehearsal(spec: ModelSpec, rivals: Rivals, answers: Answers) -> Sequence[GateResult]:
    sizes = {"size_mb": (_megabytes(rivals.files), _megabytes(rivals.champion_files))}
    has_champion = rivals.champion is not None
    return (*answers.gates, *judge_measured(spec, sizes, has_champion=has_champion, note=answers.apart))


def _not_rehearsed(spec: ModelSpec, *, has_champion: bool) -> tuple[GateResult, ...]:
    """A serving process is started only for a candidate that has kept its other gates."""
    unknown = {"latency_p99_ms": (None, None), "memory_mb": (None, None)}
    return (
        GateResult(REHEARSAL, REHEARSAL_LIMIT, GateState.NOT_JUDGED, note=NOT_REHEARSED),
        *judge_measured(spec, unknown, has_champion=has_champion, note=NOT_REHEARSED),
    )


def _megabytes(files: Mapping[str, bytes]) -> float | None:
    return sum(map(len, files.values())) / MB if files else None
