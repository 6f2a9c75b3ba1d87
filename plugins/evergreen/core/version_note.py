"""What MLflow's version page says of a candidate, as Markdown."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.records import Candidate, Verdict
from evergreen.core.window import Window

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec


def version_note(spec: ModelSpec, candidate: Candidate, window: Window, verdict: Verdict | None = None) -> str:
    """The window, the metrics and, once judged, every gate with its limit."""
    fresh = max(window.holdout_start, candidate.data_end)
    return "\n".join(
        [
            f"**{spec.name}, version {candidate.version}**: {spec.task}, owner {spec.owner}",
            "",
            f"- trained on {_time(window.start)} to {_time(window.train_end)}, newest row {_time(candidate.data_end)}",
            f"- judged on rows after {_time(fresh)} until {_time(window.as_of)}",
            f"- request `{candidate.request_id}`, snapshot `{candidate.snapshot_id[:12]}`, "
            f"train key `{candidate.train_key[:12]}`, bundle `{candidate.bundle[:12]}`",
            "- pictures, importances and the bundle's files: artifacts of the source run",
            "",
            *_verdict(verdict),
            "",
            "On the early-stopping tail of the training window:",
            "",
            "| metric | value |",
            "|---|---|",
            *(f"| {name.removeprefix('tail.')} | {value:.4g} |" for name, value in sorted(candidate.metrics.items())),
        ]
    )


def _verdict(verdict: Verdict | None) -> list[str]:
    if verdict is None:
        return ["**Not judged yet.**"]
    outcome = "Passed its gates" if verdict.passed else "Refused by its gates" if verdict.judged else "Not judged"
    return [
        f"**{outcome}** on {verdict.rows:,} fresh rows: {verdict.reason}",
        "",
        "| gate | limit | value | kept |",
        "|---|---|---|---|",
        *(
            f"| {gate.metric} | {gate.limit} | {'–' if gate.value is None else f'{gate.value:.4g}'} "
            f"| {'yes' if gate.passed else gate.note or 'no'} |"
            for gate in verdict.gates
        ),
    ]


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
