"""Every error that Evergreen raises on purpose.

EvergreenError                 facts in, one readable sentence out; a retry does not help
├── SpecError                  one or more problems in model specs or suites
├── SourceError                the source is unreachable, or its columns, keys or types are wrong
│   ├── RowsRefused            the rows that were read cannot be learned from: types, labels, keys
│   └── SourceUnavailable      may pass: worth a retry
├── EmptyWindow                no labelled row in the window
├── ValidationStopped          the expectation suite refused the snapshot, or could not judge it
├── ValidationInterrupted      a process of the validation was killed: worth a retry
├── TrainingRefused            the data cannot be learned from (one class, all-null label, ...)
├── ClusterFailed              a cluster of workers cannot be reached, or loses them again and again: worth a retry
├── BundleRefused              a bundle's files do not match their hashes, or its golden rows disagree
├── PromotionConflict          the champion changed since the candidate was judged
├── TrialTripped               a guard took the release off trial: nobody makes it live
├── NotComparable              the champion cannot be scored on the candidate's rows
├── RehearsalFailed            the candidate's throwaway serving process did not get ready, or died
├── SlotUnavailable            the rehearsal slot cannot be had, whatever the candidate: worth a retry
├── EdgeUnavailable            the edge's runtime API does not answer, or refuses: worth a retry
├── RollFailed                 a pool's roll was given up, and the colour before answers
├── ServingFailed              serving refused a request, or did not answer
├── LeaseBusy                  another run of this model holds the lease: worth a retry
├── LeaseLost                  another run took the lease meanwhile: nothing was written, worth a retry
└── ServiceFailed              a component of the embedded shape did not come up
RunEnds                        not an error: the run has nothing (more) to do, and says why
"""

from __future__ import annotations


class EvergreenError(Exception):
    """Base of all errors raised on purpose. `retryable` tells the orchestrator whether to try again."""

    retryable = False


class FoundProblem(EvergreenError):
    """An error that says where, what was found, what is allowed, and what to do next."""

    def __init__(self, where: str, *, found: str, allowed: str, do: str) -> None:
        self.where, self.found, self.allowed, self.do = where, found, allowed, do
        super().__init__(f"{where}: found {found}; allowed: {allowed}. {do}")

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the keyword arguments when the error crosses a process border."""
        return (_rebuild, (type(self), self.where, self.found, self.allowed, self.do))


def _rebuild(cls: type[FoundProblem], where: str, found: str, allowed: str, do: str) -> FoundProblem:
    return cls(where, found=found, allowed=allowed, do=do)


class SpecError(EvergreenError):
    """Raised when model specs or suites hold problems; the message names each."""


class SourceError(FoundProblem):
    """Raised when a source's columns, types or keys are not what the spec says."""


class RowsRefused(SourceError):
    """Raised for rows that were read and cannot be learned from: their types, labels or keys."""


class SourceUnavailable(SourceError):
    """Raised when the source does not answer; worth a retry."""

    retryable = True


class EmptyWindow(FoundProblem):
    """Raised when the window of a snapshot holds no labelled row."""


class ValidationStopped(EvergreenError):
    """Raised when validation stops the run. The message is bounded; the full result is an MLflow artifact."""


class ValidationInterrupted(FoundProblem):
    """Raised when a process of the validation was killed. What it had found is kept: worth a retry."""

    retryable = True


class TrainingRefused(FoundProblem):
    """Raised when the snapshot cannot be learned from."""


class ClusterFailed(FoundProblem):
    """Raised when work on a cluster did not get done, for no fault of the work."""

    retryable = True


class BundleRefused(FoundProblem):
    """Raised when a bundle's bytes or answers are not those that were registered."""


class TrialTripped(EvergreenError):
    """Raised when a guard took a release off its trial, which is therefore not released."""

    def __init__(self, model: str, version: int) -> None:
        self.model, self.version = model, version
        super().__init__(f"{model}: a guard took version {version} off its trial. Nothing was released.")

    def __reduce__(self) -> tuple[object, ...]:
        return (TrialTripped, (self.model, self.version))


class PromotionConflict(EvergreenError):
    """Raised when the champion's generation is not the one that the candidate was judged against."""

    def __init__(self, model: str, *, seen: int, found: int) -> None:
        self.model, self.seen, self.found = model, seen, found
        super().__init__(
            f"{model}: judged against champion generation {seen}, which is now {found}. "
            f"Nothing was released; `evergreen retrain {model}` judges again."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_conflict, (self.model, self.seen, self.found))


def _rebuild_conflict(model: str, seen: int, found: int) -> PromotionConflict:
    return PromotionConflict(model, seen=seen, found=found)


class NotComparable(EvergreenError):
    """Raised when a model cannot be scored on these rows: a column is gone, or has another type."""


class RehearsalFailed(EvergreenError):
    """Raised when a throwaway serving process does not get ready or dies; the message holds what it said."""


class SlotUnavailable(EvergreenError):
    """Raised when a container slot cannot be reached, started or kept, for no fault of what was to run in it."""

    retryable = True


class EdgeUnavailable(EvergreenError):
    """Raised when the edge cannot be told, or asked, which colour callers are sent to."""

    retryable = True


class RollFailed(EvergreenError):
    """Raised when a roll of a serving pool was given up or refused: the colour that answered before goes on."""


class ServingFailed(EvergreenError):
    """Raised when serving refuses a request or does not answer."""


class LeaseBusy(EvergreenError):
    """Raised when another run holds the model's lease."""

    retryable = True


class LeaseLost(EvergreenError):
    """Raised when a write comes from a holder whose lease another has taken since: nothing was written."""

    retryable = True


class ServiceFailed(EvergreenError):
    """Raised when a component of the embedded shape does not start, or is not running when asked."""


class RunEnds(Exception):
    """Ends a run early with a reason that ops read: nothing new, cooldown, already trained, not judged."""

    def __init__(self, reason: str, *, served: bool) -> None:
        self.reason, self.served = reason, served
        super().__init__(reason)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_end, (self.reason, self.served))


def _rebuild_end(reason: str, served: bool) -> RunEnds:
    return RunEnds(reason, served=served)
