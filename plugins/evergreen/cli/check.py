"""`evergreen check` and `evergreen schema`: specs and suites, without starting or importing anything heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evergreen import wiring
from evergreen.cli.screen import AsJson, counted, print_json
from evergreen.core.catalog import Catalog, load_catalog, read_defaults, render
from evergreen.core.spec import ModelSpec
from evergreen.core.spec_fields import format_duration


def check(as_json: AsJson = False) -> None:
    """Check all specs and suites; tell every problem at once.

    \b
    Reads models/*/model.yaml (merged with models/_defaults.yaml) and
    expectations/*.json. Starts nothing, needs nothing running, under a second.
    Exit status 0: all right, 1: there are problems.

    \b
    Examples:
      evergreen check
      evergreen check --json | jq -r '.problems[].file'
    """
    root = wiring.project_root()
    catalog = load_catalog(root)
    if as_json:
        models = [_summary(spec) for spec in catalog.specs.values()]
        print_json({"models": models, "problems": [problem.as_dict() for problem in catalog.problems]})
    elif catalog.problems:
        typer.echo(render(catalog.problems))
        typer.echo(f"\n{_count(catalog)} Correct them, then run `evergreen check` again.")
    else:
        typer.echo(_table(catalog) if catalog.specs else _nothing(root))
    raise typer.Exit(1 if catalog.problems else 0)


def _count(catalog: Catalog) -> str:
    files = {problem.file for problem in catalog.problems}
    return f"{counted(len(catalog.problems), 'problem')} in {counted(len(files), 'file')}."


def _nothing(root: Path) -> str:
    return f"No models yet in {root / 'models'}. Write models/<name>/model.yaml; docs/model-spec.md names every key."


def _summary(spec: ModelSpec) -> dict[str, object]:
    starts = [f"cron '{line}'" for line in spec.schedule]
    starts += [f"{spec.new_data.min_rows:,} new rows"] if spec.new_data else []
    starts += [f"a release of {name}" for name in spec.upstream]
    starts += [f"a recall every {format_duration(spec.recall.every)}"] if spec.recall else []
    starts += [rule.words for rule in spec.metric]
    return {
        "model": spec.name,
        "task": spec.task.value,
        "features": len(spec.features.columns),
        "suite": spec.validation.suite,
        "approval": spec.approval.mode.value,
        "starts_by": " or ".join(starts) or "a person",
    }


def _table(catalog: Catalog) -> str:
    """One line a model; plain text, since importing a table library would cost as much as the check."""
    rows = [_summary(spec) for spec in catalog.specs.values()]
    wide = max(5, *(len(str(row["model"])) for row in rows))
    lines = [f"{'model':<{wide}}  features  approval  starts by"]
    lines += [f"{row['model']:<{wide}}  {row['features']:>8}  {row['approval']:<8}  {row['starts_by']}" for row in rows]
    return "\n".join([*lines, "", f"{counted(len(rows), 'model')}, no problems."])


def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="The reference page instead of the schema.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write both into docs/, and print nothing.")] = False,
) -> None:
    """Print the JSON Schema of model.yaml, or its reference page.

    \b
    After a change of the spec or of models/_defaults.yaml:
      evergreen schema --write
    """
    from evergreen.core import reference

    root = wiring.project_root()
    text = reference.as_text(reference.json_schema(read_defaults(root)))
    if write:
        (root / reference.SCHEMA_FILE).write_text(text, encoding="utf-8")
        (root / reference.PAGE_FILE).write_text(reference.markdown(), encoding="utf-8")
    else:
        typer.echo(reference.markdown() if markdown else text, nl=False)
