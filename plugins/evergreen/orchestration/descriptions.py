"""What the Airflow UI says about a model's DAG and its tasks, in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.gate_texts import limits
from evergreen.core.spec_fields import format_duration
from evergreen.core.spec_limits import limits_of
from evergreen.core.trial import stages

if TYPE_CHECKING:
    from evergreen.core.spec import Gate, ModelSpec

_DO = "**What to do then:**"

TASKS = {
    "admit": f"""\
**What it does:** writes down who or what asked for this run (its *trigger request*), and takes the model's lease, so
that one run at a time pulls, trains and judges.

**What stops it:** nothing new to learn from, too few new rows, or another run that has the same data: the run is
skipped, and its note says why. Cooldown or a hold put the request off: the run is skipped too, and the reconciler
starts another one when that has ended. While another run holds the lease, this task waits; a person's goes first.

{_DO} nothing. To retrain all the same: `evergreen retrain <model>`, or Trigger in this page: a person's run ignores
the cooldown.
""",
    "pull": f"""\
**What it does:** reads the window of labelled rows from the source into an immutable snapshot. The window ends at the
watermark that admit wrote down, less `label.arrives_after`; run again, it reads the same rows.

**What stops it:** a source that does not answer (tried again), a column that is gone, renamed or of another type,
keys that are not unique, an empty window, or too many rows without a label. Where a version that is there is to be
judged again, this task and the two after it pass that version on, and read nothing.

{_DO} repair the source or `model.yaml`, as the message says; then clear this task.
""",
    "validate": f"""\
**What it does:** runs the expectation suite on the snapshot. Rows that fail a row-level expectation are set aside
(quarantined) up to `validation.quarantine.max_fraction`; the rest goes on.

**What stops it:** more bad rows than that, a failed expectation about the whole table, or a check that could not be
carried out. The run's note then links the *data docs*, the page on what each expectation found. The full result is in
MLflow, under this run, `validation/`.

{_DO} repair the rows in the source and run `evergreen retrain <model>`; or correct `expectations/<suite>.json` and
clear this task. The champion goes on answering meanwhile.
""",
    "train": f"""\
**What it does:** fits XGBoost on the training part of the window, logs everything to MLflow, registers a version and
calls it `challenger`. The same data, spec and libraries are not trained twice.

**What stops it:** data that cannot be learned from, such as a label with one value only. If the same data made a
version before that has ended, the run is skipped and its note says what became of that version.

{_DO} see the message; most often the source's label is wrong.
""",
    "judge": f"""\
**What it does:** measures the candidate, and the champion beside it, on rows that neither has ever seen, against every
gate of the spec. If none refuses it, and the spec says `training.refit: after_verdict`, it is fitted once more on all
rows: that version goes on in its place. Then the *rehearsal* follows: the candidate is loaded in a throwaway copy of
serving and must answer its golden rows over HTTP. The model's lease ends here.

**What stops it:** nothing. If a gate does not pass, or there are too few fresh rows, this task is green, the two after
it are skipped, and the run's note says which gate. The champion stays. All evidence: *Models*, the version's page. A
dry run (`dry_run`) ends here too, whatever the verdict.

{_DO} nothing, if the gate is right. A rejected candidate is not trained again from the same data. One that is wanted
all the same: `evergreen approve <model> --override --version <n> --reason …`; it is judged again, and a person decides.
""",
    "approve": f"""\
**What it does:** asks a person where `approval` says so, where the model is held, or where the champion could not be
compared; else it passes at once, and says why. It waits without holding a slot: open *Required Actions*, read, choose
Approve or Reject, and give the reason (or `evergreen approve <model>`, `evergreen reject <model> --reason …`).

**What stops it:** a rejection, which blocks the candidate; no answer within `approval.timeout` (expired); an answer
without a reason where one is needed, or after the champion or a hold has changed (void). Then the release is skipped
and the champion stays; only a rejection blocks anything.

