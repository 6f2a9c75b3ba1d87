"""`evergreen new`: a model's spec, suite and README, drafted from the source that it will read."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.screen import AsJson, counted, print_json
from evergreen.core import draft as drafts
from evergreen.core.catalog import NAME, NAME_WORDS, TAKEN, load_catalog, read_defaults, render
from evergreen.core.errors import EvergreenError, FoundProblem
from evergreen.core.metrics import Task
from evergreen.core.profile import guess_task, profile, without_learning
from evergreen.core.spec import Source as SourceSpec
from evergreen.core.spec_fields import did_you_mean

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import Source

ENOUGH, MOST = 1_000, 100_000  # rows of the sample
DAYS, MONTH, EVER = timedelta(days=3), timedelta(days=30), timedelta(days=20_000)
TRAIN, HOLDOUT, WEEK = timedelta(days=90), timedelta(days=14), timedelta(days=7)
EXPLAINED = """\
evergreen new drafts a model from the table or files that it will read:

  evergreen new fare --connection warehouse --table rides \\
    --event-time picked_up_at --key ride_id --label fare

  evergreen new churn --files 's3://bucket/customers/*.parquet' \\
    --event-time month --key customer_month --label left

It looks at a sample and writes three files, for you to correct:

  models/<name>/model.yaml     columns, window, triggers, gates, with comments
  models/<name>/README.md      the questions to answer about the model
  expectations/<name>.json     what held for the sample, with slack

Say which column is
  --event-time   when each event happened (a timestamp, UTC)
  --key          different in every row
  --label        what to learn: 0/1, a class number from 0, or a number

--dry-run shows the files and writes none. A connection's
URL stands in EVERGREEN_CONN_<NAME>. No file that is there is overwritten.
"""


class CannotDraft(FoundProblem):
    """Raised when the command line names what is not there, or is there already."""


def new(
    name: Annotated[str | None, typer.Argument(help="Name of the model: lower-case letters, digits and -.")] = None,
    table: Annotated[str | None, typer.Option(help="Table to read.")] = None,
    connection: Annotated[str | None, typer.Option(help="Connection that the table is read over.")] = None,
    files: Annotated[str | None, typer.Option(help="Files to read instead: a URL or a path, in quotes.")] = None,
    event_time: Annotated[str | None, typer.Option(help="Column with the time of the event.")] = None,
    key: Annotated[str | None, typer.Option(help="Column that is different in every row.")] = None,
    label: Annotated[str | None, typer.Option(help="Column to learn.")] = None,
    task: Annotated[Task | None, typer.Option(help="Guessed from the label if left out.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the files; write none.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draft a new model from a table or files.

    \b
    Without arguments it explains itself by example.

    \b
    Examples:
      evergreen new
      evergreen new fare --connection warehouse --table rides \\
        --event-time picked_up_at --key ride_id --label fare --dry-run
    """
    if name is None:
        typer.echo(EXPLAINED, nl=False)
        return
    settings = wiring.Settings.load()
    written = _paths(settings.root, name)
    what = _described(table=table, connection=connection, files=files, event_time=event_time, key=key, label=label)
    described, label = what
    draft = _draft(settings, name, described, label, task)
    texts = dict(zip(written, (drafts.model_yaml(draft), drafts.readme(draft), drafts.suite_text(draft)), strict=True))
    if not dry_run:
        _write(settings.root, texts)
    if as_json:
        print_json({"model": name, "files": texts, "written": not dry_run})
    elif dry_run:
        typer.echo("\n".join(f"--- {path}\n{text}" for path, text in texts.items()), nl=False)
    else:
        _told(settings.root, draft, texts)


# ---------------------------------------------------------------- what was asked for


def _paths(root: Path, name: str) -> list[str]:
    if not NAME.fullmatch(name) or name in TAKEN:
        why = ", which names a DAG of Evergreen" if name in TAKEN else ""
        raise CannotDraft("name", found=f"'{name}'{why}", allowed=NAME_WORDS, do="Choose another name.")
    paths = [f"models/{name}/model.yaml", f"models/{name}/README.md", f"expectations/{name}.json"]
    if there := [path for path in (f"models/{name}", *paths) if (root / path).exists()]:
        do = "Choose another name, or remove it first."
        raise CannotDraft(f"name '{name}'", found=f"{there[0]}, which is there already", allowed="a new model", do=do)
    return paths


def _described(**options: str | None) -> tuple[SourceSpec, str]:
    needed = ["event_time", "key", "label", *(["connection"] if options["table"] else [])]
    missing = [f"--{option.replace('_', '-')}" for option in needed if not options[option]]
    if not options["table"] and not options["files"]:
        missing.insert(0, "--table or --files")
    if missing:
        do = "`evergreen new` without arguments shows an example."
        raise CannotDraft("options", found=f"no {', '.join(missing)}", allowed="all of them", do=do)
    label = str(options.pop("label"))
    return _source_spec({name: value for name, value in options.items() if value}), label


