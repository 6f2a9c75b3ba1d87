"""What MLflow's version page says of a candidate, as Markdown."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core import refitting
from evergreen.core.recalling import why_recalled
from evergreen.core.records import Candidate, Verdict
from evergreen.core.triggers import readable_time
from evergreen.core.verdict_table import plain, table
from evergreen.core.window import Window
from evergreen.core.window_choice import of_candidate, told

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec


def version_note(
    spec: ModelSpec,
    candidate: Candidate,
    window: Window,
    verdict: Verdict | None = None,
    *,
    fresh_after: datetime | None = None,
    refit: int | None = None,
) -> str:
    """The window, the metrics and, once judged, every gate with its limit, on rows later than `fresh_after`.

    `refit`: the version as which it was fitted again.
    """
    choice = of_candidate(candidate)
    began = choice.spans[0][0] if choice else window.start
    start, end, newest = map(readable_time, (began, window.train_end, candidate.data_end))
    return "\n".join(
        [
            f"**{spec.name}, version {candidate.version}**: {spec.task}, owner {spec.owner}",
            "",
            f"- {_fitted(candidate, start, end, newest)}",
            *([f"- fitted again, on all rows, as version {refit}: that one is released in its place"] if refit else []),
            *([f"- {plain(told(choice))}"] if choice else []),
            *_fresh(fresh_after, window),
            f"- request `{candidate.request_id}`, snapshot `{candidate.snapshot_id[:12]}`, "
            f"train key `{candidate.train_key[:12]}`, bundle `{candidate.bundle[:12]}`",
            "- pictures, importances and the bundle's files: artifacts of the source run",
            "",
            *_verdict(verdict),
            "",
            f"On the early-stopping tail of the training window{_whose(candidate)}:",
            "",
            "| metric | value |",
            "|---|---|",
            *(
                f"| {name.removeprefix('tail.')} | {value:.4g} |"
                for name, value in sorted(candidate.metrics.items())
                if name.startswith("tail.")
            ),
        ]
    )


def _whose(candidate: Candidate) -> str:
    of = refitting.refit_of(candidate)
    return f", by version {of}" if of else ""


def _fitted(candidate: Candidate, start: str, end: str, newest: str) -> str:
    if why := why_recalled(candidate):
        return f"{plain(why)}, fitted on rows until {newest}"
    if again := refitting.told(candidate):
        return f"{again}; trained on {start} to {newest}"
    return f"trained on {start} to {end}, newest row {newest}"


def _fresh(after: datetime | None, window: Window) -> list[str]:
    return [f"- judged on rows after {readable_time(after)} until {readable_time(window.as_of)}"] if after else []


def _verdict(verdict: Verdict | None) -> list[str]:
    if verdict is None:
        return ["**Not judged yet.**"]
    outcome = "Passed its gates" if verdict.passed else "Refused by its gates" if verdict.judged else "Not judged"
    against = f", beside champion version {verdict.champion_version}" if verdict.champion_version else ""
    return [
        f"**{outcome}** on {verdict.rows:,} fresh rows{against}: {plain(verdict.reason)}",
        *(["", f"A person must decide: {plain(verdict.ask_why)}"] if verdict.ask_why else []),
        "",
        *table(verdict.gates),
    ]
