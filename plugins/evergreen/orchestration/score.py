"""An operator for DAGs of one's own: what `evergreen score` does, as a task."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from evergreen import wiring
from evergreen.core.errors import EvergreenError
from evergreen.orchestration.limited import in_child
from evergreen.orchestration.outage import as_outage
from evergreen.orchestration.task_run import RETRIES

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.scoring import Scored

ABOUT = """\
### Scores a table

Writes a prediction for each row of the input's Parquet files to the output, with the model's champion or the version
that the DAG names. The output appears whole or not at all, and one that is there is replaced: the task may be cleared
at any time. **It fails at once** where a row or column does not fit the model: the log names them. It is tried again
where a service or the storage does not answer.
"""
_LESS = "give it fewer columns (keep), or allow more by EVERGREEN_TRAINING_MEMORY_MB"
log = logging.getLogger(__name__)


class ScoreOperator(BaseOperator):
    """Scores Parquet files with a model, in a child process with the memory limit of a step.

    All arguments are templates. `input_files` is a file, a folder, a pattern or an fsspec URL; `output_file` a file or
    URL, which is replaced where it is there. (Airflow's operators have an `output` of their own.) `version` empty: the
    champion when the task runs. `keep` names the columns to keep, empty: all. Returns model, version, bundle, files,
    rows, output and what was unseen, for tasks after it.
    """

    template_fields: Sequence[str] = ("model", "input_files", "output_file", "version", "keep")

    def __init__(
        self,
        *,
        model: str,
        input_files: str,
        output_file: str,
        version: int | str | None = None,
        keep: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"doc_md": ABOUT, **RETRIES, **kwargs})
        self.model, self.input_files, self.output_file = model, input_files, output_file
        self.version, self.keep = version, keep

    def execute(self, context: Context) -> dict[str, Any]:
        """Score, as Airflow calls it."""
        limit = wiring.Settings.load().training_memory_mb
        run = context["dag_run"]
        by = f"{run.dag_id}, {run.run_id}"
        try:
            done = in_child("score", limit, lambda: self._score(by), smaller=_LESS)
        except EvergreenError as error:
            if error.retryable:
                raise
            raise AirflowFailException(str(error)) from error
        log.info("%s version %s: %s rows to %s", done.model, done.version, f"{done.rows:,}", done.output)
        return asdict(done)

    def _score(self, by: str) -> Scored:
        """In the child, with ports of its own."""
        from evergreen import scoring

        settings = wiring.Settings.load()
        number = int(self.version) if self.version not in (None, "", "None") else None
        keep = tuple(self.keep) or None
        order = scoring.Order(self.model, self.input_files, self.output_file, number, keep, force=True)
        try:
            return scoring.score(order, wiring.ledger(settings), wiring.store(settings), by=by, act=uuid.uuid4().hex)
        except Exception as error:  # told here: what led to an error does not come out of the child
            if not isinstance(error, EvergreenError) and (outage := as_outage(error)):
                raise outage from error
            raise
