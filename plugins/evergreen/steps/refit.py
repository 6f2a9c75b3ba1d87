"""refit: a candidate that has kept its gates, fitted once more on all rows up to as_of, its holdout among them.

Part of judge. So many rounds as the candidate kept, since no row is left that could choose their number; everything
else as it was fitted. What the monitor measures against stays what the candidate was measured by on rows that it had
not seen. Every act can be repeated and the ledger's row comes last, so a killed judge finds what it did.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from evergreen.core import bundle, fence, refitting
from evergreen.core.read_rows import rows_within
from evergreen.core.records import Candidate, CandidateState
from evergreen.core.spec_fields import format_duration
from evergreen.core.train_key import Provenance, train_key
from evergreen.core.tuning import KEPT_AS as TUNED
from evergreen.core.tuning import tuned_spec
from evergreen.core.version_note import version_note
from evergreen.core.window import as_asked, window_of
from evergreen.core.window_choice import KEPT_AS as WINDOW
from evergreen.core.window_choice import Choice, Span, as_text, of_candidate
from evergreen.steps.keep_version import keep_bundle, log_training
from evergreen.steps.recall import CHALLENGER

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Registry, Snapshots, Store, TrainedModel, Trainer
    from evergreen.core.records import Lease, TriggerRequest
    from evergreen.core.spec import ModelSpec
    from evergreen.core.window import Window

log = logging.getLogger(__name__)


def refit(
    spec: ModelSpec,
    ledger: Ledger,
    snapshots: Snapshots,
    trainer: Trainer,
    registry: Registry,
    store: Store,
    *,
    of: Candidate,
    files: Mapping[str, bytes],
    request: TriggerRequest,
    lease: Lease | None,
) -> Candidate:
    """The refit of a candidate, whose bundle's files are `files`; the one that is there, where it was made before.

    The candidate itself where model.yaml has changed since it was fitted: what would be fitted now is not what was
    judged. Raises TrainingRefused where all rows together cannot be learned from or need more memory than there is,
    LeaseLost where another has the model's lease by now.
    """
    made_for = ledger.requests.get(of.request_id)
    own = _own_spec(spec, made_for, of)
    if own is None:
        log.warning("Version %d is not fitted again: model.yaml has changed since it was fitted.", of.version)
        return of
    snapshot = ledger.models.snapshot(spec.name, of.snapshot_id)
    bounds = window_of(own, made_for, snapshot.as_of)
    choice = _up_to_as_of(of, bounds)
    spans: list[Span] = list(choice.spans) if choice else [(bounds.start, bounds.as_of)]
    rows = rows_within(own, snapshots, snapshot.parts, spans)
    trained = trainer.refit(own, rows, int(of.metrics["rounds"]), files)
    made = _Made(spec, of, request, bounds, choice, trained, rows.height)
    return made.keep(ledger, registry, store, lease)


@dataclass(frozen=True)
class _Made:
    """The refit, fitted and not kept yet; `rows` is how many it was fitted on."""

    spec: ModelSpec
    of: Candidate
    request: TriggerRequest
    bounds: Window
    choice: Choice | None
    trained: TrainedModel
    rows: int

    def keep(self, ledger: Ledger, registry: Registry, store: Store, lease: Lease | None) -> Candidate:
        """In the store, the registry and the ledger. It has a run of its own, ended at once: nothing more is done."""
        sealed, files = bundle.seal(
            self.trained.files, model=self.of.model, train_key=refitting.train_key(self.of),
            snapshot=self.of.snapshot_id, label=self.spec.label.column,
        )  # fmt: skip
        keep_bundle(store, sealed, files)
        fence.check(ledger, lease)
        run = self._log(registry, sealed)
        fence.check(ledger, lease)
        version = registry.register(self.of.model, run, files, self._tags(sealed))
        fence.check(ledger, lease)
        registry.set_alias(self.of.model, CHALLENGER, version)
        candidate = self._candidate(version, sealed, run)
        registry.describe(run, version_note(self.spec, candidate, self.bounds))
        registry.end_run(run)
        log.info("Version %d: %s, %s rows", version, refitting.told(candidate), f"{self.rows:,}")
        return ledger.models.add_candidate(candidate, lease=lease)

    def _tags(self, sealed: str) -> dict[str, str]:
        return {
            "evergreen.request": self.of.request_id,  # not the run's, which may be another after a kill
            "evergreen.snapshot": self.of.snapshot_id,
            "evergreen.train_key": refitting.train_key(self.of),
            "evergreen.bundle": sealed,
            "evergreen.refit_of": str(self.of.version),
        }

    def _log(self, registry: Registry, sealed: str) -> str:
        run = registry.start_run(self.of.model, f"{self.of.request_id}-refit", self._tags(sealed))
        start, end = self.bounds.start, self.bounds.as_of
        length = f"{self.choice.chosen}, up to as_of" if self.choice else format_duration(end - start)
        fitted_on = {"rows": self.rows, "window": length}
        log_training(self.spec, registry, run, self.trained, _provenance(self.of), fitted_on)
        return run

    def _candidate(self, version: int, sealed: str, run: str) -> Candidate:
        window = {WINDOW: as_text(self.choice)} if self.choice else {}
        return replace(
            self.of,
            version=version,
            request_id=self.request.id,
            train_key=refitting.train_key(self.of),
            data_end=self.trained.data_end,
            bundle=sealed,
            mlflow_run=run,
            metrics={**self.of.metrics, "rounds": self.trained.rounds},
            state=CandidateState.TRAINED,
            verdict=None,
            generation_seen=0,
            made_with={
                **self.of.made_with,
                **window,
                "engine": self.trained.engine,
                refitting.REFIT_OF: str(self.of.version),
            },
        )


def _own_spec(spec: ModelSpec, made_for: TriggerRequest, candidate: Candidate) -> ModelSpec | None:
    """The spec that it was fitted by, with its tuned parameters; none where model.yaml says another by now."""
    own = tuned_spec(as_asked(spec, made_for), json.loads(candidate.made_with.get(TUNED, "{}")))
    same = train_key(candidate.snapshot_id, own, _provenance(candidate)) == candidate.train_key
    return own if same else None


def _provenance(candidate: Candidate) -> Provenance:
    return Provenance(**{field.name: candidate.made_with.get(field.name, "") for field in fields(Provenance)})


def _up_to_as_of(candidate: Candidate, bounds: Window) -> Choice | None:
    """The window that was chosen for it, its newest stretch up to as_of; none where the window was given."""
    choice = of_candidate(candidate)
    if choice is None:
        return None
    *earlier, (start, _) = choice.spans
    return replace(choice, spans=(*earlier, (start, bounds.as_of)))