def _source_spec(options: dict[str, str]) -> SourceSpec:
    from pydantic import ValidationError

    try:
        return SourceSpec.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        facts = first.get("ctx", {})
        where = f"--{'-'.join(map(str, first['loc']))}" if first["loc"] else "options"
        found, do = facts.get("found", str(first["input"])), facts.get("do", "Correct it.")
        raise CannotDraft(where, found=found, allowed=facts.get("allowed", first["msg"]), do=do) from None


# ---------------------------------------------------------------- looking


def _draft(settings: wiring.Settings, name: str, described: SourceSpec, label: str, task: Task | None) -> drafts.Draft:
    source = wiring.source(described, _demo_warehouse(settings))
    columns = _columns(source, described, label)
    newest = source.watermark()
    if newest is None:
        raise CannotDraft(described.words, found="no rows", allowed="at least one", do="Load some data first.")
    sample = _sample(source, columns, newest)
    chosen = task or guess_task(sample[label])
    if chosen is None:
        allowed, do = "0/1, a class number from 0, or a number", "Encode it in the source; a query can do it."
        raise CannotDraft(f"--label {label}", found=f"type {sample[label].dtype}", allowed=allowed, do=do)
    times = sample[described.event_time]
    train, holdout = _window(source, newest)
    return drafts.Draft(
        name=name,
        task=chosen,
        source=described,
        label=label,
        columns=profile(sample, label, {described.key, described.event_time, label}),
        rows=sample.height,
        first=f"{times.min():%Y-%m-%d}",
        last=f"{times.max():%Y-%m-%d}",
        train_days=train.days,
        holdout_days=holdout.days,
        holdout_rows=source.count(newest - holdout, newest),
        rows_a_week=source.count(newest - WEEK, newest),
        unlearned=without_learning(sample[label], chosen),
        owner=None if "owner" in read_defaults(settings.root) else getpass.getuser(),
    )


def _demo_warehouse(settings: wiring.Settings) -> Callable[[str], str | None]:
    """`warehouse` is the embedded shape's own, where nothing else is said."""
    file = settings.home / "warehouse.db"
    return lambda name: f"sqlite:///{file}" if name == "warehouse" and file.is_file() else None


def _columns(source: Source, described: SourceSpec, label: str) -> list[str]:
    found = sorted(source.columns())
    for option, column in (("event-time", described.event_time), ("key", described.key), ("label", label)):
        if column not in found:
            do = did_you_mean(column, found) or "Name one of these."
            raise CannotDraft(f"--{option}", found=f"no column '{column}'", allowed=", ".join(found), do=do)
    return found


def _sample(source: Source, columns: list[str], newest: datetime) -> pl.DataFrame:
    """Some days of each month of the past year, so that no season is missed; all of it where these are few rows."""
    import polars as pl

    ends = [newest - MONTH * ago for ago in range(12)]
    few = [chunk for end in ends for chunk in _up_to(MOST // 12, source.read(columns, end - DAYS, end))]
    sample = pl.concat(few, how="vertical_relaxed")
    if sample.height < ENOUGH:
        sample = pl.concat(_up_to(MOST, source.read(columns, newest - EVER, newest)))
    return sample


def _up_to(rows: int, chunks: Iterator[Any]) -> list[Any]:
    taken: list[Any] = []
    for chunk in chunks:
        taken.append(chunk)
        rows -= chunk.height
        if rows <= 0:
            break
    return taken


def _window(source: Source, newest: datetime) -> tuple[timedelta, timedelta]:
    """Three months and two weeks, or as much as the source has of that, in the same proportion."""
    for shorter in (1, 3, 12):
        train, holdout = TRAIN / shorter, max(HOLDOUT / shorter, timedelta(days=1))
        if source.count(None, newest - train * 2 / 3 - holdout):
            break
    return train, timedelta(days=holdout.days)


# ---------------------------------------------------------------- writing and telling


def _write(root: Path, texts: dict[str, str]) -> None:
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        with (root / path).open("x", encoding="utf-8") as file:
            file.write(text)


def _told(root: Path, draft: drafts.Draft, texts: dict[str, str]) -> None:
    for path in texts:
        typer.echo(f"wrote {path}")
    for column in draft.left_out:
        typer.echo(f"left out {column.name}: {column.left_out}")
    problems = load_catalog(root, only=draft.name).problems
    if problems:
        raise EvergreenError(f"The draft needs a correction before it loads:\n{render(problems)}")
    features = counted(len(draft.features), "feature")
    typer.echo(f"\n{draft.name}: {draft.task.value}, {features}, from {draft.rows:,} rows. `evergreen check` passes.")
    typer.echo("Next: read the lines marked CHECK in model.yaml, and answer README.md.")
