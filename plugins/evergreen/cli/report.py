"""`evergreen report`: data and error analysis of a model, as one page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger
from evergreen.cli.screen import AsJson, console, find_model, print_json
from evergreen.core import evidence, moments
from evergreen.core.catalog import load_catalog
from evergreen.core.errors import FoundProblem
from evergreen.core.reported import ARTIFACT, FILE

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.reported import Reported
    from evergreen.core.spec import ModelSpec

SHORTEST = timedelta(days=7)


@dataclass(frozen=True)
class _Kept:
    """Where a report lies; empty where it does not. `trouble`: why it is not in MLflow."""

    store: str = ""
    mlflow: str = ""
    file: str = ""
    trouble: str = ""


def report(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page here too, as HTML.")] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="How far history goes back: 90d, 2013-06-01.")] = "30d",
    window: Annotated[
        str, typer.Option(metavar="LENGTH", help="The newest answers to look at; else 7d, or monitoring.window.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write the page on where a model errs and what moved.

    \b
    Of the champion's answers in the window (--window):
      features that moved, each beside the rows it was trained on
      the slices in which it is worse by more than chance, of every feature
      residuals, or confusion and calibration
      the answers that were most wrong, with what their callers sent
    Since --since: open alerts, metrics by period with the releases, missing and
    unseen values, rows set aside at training.

    \b
    Errors need labels. Where a label comes a day after the answer, a window of
    a day has none: take a longer one. What is not known, the page says.

    \b
    The page is one HTML file without a script, that needs no network. It is kept
    beside the version's evidence (the Models pages in Airflow link it) and in
    MLflow with the version's run; --output writes it to a file too. It holds
    rows of the prediction log: `evergreen forget` removes the page from the
    store, and the next report replaces the one in MLflow. Reads a part of the
    rows at a time: memory does not grow with them.

    \b
    Examples:
      evergreen report flight-delay
      evergreen report flight-delay --window 30d --since 90d --output delay.html
    """
    settings, now = wiring.Settings.load(), datetime.now(UTC)
    spec = find_model(load_catalog(settings.root), model)
    ledger = existing_ledger(settings)
    first = moments.since("--since", since, now)
    length = moments.length("--window", window) if window else max(SHORTEST, spec.monitoring.window)
    _check_folder(output)
    found = _gathered(settings, ledger, spec, first, length, now)
    kept = _keep(settings, ledger, found, output)
    if as_json:
        print_json(_as_dict(found, kept))
    else:
        typer.echo("\n".join(_told(found, kept)))


def _check_folder(output: Path | None) -> None:
    if output is not None and not output.absolute().parent.is_dir():
        raise FoundProblem(
            "--output", found=f"'{output}'", allowed="a file in a folder that is there", do="Make the folder first."
        )


def _gathered(
    settings: wiring.Settings, ledger: Ledger, spec: ModelSpec, first: datetime, length: timedelta, now: datetime
) -> Reported:
    from evergreen.steps.gather_report import Sources, gather_report
    from evergreen.steps.layouts import Layouts

    store = wiring.store(settings)
    sources = Sources(ledger, store, wiring.logged_parts(settings), Layouts(ledger, store))
    with _bar() as progress:
        return gather_report(sources, spec, since=first, window=length, now=now, progress=progress)


def _keep(settings: wiring.Settings, ledger: Ledger, found: Reported, output: Path | None) -> _Kept:
    from evergreen.steps.keep_report import keep_report
    from evergreen.ui.report_page import page

    if found.version is None and output is None:
        raise FoundProblem(
            f"model '{found.model}'",
            found="no released version, beside which a report could be kept",
            allowed="a champion, or --output",
            do=f"`evergreen report {found.model} --output report.html` writes it to a file.",
        )
    html = page(found).encode()
    if output is not None:
        output.write_bytes(html)
    file = str(output or "")
    if found.version is None:
        return _Kept(file=file)
    registry = lambda: wiring.hasty_registry(settings)  # noqa: E731
    trouble = keep_report(found.model, found.version, html, ledger, wiring.store(settings), registry)
    return _Kept(evidence.key(found.model, found.version, FILE), "" if trouble else ARTIFACT, file, trouble)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal's stderr, which is gone at the end; nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    screen = console(stderr=True)
    columns = [TextColumn("Reading"), BarColumn(), MofNCompleteColumn(), TextColumn("parts of the log")]
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, parts: bar.update(task, completed=done, total=parts)


def _told(found: Reported, kept: _Kept) -> list[str]:
    of = f"version {found.version}" if found.version else "no version yet"
    span = found.span
    lines = [f"{found.model}, {of}: {span.answers:,} answers looked at, {span.labelled:,} of them with a label."]
    lines += list(found.notes)
    if found.shifts and found.shifts[0].psi is not None:
        moved = ", ".join(f"{one.feature} (PSI {one.psi:.2f})" for one in found.shifts[:3] if one.psi)
        lines.append(f"Moved most: {moved or 'nothing'}.")
    if found.slices:
        worst = found.slices[0]
        lines.append(
            f"Worst slice: {worst.feature} {worst.value}, mean loss {worst.loss:.4g} in {worst.rows:,} answers."
        )
    if found.open_alerts:
        lines.append(f"Open alerts: {', '.join(one.metric for one in found.open_alerts)}.")
    return [*lines, *_places(found, kept)]


def _places(found: Reported, kept: _Kept) -> Iterator[str]:
    if kept.file:
        yield f"Written: {kept.file}"
    if kept.store:
        yield f"In the Models pages: /evergreen/models/{found.model}/versions/{found.version}/report"
    if kept.mlflow:
        yield f"In MLflow: {kept.mlflow}, with the run of version {found.version}"
    if kept.trouble:
        yield f"Warning: not in MLflow, which does not answer ({kept.trouble})."


def _as_dict(found: Reported, kept: _Kept) -> dict[str, Any]:
    return {
        "model": found.model,
        "version": found.version,
        "from": found.span.start.isoformat(),
        "until": found.span.end.isoformat(),
        "answers": found.span.answers,
        "labelled": found.span.labelled,
        "notes": list(found.notes),
        "moved": [{"feature": one.feature, "psi": one.psi} for one in found.shifts],
        "slices": [
            {"feature": one.feature, "value": one.value, "rows": one.rows, "loss": one.loss} for one in found.slices
        ],
        "open_alerts": [one.id for one in found.open_alerts],
        "store": kept.store,
        "mlflow": kept.mlflow,
        "file": kept.file,
        "warnings": [kept.trouble] if kept.trouble else [],
    }
