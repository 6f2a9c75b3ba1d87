"""What a report cannot say, and why: sentences for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evergreen.core.readable import readable_age
from evergreen.core.reported_history import MOST_PERIODS, from_when
from evergreen.core.requested import readable_time

if TYPE_CHECKING:
    from evergreen.core.reported import Reported
    from evergreen.core.spec import ModelSpec


def notes(report: Reported, spec: ModelSpec, *, bare: bool) -> Iterator[str]:
    """`bare`: the champion's bundle has no reference."""
    if report.version is None:
        yield "No version was released yet: there are no answers to look at."
        return
    if bare:
        yield (
            f"Version {report.version} was trained before there were references: what its features looked like then is "
            f"not known, so nothing is said of drift and of slices. `evergreen retrain {spec.name}` makes a version "
            "that has one."
        )
    yield from _of_rows(report, spec)
    first = from_when(report.since, report.made_at, spec.monitoring.window)
    if first > report.since:
        yield f"Metrics are shown from {readable_time(first)} on: those are the newest {MOST_PERIODS} periods."
    if not report.series:
        yield "The monitor has written no metric since then: `evergreen status` says whether it is at work."


def _of_rows(report: Reported, spec: ModelSpec) -> Iterator[str]:
    rows, least = report.span.answers, spec.monitoring.min_rows
    longer = "a longer --window looks farther back"
    if not rows:
        since = f" It is champion since {readable_time(report.released_at)};" if report.released_at else ""
        yield f"Version {report.version} has given no answer in this window.{since} {longer}."
    elif not report.span.labelled:
        due = readable_age(spec.label.arrives_after)
        yield (
            "No label of these answers has come, so nothing is said of errors. Labels are due "
            f"{due} after an answer (label.arrives_after); {longer}."
        )
    elif rows < least:
        yield f"{rows:,} answers are few: the monitor tells nothing of drift and quality on fewer than {least:,}."
