"""`evergreen metrics`: what the monitor has measured of a model, period by period."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger, known_model
from evergreen.cli.screen import AsJson, console, print_json
from evergreen.core import moments
from evergreen.core.catalog import load_catalog
from evergreen.core.monitoring import names
from evergreen.core.monitoring.alert_texts import number
from evergreen.core.records import ALL
from evergreen.core.spec_fields import did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

    from evergreen.core.records import MetricPoint
    from evergreen.core.spec_monitoring import MetricRule

LATELY = "7d"
METRIC = "All periods of this metric, and of its slices; repeat for more."


def metrics(
    model: Annotated[str, typer.Argument(help="The model.")],
    metric: Annotated[list[str] | None, typer.Option("--metric", metavar="NAME", help=METRIC)] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="Periods that end after this: 30d, 2013-06-01.")] = LATELY,
    as_json: AsJson = False,
) -> None:
    """Show what the monitor measured of a model, by period.

    \b
    Of each metric the newest value, of all rows together. --metric shows one
    period by period, with its slices. A period is as long as monitoring.window
    in the spec; one that is not over yet is written anew now and then, and
    any one where labels come late. Reads the ledger, so that it answers while
    nothing runs. docs/monitoring.md says what each name means.

    \b
    Examples:
      evergreen metrics flight-delay
      evergreen metrics flight-delay --metric drift.psi.distance --since 30d
      evergreen metrics flight-delay --json | jq '.[] | select(.rows < 1000)'
    """
    settings, now = wiring.Settings.load(), datetime.now(UTC)
    first = moments.since("--since", since, now)
    ledger = existing_ledger(settings)
    known_model(settings, ledger, model)
    found = ledger.points.latest(model, names=metric or None, since=first)
    if as_json:
        print_json([_as_dict(point) for point in found])
    elif not found:
        typer.echo(_nothing(model, first, metric, {point.name for point in ledger.points.latest(model, since=first)}))
    elif metric:
        console().print(_by_period(found))
    else:
        spec = load_catalog(settings.root).specs.get(model)
        newest = _newest(found)
        console().print(_by_metric([one for one in newest if not _of_a_feature(one.name)], spec.rules if spec else []))
        if example := next((one.name for one in newest if _of_a_feature(one.name)), ""):
            typer.echo(f"\nOf each feature too: evergreen metrics {model} --metric {example}")


def _nothing(model: str, first: datetime, metric: Sequence[str] | None, others: Collection[str]) -> str:
    told = f"Nothing was measured of {model} since {first:%Y-%m-%d %H:%M} UTC"
    if not metric or not others:
        return f"{told}. The monitor measures once a version answers."
    near = [hint for one in metric if (hint := did_you_mean(one, others))]
    return " ".join([f"{told} under {' or '.join(metric)}: too few rows or labels, or no such metric.", *near])


def _newest(points: Iterable[MetricPoint]) -> list[MetricPoint]:
    """Of each metric the value of its newest period, all rows; of two versions in it the later one's."""
    newest: dict[str, MetricPoint] = {}
    for point in sorted(points, key=lambda one: (one.start, one.version)):
        if point.slice == ALL:
            newest[point.name] = point
    return [newest[name] for name in sorted(newest)]


def _of_a_feature(name: str) -> bool:
    """Whether it is of one feature; of them all the worst is shown."""
    return names.forms([name]) != [name] and not name.endswith(f".{names.MAX}")


def _by_metric(points: Iterable[MetricPoint], rules: Sequence[MetricRule]) -> Table:
    limits = {rule.name: f"{rule.direction} {number(rule.limit)}" for rule in rules if not rule.slice}
    table = _table("metric", "value", "limit", "rows", "version", "period from")
    for one in points:
        limit = limits.get(one.name, "")
        table.add_row(one.name, _short(one.value), limit, f"{one.rows:,}", str(one.version), _when(one.start))
    return table


def _by_period(points: Iterable[MetricPoint]) -> Table:
    table = _table("metric", "period from", "value", "between", "rows", "version")
    for one in sorted(points, key=lambda point: (point.name, point.slice, point.start, point.version)):
        name = one.name if one.slice == ALL else f"{one.name} ({one.slice})"
        within = f"{_short(one.low)} … {_short(one.high)}" if one.low is not None and one.high is not None else ""
        table.add_row(name, _when(one.start), _short(one.value), within, f"{one.rows:,}", str(one.version))
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    for name in columns:
        right = name in ("value", "rows", "version")
        table.add_column(name, overflow="fold", no_wrap=name != "metric", justify="right" if right else "left")
    return table


def _short(value: float) -> str:
    return number(float(f"{value:.4g}"))


def _when(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"


def _as_dict(point: MetricPoint) -> dict[str, Any]:
    times = {name: value.isoformat() for name, value in asdict(point).items() if isinstance(value, datetime)}
    return {**asdict(point), **times}
