"""validate: the expectation suite on the snapshot.

Rows that a failed row-level expectation names are set aside and kept, up to `quarantine.max_fraction`; the rest is
validated once more. Anything else that fails, and any check that could not be judged, stops the run. Either way the
full result is an artifact of the request's MLflow run. Where it stops the run, a page on it lies beside it (data docs):
then nothing waits for it. No more than a part of the rows is in memory here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from evergreen.core import data_docs, quarantine
from evergreen.core.data_docs import RESULT, RESULT_AFTER
from evergreen.core.errors import ValidationStopped
from evergreen.core.judged_anew import taken_up, told
from evergreen.core.snapshot import snapshot_id as id_of
from evergreen.steps.window_rows import WindowRows

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import ExpectationResult, Ledger, Registry, Snapshots, Store, ValidationReport, Validator
    from evergreen.core.records import Lease, Snapshot, TriggerRequest
    from evergreen.core.spec import ModelSpec

log = logging.getLogger(__name__)


def validate(
    spec: ModelSpec,
    ledger: Ledger,
    snapshots: Snapshots,
    validator: Validator,
    registry: Registry,
    store: Store,
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
    passed = _check(spec, ledger, snapshots, validator, registry, store, suite, request, snapshot)
    suite_id = f"{spec.validation.suite}@{suite_sha256}"
    ledger.models.add_snapshot(replace(passed, suite=suite_id), lease=lease)
    return ledger.models.snapshot(spec.name, passed.id)


def _check(
    spec: ModelSpec,
    ledger: Ledger,
    snapshots: Snapshots,
    validator: Validator,
    registry: Registry,
    store: Store,
    suite: Mapping[str, Any],
    request: TriggerRequest,
    snapshot: Snapshot,
) -> Snapshot:
    """Set rows aside, or stop."""
    window = WindowRows(snapshots, snapshot.parts)
    run = registry.start_run(spec.name, request.id, {"evergreen.snapshot": snapshot.id})
    judge = _Judge(spec, registry, run, validator, store, suite, request.id)
    report = judge.report(window, RESULT)
    judge.stop_on(quarantine.stoppers(report.results), window, "some expectations cannot be met by setting rows aside")
    rows = quarantine.rows_aside(report.results, window.height)
    newer, bad_newer = _newer(spec, ledger, window, rows, request.id)
    limit = spec.validation.quarantine.max_fraction
    if why := quarantine.over_limit(len(rows), window.height, limit, bad_newer=bad_newer, newer=newer):
        judge.stop(_failed(report), window, why)
    if not rows:
        return snapshot
    clean, aside = _clean(spec, snapshots, snapshot, window, quarantine.set_aside(report.results))
    rest = WindowRows(snapshots, clean.parts)
    after = judge.report(rest, RESULT_AFTER)
    judge.stop_on(_failed(after), rest, f"{len(rows):,} rows were set aside and the rest still fails")
    key = snapshots.quarantine(spec.name, snapshot.id, aside)
    registry.log(run, tags={"evergreen.quarantine": key}, metrics={"quarantined_rows": len(rows)})
    return clean


class _Judge:
    """Runs the suite, keeps the full result, and stops the run with a bounded message and a page on the last result."""

    def __init__(
        self,
        spec: ModelSpec,
        registry: Registry,
        run: str,
        validator: Validator,
        store: Store,
        suite: Mapping[str, Any],
        request_id: str,
    ) -> None:
        self._spec, self._registry, self._run = spec, registry, run
        self._validator, self._store, self._suite, self._request_id = validator, store, suite, request_id
        self._last: tuple[str, bytes] | None = None

    def report(self, window: WindowRows, path: str) -> ValidationReport:
        """Of a suite that holds something, on a window that does."""
        if not window.height:
            self.stop([], window, "no row is left")
        own = window.for_validator(self._spec.columns)  # a suite knows nothing of columns that only the champion needs
        report = self._validator.validate(own, self._suite)
        self._last = path, json.dumps(report.full, indent=1, default=str).encode()
        self._registry.log_file(self._run, *self._last)
        if not report.results:
            self.stop([], window, f"the suite '{self._spec.validation.suite}' holds no expectation")
        return report

    def stop_on(self, results: Sequence[ExpectationResult], window: WindowRows, why: str) -> None:
        if results:
            self.stop(results, window, why)

    def stop(self, results: Sequence[ExpectationResult], window: WindowRows, why: str) -> NoReturn:
        def example(result: ExpectationResult, row: int) -> str:
            try:
                value = window.value(row, result.column or "")
            except KeyError:
                value = "row"
            return f"{value} ({self._spec.source.key} {window.value(row, self._spec.source.key)})"

        lines = [f"  - {line}" for line in quarantine.failures(results, example)]
        self._keep_page()
        self._registry.end_run(self._run, failed=True)
        raise ValidationStopped(
            "\n".join([f"{self._spec.name}: validation stopped the run: {why}.", *lines, self._next()])
        )

    def _keep_page(self) -> None:
        """Beside the result, and in the store for the Models pages. That the run stops never hangs on it."""
        if self._last is None:
            return
        path, result = self._last
        try:
            page = self._validator.data_docs(
                json.loads(result), f"{self._spec.name}, request {self._request_id}"
            ).encode()
        except Exception:  # of the library's renderers
            log.exception("No data docs could be made; the result is kept all the same")
            return
        self._registry.log_file(self._run, data_docs.page_of(path), page)
        self._store.put(data_docs.key(self._spec.name, self._request_id), page)

    def _next(self) -> str:
        return (
            f"`evergreen data-docs {self._spec.name}` shows the whole result, {RESULT} of MLflow run {self._run}. "
            f"Repair the rows in the source (or correct expectations/{self._spec.validation.suite}.json), then "
            f"`evergreen retrain {self._spec.name}`. The version that is live goes on answering."
        )


def _failed(report: ValidationReport) -> list[ExpectationResult]:
    return [result for result in report.results if result.status != "passed"]


def _newer(spec: ModelSpec, ledger: Ledger, window: WindowRows, bad: Sequence[int], request_id: str) -> tuple[int, int]:
    """How many rows no validated snapshot of this model has held, 0 where there is no earlier one; how many are bad."""
    last = ledger.requests.last_served(spec.name)
    if last is None or last.as_of is None or last.id == request_id:
        return 0, 0
    return window.after(last.as_of, spec.source.event_time, bad)


def _clean(
    spec: ModelSpec, snapshots: Snapshots, snapshot: Snapshot, window: WindowRows, aside: Mapping[int, Sequence[str]]
) -> tuple[Snapshot, pl.DataFrame]:
    """The snapshot without these rows, and the rows with what they failed.

    Parts are written anew for the days that lose rows; the others are shared with the raw snapshot.
    """
    import polars as pl

    parts, lost = {part.day: part for part in window.parts}, []
    for part, rows in window.by_part(sorted(aside)):
        frame = window.read(part)
        lost.append(frame[rows])
        kept = frame.filter(~pl.int_range(frame.height, eager=True).is_in(rows))
        del parts[part.day]
        written = snapshots.write(spec.name, kept, spec.source.event_time, spec.source.key) if kept.height else ()
        parts |= {one.day: one for one in written}
    ordered = tuple(parts[day] for day in sorted(parts))
    clean = replace(
        snapshot,
        id=id_of(ordered, snapshot.schema_hash),
        rows=snapshot.rows - len(aside),
        quarantined=len(aside),
        parts=ordered,
    )
    labels = pl.Series(quarantine.FAILED_EXPECTATION, quarantine.labels(aside), dtype=pl.String)
    return clean, pl.concat(lost).with_columns(labels)
