"""What a person reads before approving: Markdown, short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.spec_fields import format_duration

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.records import Candidate, GateResult
    from evergreen.core.spec import ModelSpec


def subject(spec: ModelSpec, candidate: Candidate | None = None) -> str:
    """The headline."""
    return f"Release {spec.name} version {candidate.version}?" if candidate else f"Release a new {spec.name}?"


def body(spec: ModelSpec, candidate: Candidate, ledger: Ledger, mlflow_url: str) -> str:
    """The gates as a table, what is live now, and where to see more."""
    verdict = candidate.verdict
    gates = verdict.gates if verdict else ()
    rows = verdict.rows if verdict else 0
    lines = [
        f"Fitted on data up to **{candidate.data_end:%Y-%m-%d %H:%M} UTC**, judged on **{rows:,}** newer rows.",
        _champion(spec, ledger),
        "",
        "| gate | limit | value | |",
        "|---|---|---|---|",
        *(_gate(gate) for gate in gates),
        "",
        f"Owner: {spec.owner}. Without an answer within {format_duration(spec.approval.timeout)} the champion stays.",
    ]
    if mlflow_url.startswith("http"):
        page = f"{mlflow_url}/#/models/{spec.name}/versions/{candidate.version}"
        lines.append(f"\n[Version {candidate.version} in MLflow]({page})")
    return "\n".join(lines)


def _champion(spec: ModelSpec, ledger: Ledger) -> str:
    release_id = ledger.releases.champion(spec.name).release_id
    if release_id is None:
        return "Nothing is live yet: this would be the first release."
    release = ledger.releases.get(release_id)
    return f"Live now: **version {release.version}**, released {release.released_at:%Y-%m-%d %H:%M} UTC."


def _gate(gate: GateResult) -> str:
    value = "not judged" if gate.value is None else f"{gate.value:.4g}"
    note = f" ({gate.note})" if gate.note else ""
    return f"| {gate.metric} | {gate.limit} | {value} | {'passed' if gate.passed else 'not passed'}{note} |"
