"""`evergreen replay`: a model's whole policy over past data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.screen import AsJson, console, find_model, print_json
from evergreen.core import moments
from evergreen.core.catalog import load_catalog, read_changed, render
from evergreen.core.errors import EvergreenError, FoundProblem
from evergreen.core.spec_fields import format_duration

if TYPE_CHECKING:
    from rich.table import Table

    from evergreen.core.replayed import Replayed
    from evergreen.core.spec import ModelSpec


def replay(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    first: Annotated[str, typer.Option("--from", metavar="TIME", help="When the first version is made.")],
    last: Annotated[str, typer.Option("--to", metavar="TIME", help="No period ends later.")],
    every: Annotated[str, typer.Option(metavar="LENGTH", help="Length of a period: 7d, 14d, 30d.")] = "14d",
    chart: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the chart as PNG.")] = None,
    spec_file: Annotated[
        Path | None,
        typer.Option("--spec", metavar="FILE", exists=True, dir_okay=False, help="A spec in place of model.yaml."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write chart and table as one HTML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a model's triggers and gates over past data.

    \b
    Time goes from --from to --to, as if the spec of today had been there: each
    row comes at its event time, its label label.arrives_after later. The steps
    are those of a run, with the real trainer and Great Expectations; ledger,
    registry and serving are in memory. Nothing of the platform is touched.

    \b
    The table tells the metric of each period, by four ways to keep the model:
      frozen     the version that was made at --from, for ever
      every      a model trained at each period's start, without gates
      Evergreen  the versions that the spec's triggers and gates let through;
                 * where it is certainly worse than frozen
      hindsight  the best of all models trained so far, chosen afterwards:
                 nobody can know it
    The metric is the one that the gates compare with the champion.

    \b
    The rehearsal is left out, a release answers all callers at once, a person
    approves whatever passed, and a run takes no time. New data is looked for
    every 6 hours; rules on metrics are judged once a day, on the labels that
    had arrived.

    \b
    --spec tries rules before they are written down: a copy of model.yaml with
    other triggers, gates or windows, checked as `evergreen check` does.

    \b
    Examples:
      evergreen replay flight-delay --from 2013-02-01 --to 2013-12-31
      evergreen replay flight-delay --from 2013-04-01 --to 2013-07-01 \\
        --every 7d --html replay.html --json | jq .share.evergreen
      evergreen replay flight-delay --from 2013-02-01 --to 2013-12-31 \\
        --spec /tmp/model.yaml
    """
    settings = wiring.Settings.load()
    spec = _spec(settings.root, model, spec_file)
    start, end = moments.moment("--from", first), moments.moment("--to", last)
    for name, file in (("--chart", chart), ("--html", html)):
        _check_folder(name, file)
    from evergreen import replay as replaying

    order = replaying.Order(spec, start, end, moments.length("--every", every))
    tools = replaying.real_tools(settings.root, spec)
    with _bar() as progress:
        replayed = replaying.replay(order, wiring.source(spec.source), tools, progress)
    _write(replayed, chart, html)
    if as_json:
        print_json(_json(replayed))
    else:
        _show(replayed)


def _spec(root: Path, model: str, changed: Path | None) -> ModelSpec:
    """The model's own spec, or another file's. Raises EvergreenError where there is none, or a bad one."""
    if changed is None:
        return find_model(load_catalog(root), model)
    found = read_changed(root, model, changed)
    if found.problems:
        raise EvergreenError(render(found.problems))
    return found.specs[model]


def _check_folder(name: str, file: Path | None) -> None:
    if file is not None and not file.parent.is_dir():
        raise FoundProblem(
            f"{name} {file}",
            found=f"no folder {file.parent}",
            allowed="a file in a folder that is there",
            do=f"Make it: mkdir -p {file.parent}",
        )


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal's stderr, which is gone at the end; nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(stderr=True)
    parts = [TextColumn("Replaying"), BarColumn(), MofNCompleteColumn(), TextColumn("periods"), TimeRemainingColumn()]
    with Progress(*parts, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, periods: bar.update(task, completed=done, total=periods)


def _write(replayed: Replayed, chart: Path | None, html: Path | None) -> None:
    if chart is None and html is None:
        return
    from evergreen.replay.page import page

    picture = wiring.replay_chart()(replayed)
    if chart is not None:
        chart.write_bytes(picture)
    if html is not None:
        html.write_text(page(replayed, picture), encoding="utf-8")


def _show(replayed: Replayed) -> None:
    from evergreen.replay.told import cells, means, summary

    rows = [cells(period, replayed.metric) for period in replayed.periods]
    screen = console()
    screen.print(_table([*rows, means(replayed)]))
    for line in summary(replayed):
        screen.print(line, markup=False)


def _table(rows: list[tuple[str, ...]]) -> Table:
    from rich import box
    from rich.table import Table

    from evergreen.replay.told import HEADER

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    for name in HEADER:
        is_text = name in (HEADER[0], HEADER[-1])
        table.add_column(name, justify="left" if is_text else "right", overflow="fold", no_wrap=name != HEADER[-1])
    for number, row in enumerate(rows, 1):
        table.add_row(*row, end_section=number == len(rows) - 1)
    return table


def _json(replayed: Replayed) -> dict[str, Any]:
    ways = ("frozen", "every_period", "evergreen", "hindsight")
    plain: dict[str, Any] = _plain(
        {
            **asdict(replayed),
            "metric": replayed.metric.label,
            "mean": {way: getattr(replayed, way) for way in ways},
            "share": {way: replayed.share(getattr(replayed, way)) for way in ("every_period", "evergreen")},
            "retrains": {"evergreen": replayed.retrains, "every_period": replayed.retrains_of_every_period},
            "refused": replayed.refused,
            "recalls": replayed.recalls,
            "below_frozen": [period.end for period in replayed.below_frozen],
        }
    )
    return plain


def _plain(value: Any) -> Any:
    """Times as text, lengths as in the spec, and null for what is not known: JSON has no NaN."""
    match value:
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case datetime():
            return value.isoformat()
        case timedelta():
            return format_duration(value)
        case float() if math.isnan(value):
            return None
    return value
