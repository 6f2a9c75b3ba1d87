"""What the Airflow UI says about a model's DAG and its tasks, in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen.core.spec import Gate, ModelSpec

_DO = "**What to do then:**"

TASKS = {
    "admit": f"""\
**What it does:** writes down who or what asked for this run (its *trigger request*), and takes the model's lease, so
that one run at a time pulls, trains and judges.

**What stops it:** nothing new to learn from, too few new rows, or `cooldown`: the run is skipped, and its note says
why. While another run holds the lease, this task waits.

{_DO} nothing. To retrain all the same: `evergreen retrain <model>`, or Trigger in this page: a person's run ignores
the cooldown.
""",
    "pull": f"""\
**What it does:** reads the window of labelled rows from the source into an immutable snapshot. The window ends at the
watermark that admit wrote down, less `label.arrives_after`; run again, it reads the same rows.

**What stops it:** a source that does not answer (tried again), a column that is gone, renamed or of another type,
keys that are not unique, an empty window, or too many rows without a label.

{_DO} repair the source or `model.yaml`, as the message says; then clear this task.
""",
    "validate": f"""\
**What it does:** runs the expectation suite on the snapshot. Rows that fail a row-level expectation are set aside
(quarantined) up to `validation.quarantine.max_fraction`; the rest goes on.

**What stops it:** more bad rows than that, a failed expectation about the whole table, or a check that could not be
carried out. The full result is in MLflow, under this run, `validation/`.

{_DO} repair the rows in the source and run `evergreen retrain <model>`; or correct `expectations/<suite>.json` and
clear this task. The champion goes on answering meanwhile.
""",
    "train": f"""\
**What it does:** fits XGBoost on the training part of the window, logs everything to MLflow, registers a version and
calls it `challenger`. The same data, spec and libraries are not trained twice.

**What stops it:** data that cannot be learned from, such as a label with one value only.

{_DO} see the message; most often the source's label is wrong.
""",
    "judge": f"""\
**What it does:** measures the candidate on rows that it has never seen, against every gate of the spec. The model's
lease ends here.

**What stops it:** nothing. If a gate does not pass, or there are too few fresh rows, this task is green, the two after
it are skipped, and the run's note says which gate. The champion stays.

{_DO} nothing, if the gate is right. A rejected candidate is not trained again from the same data.
""",
    "approve": f"""\
**What it does:** with `approval.mode: manual` it waits for a person, without holding a slot: open *Required Actions*,
read the gates, choose Approve or Reject. With `auto` it passes at once.

**What stops it:** a rejection, or no answer within `approval.timeout`: the release is skipped and the champion stays.

{_DO} nothing after a rejection. After a timeout clear this task to be asked again.
""",
    "roll_out": f"""\
**What it does:** makes the version champion in one step, if the champion is still the one that the verdict was reached
against. Serving follows within seconds.

**What stops it:** another release since then.

{_DO} `evergreen retrain <model>` judges again, against the new champion.
""",
}


def describe(spec: ModelSpec) -> str:
    """The DAG's own page."""
    where = f"table `{spec.source.table}`" if spec.source.table else "a query"
    return f"""\
### {spec.name}

| | |
|---|---|
| owner | {spec.owner} |
| task | {spec.task} |
| source | {where} over connection `{spec.source.connection}`, event time `{spec.source.event_time}` |
| label | `{spec.label.column}` |
| features | {len(spec.features.columns)} |
| starts | {_triggers(spec)} |
| suite | `expectations/{spec.validation.suite}.json` |
| gates | {"; ".join(_gate(gate) for gate in spec.gates)} |
| approval | {spec.approval.mode} |
| serving pool | `{spec.serving.pool}` |

Declared in `models/{spec.name}/model.yaml`. Each task's own documentation says what stops it and what to do then.
"""


def _triggers(spec: ModelSpec) -> str:
    found = [f"at `{line}` UTC" for line in spec.schedule]
    if spec.new_data:
        found.append(f"when {spec.new_data.min_rows:,} new rows are there")
    return "; ".join([*found, "by hand or API"])


def _gate(gate: Gate) -> str:
    limits = [("at least", gate.min), ("at most", gate.max)]
    return f"{gate.metric} " + " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)
