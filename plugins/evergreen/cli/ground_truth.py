"""`evergreen ground-truth`: tell serving the labels of a file."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger
from evergreen.cli.screen import AsJson, find_model, print_json, progress_bar
from evergreen.core.catalog import load_catalog
from evergreen.core.errors import FoundProblem

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec
    from evergreen.steps.tell_labels import Told

ALIVE = timedelta(seconds=30)  # a replica that was heard of within it is asked


def ground_truth(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    input: Annotated[str, typer.Option("--input", metavar="FILE", help="The labels: .csv or .parquet.")],
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Of serving; else a replica that lives.")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell serving what turned out to be true, from a file.

    \b
    The file's columns:
      inference_id  as the answer had it; or
      key           what the caller sent as x-request-key: looked up in the log
      label         a number, or the name of a class; rows without one are left
                    out
      at            optional: when it was known; UTC where it names no zone

    \b
    Labels are posted to POST /models/<model>/ground-truth, 1,000 a request, and
    are in the monitor's metrics some minutes later (docs/monitoring.md). It may
    be run again: what is told twice counts once, and of several labels of an
    answer the one told last. Reads a part of the file at a time: memory does not
    grow with it.

    \b
    A label by key is of all answers to requests with that key; a request of
    several rows has one key for all of them, and nobody can say which row is
    meant: such labels are left out and counted.

    \b
    Where serving asks for tokens, EVERGREEN_SERVING_TOKEN is sent.

    \b
    Examples:
      evergreen ground-truth flight-delay --input landed.csv
      evergreen ground-truth flight-delay --input june.parquet --json
      evergreen ground-truth flight-delay --input landed.csv \\
        --url https://models.example.com
    """
    from evergreen.steps.find_answers import Answers
    from evergreen.steps.tell_labels import tell_labels

    settings = wiring.Settings.load()
    spec = find_model(load_catalog(settings.root), model)
    file = wiring.label_file(input)
    answers = Answers(wiring.store(settings), wiring.logged_parts(settings), model)
    days = wiring.predictions(settings).days(model) if "key" in file.columns else []
    began, rows = time.monotonic(), file.rows()
    with (
        wiring.serving_client().connect(url or _replica(settings, spec)) as connection,
        progress_bar("Telling") as progress,
    ):
        told = tell_labels(connection, answers, file.batches(), days, lambda done: progress(done, rows))
    seconds = time.monotonic() - began
    if as_json:
        print_json({**asdict(told), "seconds": round(seconds, 3)})
    else:
        typer.echo("\n".join(_lines(model, told, seconds)))
    _refuse_where_none_is_known(input, told)


def _replica(settings: wiring.Settings, spec: ModelSpec) -> str:
    """The URL of one that was heard of a moment ago. Raises FoundProblem where there is none."""
    pool = spec.serving.pool
    alive = existing_ledger(settings).replicas.alive(pool, datetime.now(UTC) - ALIVE)
    if not alive:
        do = "Start serving (`evergreen up`), or name its address: --url http://…"
        raise FoundProblem(f"pool '{pool}'", found="no replica that lives", allowed="at least one", do=do)
    return alive[0].url


def _lines(model: str, told: Told, seconds: float) -> list[str]:
    lines = [f"{model}: {told.posted:,} labels told, of {told.rows:,} rows, in {seconds:,.1f} s."]
    if told.without_label:
        lines.append(f"Left out: {told.without_label:,} rows without a label.")
    if told.unknown:
        lines.append(f"Left out: {told.unknown:,} rows whose key no logged answer has.")
    if told.ambiguous:
        lines.append(f"Left out: {told.ambiguous:,} rows whose key is of a request with several rows.")
    return lines


def _refuse_where_none_is_known(input: str, told: Told) -> None:
    if told.unknown and not told.posted + told.ambiguous:
        do = (
            "Is 'key' what callers send as x-request-key? Answers are in the log some ten seconds after they are given."
        )
        raise FoundProblem(f"--input {input}", found="no key of an answer that was logged", allowed="such keys", do=do)