{_DO} nothing after a rejection. Else clear this task: it asks again, if nothing has changed since it asked first. If
something has, Airflow would show the old text: the task says so, and `evergreen retrain <model>` asks anew.
""",
    "roll_out": f"""\
**What it does:** makes the version champion in one step, if the champion is still the one that the verdict was reached
against. Serving follows within seconds. Where the spec has a `rollout`, the version is on trial first (shadow, canary,
bake): this task is *deferred* meanwhile, holds no slot, and goes on when the trial is over. `evergreen status <model>`
and the model's page say in which stage it is and what it waits for.

**What stops it:** another release since then; a hold that was placed since then; on trial its guard, which sends all
callers back to the champion; a person's `evergreen abort <model> --reason …`. Then this task is skipped, and the run's
note says why.

{_DO} after a trip: read the reason; the version does not come back. Else `evergreen retrain <model>` judges again,
against the new champion. Killed or cleared while the version is on trial, this task finds it there and waits on. To
end the waiting: `evergreen promote` or `evergreen abort`. To go back from a live version: the DAG `rollback`, or
`evergreen rollback <model> --reason …`.
""",
}


def describe(spec: ModelSpec) -> str:
    """The DAG's own page."""
    return f"""\
### {spec.name}

| | |
|---|---|
| owner | {spec.owner} |
| task | {spec.task} |
| source | {spec.source.words}, event time `{spec.source.event_time}` |
| label | `{spec.label.column}` |
| features | {len(spec.features.columns)} |
| starts | {_triggers(spec)}{_limits(spec)} |
| suite | `expectations/{spec.validation.suite}.json` |
| gates | {"; ".join(_gate(gate) for gate in spec.gates)} |
| approval | {_approval(spec)} |
| rollout | {_rollout(spec)} |
| serving pool | `{spec.serving.pool}` |

Declared in `models/{spec.name}/model.yaml`. Each task's own documentation says what stops it and what to do then.

**By hand:** Trigger. `dry_run` ends the run at the verdict: nothing is asked or released. `window_end` retrains on a
past window.

**Past windows:** `evergreen backfill {spec.name} --from … --to … --every 30d`.{_own_backfill(spec)}
"""


def _own_backfill(spec: ModelSpec) -> str:
    """What Airflow's own does, where it offers one."""
    if not spec.schedule:
        return " Airflow's own *Backfill* needs a schedule, and this model has none."
    return (
        " Airflow's own *Backfill* starts a run for each time of the schedule, which uses no row later than its "
        "logical date and counts as a person's. Set `dry_run` in its form, or what passes is released as from any "
        "other run."
    )


def _triggers(spec: ModelSpec) -> str:
    found = [f"at `{line}` UTC" for line in spec.schedule]
    if spec.new_data:
        found.append(f"when {spec.new_data.min_rows:,} new rows are there")
    found += [f"when `{name}` was released" for name in spec.upstream]
    found += [f"every {format_duration(spec.recall.every)} to see which kept version is best"] if spec.recall else []
    found += [f"when `{rule.words}`" for rule in spec.metric]
    return "; ".join([*found, "by hand or API"])


def _limits(spec: ModelSpec) -> str:
    found = (f"{limit.most} at a time of {limit.kind} `{limit.of}`" for limit in limits_of(spec))
    return "".join(f"; {told}" for told in found)


def _gate(gate: Gate) -> str:
    by = f" by `{gate.slice}`" if gate.slice else ""
    return f"{gate.of.label}{by} {', '.join(limit.text for limit in limits(gate))}"


def _rollout(spec: ModelSpec) -> str:
    if spec.rollout is None:
        return "at once"
    found = (f"{stage.name} {format_duration(stage.lasts)}" for stage in stages(spec.rollout.plan))
    return f"{', '.join(found)}; {spec.rollout.min_requests:,} requests in each"


def _approval(spec: ModelSpec) -> str:
    within = ", ".join(f"{metric} {limit:g}" for metric, limit in spec.approval.within.items())
    return f"{spec.approval.mode}{f' ({within})' if within else ''}"
