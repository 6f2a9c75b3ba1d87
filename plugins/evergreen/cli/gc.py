"""`evergreen gc`: remove from the store what nothing needs any more, or say what that would be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger, known_model
from evergreen.cli.screen import AsJson, console, print_json
from evergreen.core.catalog import load_catalog, without_a_valid_spec

if TYPE_CHECKING:
    from rich.table import Table

    from evergreen.steps.housekeep import Housekept


def gc(
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Only this model's files.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove from the store what nothing needs any more.

    \b
    The same as the DAG `housekeeping` does each night: bundles, snapshots,
    evidence and rows set aside that are older than `retention.keep` and belong to
    no version that is live, was live before, is prepared, asked about, at work,
    to be judged again, or among the newest. A model that is held, at work, or
    whose spec has a problem is left alone. The control ledger loses only values
    of metrics older than that; quality, and what rules look at, keeps two years.

    \b
    --json names every file.

    \b
    Examples:
      evergreen gc --dry-run
      evergreen gc --dry-run --model flight-delay --json | jq -r '.files[].key'
      evergreen gc
    """
    from evergreen.steps.housekeep import housekeep

    settings = wiring.Settings.load()
    ledger, specs = existing_ledger(settings), load_catalog(settings.root).specs
    leave = without_a_valid_spec(settings.root, specs)
    if model and model not in leave:
        known_model(settings, ledger, model)
    done = housekeep(
        ledger,
        wiring.store(settings),
        {name: spec.retention for name, spec in specs.items()},
        now=datetime.now(UTC),
        watched={name: {rule.name for rule in spec.rules} for name, spec in specs.items()},
        recalls={name: spec.recall.versions for name, spec in specs.items() if spec.recall},
        leave=leave,
        only=model or None,
        dry_run=dry_run,
    )
    if as_json:
        print_json(_as_dict(done, dry_run=dry_run))
    else:
        _show(done, dry_run=dry_run)


def _as_dict(done: Housekept, *, dry_run: bool) -> dict[str, Any]:
    files = [{"model": model, "kind": kind, "key": file.key, "bytes": file.size} for model, kind, file in done.files]
    kept = {model: {str(version): why for version, why in versions.items()} for model, versions in done.kept.items()}
    return {"dry_run": dry_run, "files": files, "points": done.points, "kept": kept, "left_alone": done.left_alone}


def _show(done: Housekept, *, dry_run: bool) -> None:
    if done.files:
        typer.echo("Would be removed:" if dry_run else "Removed:")
        console().print(_table(done))
    elif not done.points:
        typer.echo("There is nothing to remove.")
    if done.points:
        typer.echo(f"Values of metrics {'that would go' if dry_run else 'removed'}: {sum(done.points.values()):,}")
    versions = [(f"{name} version {version}", why) for name, kept in done.kept.items() for version, why in kept.items()]
    told = [*versions, *((f"all of {model}", why) for model, why in sorted(done.left_alone.items()))]
    if told:
        typer.echo("\nKept:")
        console().print(_rows(("what", 40), ("why", 38), rows=told))
    if dry_run and (done.files or done.points):
        typer.echo("\nNothing was changed. `evergreen gc` removes what is listed.")


def _table(done: Housekept) -> Table:
    from evergreen.steps.housekeep import by_model

    rows = [
        (model or "no model", kind, f"{files:,}", f"{size / 1e6:,.1f}")
        for (model, kind), (files, size) in sorted(by_model(done).items())
    ]
    files, size = len(done.files), sum(file.size for _, _, file in done.files)
    total = ("in all", "", f"{files:,}", f"{size / 1e6:,.1f}")
    return _rows(("model", 40), ("kind", 18), ("files", -8), ("MB", -10), rows=[*rows, total])


def _rows(*columns: tuple[str, int], rows: list[tuple[str, ...]]) -> Table:
    """A table; a negative width stands for a column of numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    for name, wide in columns:
        table.add_column(name, max_width=abs(wide), overflow="fold", justify="right" if wide < 0 else "left")
    for row in rows:
        table.add_row(*row)
    return table
