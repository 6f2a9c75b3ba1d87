"""validate: the expectation suite on the snapshot.

Rows that a failed row-level expectation names are set aside and kept, up to `quarantine.max_fraction`; the rest is
validated once more. Anything else that fails, and any check that could not be judged, stops the run. Either way the
full result is an artifact of the request's MLflow run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from evergreen.core import quarantine
from evergreen.core.errors import ValidationStopped
from evergreen.core.judged_anew import taken_up, told
from evergreen.core.snapshot import snapshot_id as id_of

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import ExpectationResult, Ledger, Registry, Snapshots, ValidationReport, Validator
    from evergreen.core.records import Lease, Snapshot, TriggerRequest
    from evergreen.core.spec import ModelSpec

RESULT, RESULT_AFTER = "validation/result.json", "validation/result_after_quarantine.json"
log = logging.getLogger(__name__)


def validate(
    spec: ModelSpec,
    ledger: Ledger,
    snapshots: Snapshots,
    validator: Validator,
    registry: Registry,
    suite: Mapping[str, Any],
    *,
    suite_sha256: str,
    request_id: str,
    snapshot_id: str,
    lease: Lease | None,
) -> Snapshot:
    """The snapshot without the rows set aside, the same one if there were none. It says which suite it passed.

    `suite_sha256` is of the suite's file. Raises ValidationStopped naming expectation, column, rows and examples,
    LeaseLost where another has the model's lease by now. Run again, it changes nothing. The snapshot of a version that
    is judged anew has passed before.
    """
    snapshot = ledger.models.snapshot(spec.name, snapshot_id)
    request = ledger.requests.get(request_id)
    if taken_up(ledger, request):
        log.info("%s", told(request))
        return snapshot
    passed = _check(spec, ledger, snapshots, validator, registry, suite, request, snapshot)
    suite_id = f"{spec.validation.suite}@{suite_sha256}"
    ledger.models.add_snapshot(replace(passed, suite=suite_id), lease=lease)
    return ledger.models.snapshot(spec.name, passed.id)


def _check(
    spec: ModelSpec,
    ledger: Ledger,
    snapshots: Snapshots,
    validator: Validator,
    registry: Registry,
    suite: Mapping[str, Any],
    request: TriggerRequest,
    snapshot: Snapshot,
) -> Snapshot:
    """Set rows aside, or stop."""
    frame = snapshots.read(snapshot.parts)
    run = registry.start_run(spec.name, request.id, {"evergreen.snapshot": snapshot.id})
    judge = _Judge(spec, registry, run, validator, suite)
    report = judge.report(frame, RESULT)
    judge.stop_on(quarantine.stoppers(report.results), frame, "some expectations cannot be met by setting rows aside")
    aside = quarantine.set_aside(report.results)
    newer = _newer(spec, ledger, frame, request.id)
    if why := quarantine.over_limit(aside, newer, frame.height, spec.validation.quarantine.max_fraction):
        judge.stop(_failed(report), frame, why)
    if not aside:
        return snapshot
    kept = frame[[row for row in range(frame.height) if row not in aside]]
    after = judge.report(kept, RESULT_AFTER)
    judge.stop_on(_failed(after), kept, f"{len(aside):,} rows were set aside and the rest still fails")
    key = snapshots.quarantine(spec.name, snapshot.id, _labelled(frame, aside))
    registry.log(run, tags={"evergreen.quarantine": key}, metrics={"quarantined_rows": len(aside)})
    return _clean(spec, snapshots, snapshot, frame, kept, aside)


class _Judge:
    """Runs the suite, keeps the full result, and stops the run with a bounded message."""

    def __init__(
        self, spec: ModelSpec, registry: Registry, run: str, validator: Validator, suite: Mapping[str, Any]
    ) -> None:
        self._spec, self._registry, self._run = spec, registry, run
        self._validator, self._suite = validator, suite

    def report(self, frame: pl.DataFrame, path: str) -> ValidationReport:
        own = frame.select(self._spec.columns)  # a suite knows nothing of columns that only the champion needs
        report = self._validator.validate(own, self._suite)
        self._registry.log_file(self._run, path, json.dumps(report.full, indent=1, default=str).encode())
        if not report.results:
            self.stop([], frame, f"the suite '{self._spec.validation.suite}' holds no expectation")
        return report

    def stop_on(self, results: Sequence[ExpectationResult], frame: pl.DataFrame, why: str) -> None:
        if results:
            self.stop(results, frame, why)

    def stop(self, results: Sequence[ExpectationResult], frame: pl.DataFrame, why: str) -> NoReturn:
        key = frame[self._spec.source.key]

        def example(result: ExpectationResult, row: int) -> str:
            value = frame[result.column][row] if result.column in frame.columns else "row"
            return f"{value} ({self._spec.source.key} {key[row]})"

        lines = [f"  - {line}" for line in quarantine.failures(results, example)]
        self._registry.end_run(self._run, failed=True)
        raise ValidationStopped(
            "\n".join([f"{self._spec.name}: validation stopped the run: {why}.", *lines, self._next()])
        )

    def _next(self) -> str:
        return (
            f"The whole result is {RESULT} of MLflow run {self._run}. Repair the rows in the source "
            f"(or correct expectations/{self._spec.validation.suite}.json), then "
            f"`evergreen retrain {self._spec.name}`. The version that is live goes on answering."
        )


def _failed(report: ValidationReport) -> list[ExpectationResult]:
    return [result for result in report.results if result.status != "passed"]


def _newer(spec: ModelSpec, ledger: Ledger, frame: pl.DataFrame, request_id: str) -> set[int] | None:
    """Rows that no validated snapshot of this model has held, none where there is no earlier one."""
    last = ledger.requests.last_served(spec.name)
    if last is None or last.as_of is None or last.id == request_id:
        return None
    return set((frame[spec.source.event_time] > last.as_of).arg_true())


def _labelled(frame: pl.DataFrame, aside: Mapping[int, Sequence[str]]) -> pl.DataFrame:
    import polars as pl

    labels = pl.Series(quarantine.FAILED_EXPECTATION, quarantine.labels(aside), dtype=pl.String)
    return frame[sorted(aside)].with_columns(labels)


def _clean(
    spec: ModelSpec,
    snapshots: Snapshots,
    snapshot: Snapshot,
    frame: pl.DataFrame,
    kept: pl.DataFrame,
    aside: Collection[int],
) -> Snapshot:
    """Parts are written anew for the days that lost rows; the others are shared with the raw snapshot."""
    time = spec.source.event_time
    touched = set(frame[time][sorted(aside)].dt.date())
    rewritten = kept.filter(kept[time].dt.date().is_in(list(touched)))
    parts = [part for part in snapshot.parts if part.day not in touched]
    parts += snapshots.write(spec.name, rewritten, time, spec.source.key)
    ordered = tuple(sorted(parts, key=lambda part: part.day))
    return replace(
        snapshot,
        id=id_of(ordered, snapshot.schema_hash),
        rows=kept.height,
        quarantined=len(aside),
        parts=ordered,
    )
