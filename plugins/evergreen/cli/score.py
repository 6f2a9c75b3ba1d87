"""`evergreen score`: predictions for the rows of Parquet files."""

from __future__ import annotations

import sys
import time
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger, known_model, whoever_asks
from evergreen.cli.screen import AsJson, counted, print_json, progress_bar

if TYPE_CHECKING:
    from evergreen.scoring import Scored


def score(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    input: Annotated[str, typer.Option("--input", metavar="PLACE", help="Parquet: a file, folder, pattern or URL.")],
    output: Annotated[str, typer.Option("--output", metavar="FILE", help="The Parquet file to write; or a URL.")],
    version: Annotated[int | None, typer.Option("--version", metavar="N", help="Else the champion.")] = None,
    keep: Annotated[str, typer.Option("--keep", metavar="A,B", help="Only these columns; else all.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace the output where it is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score the rows of Parquet files with a model's champion.

    \b
    The output holds the input's columns (or those of --keep), and two more:
      prediction  a number a row: of binary classification the probability of
                  class 1; of multiclass a list, one probability a class
      version     the version that answered
    in the input's order. It appears whole at the end, or not at all.

    \b
    Answers are those that serving gives, from the same verified bundle by the
    same rules: a null or NaN is a missing value, an infinite number is refused,
    an unseen category is missing or refused as the model's spec says. Columns
    that the model does not know are no problem; one that is missing or of the
    wrong type is, and is named before a row is scored. Rows are counted from 0,
    file by file.

    \b
    Reads a part of the rows at a time: memory does not grow with them. The
    ledger keeps which version scored what (`evergreen history`); so does the
    output's own metadata. For DAGs there is an operator that does the same:
    docs/batch-scoring.md.

    \b
    Examples:
      evergreen score flight-delay --input june.parquet --output scores.parquet
      evergreen score flight-delay --input 's3://lake/flights/2013-06-*.parquet' \\
        --output s3://lake/scores/2013-06.parquet --keep flight_id --force
      evergreen score flight-delay --version 3 --input rows/ --output v3.parquet
    """
    settings = wiring.Settings.load()
    ledger = existing_ledger(settings)
    known_model(settings, ledger, model)
    began = time.monotonic()
    _without_scikit_learn()
    from evergreen import scoring

    order = scoring.Order(model, input, output, version, _names(keep), force)
    with progress_bar("Scoring") as progress:
        done = scoring.score(
            order, ledger, wiring.store(settings), by=whoever_asks(), act=uuid.uuid4().hex, progress=progress
        )
    seconds = time.monotonic() - began
    if as_json:
        print_json({**asdict(done), "seconds": round(seconds, 3)})
    else:
        typer.echo("\n".join(_told(done, seconds)))


def _without_scikit_learn() -> None:
    """XGBoost imports it where it is installed, and scoring does not use it: a second and 130 MB less."""
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]


def _names(keep: str) -> tuple[str, ...] | None:
    names = tuple(dict.fromkeys(name.strip() for name in keep.split(",") if name.strip()))
    return names or None


def _told(done: Scored, seconds: float) -> list[str]:
    what = f"{done.rows:,} rows of {counted(done.files, 'file')}"
    lines = [f"{done.model} version {done.version}: {what} scored in {seconds:,.1f} s.", f"Written: {done.output}"]
    for feature, unseen in done.unseen.items():
        lines.append(
            f"Not seen in training, answered as missing: {feature} in {unseen.rows:,} rows. The first is "
            f"{unseen.first!r} ({unseen.where})."
        )
    return lines
