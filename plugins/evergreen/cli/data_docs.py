"""`evergreen data-docs`: Great Expectations' page on what validation found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger, known_model
from evergreen.cli.screen import AsJson, print_json
from evergreen.core.data_docs import RESULT, RESULT_AFTER, counted
from evergreen.core.errors import FoundProblem, ServiceFailed

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Registry
    from evergreen.core.records import TriggerRequest

LOOKED_AT = 20  # of the newest requests, for one that was validated
BEFORE = ("", "admit", "pull")  # steps of a request that has not come so far


@dataclass(frozen=True)
class _Kept:
    """A result that was kept: of which run of the registry and which request, and what it says."""

    run: str
    of: str
    full: dict[str, Any]


def data_docs(
    model: Annotated[str, typer.Argument(help="Name of the model, as its folder is called.")],
    output: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Where to write the page; else data-docs.html here.", show_default=False),
    ] = Path("data-docs.html"),
    version: Annotated[
        int | None, typer.Option(metavar="N", help="Of the rows that this version learned from.")
    ] = None,
    run: Annotated[str, typer.Option(metavar="ID", help="Of this run in Airflow, or of a request by its id.")] = "",
    after_quarantine: Annotated[
        bool, typer.Option("--after-quarantine", help="Of the rest, once failed rows had been set aside.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the page on what validation found in the rows.

    \b
    Great Expectations' data docs: each expectation of the suite, by column, with
    what was observed, how many rows failed it, and the values and positions of
    some of them. Of the newest run that was validated, or of --run or --version.

    \b
    Made from the result that validation keeps in MLflow (validation/result.json),
    so it takes some seconds, and no run waits for it. Where validation stopped
    a run, the page is there already: the run's note and the model's page in
    Airflow link it, and it lies beside the result in MLflow.

    \b
    The page is one HTML file without a script, that needs no network. It holds
    values of the source's rows: it is as confidential as those.

    \b
    Examples:
      evergreen data-docs flight-delay
      evergreen data-docs flight-delay --version 4 --output v4.html
      evergreen data-docs flight-delay --run manual__2013-06-01T00:00:00+00:00
      evergreen data-docs flight-delay --after-quarantine
    """
    settings = wiring.Settings.load()
    ledger = existing_ledger(settings)
    known_model(settings, ledger, model)
    if not output.absolute().parent.is_dir():
        raise FoundProblem(
            "--output", found=f"'{output}'", allowed="a file in a folder that is there", do="Make the folder first."
        )
    kept = _kept(settings, ledger, model, version, run, RESULT_AFTER if after_quarantine else RESULT)
    validator = wiring.validator(wiring.store(settings), settings.training_memory_mb)
    output.write_text(validator.data_docs(kept.full, f"{model}, {kept.of}"), encoding="utf-8")
    _tell(model, kept, output, as_json=as_json)


def _kept(settings: wiring.Settings, ledger: Ledger, model: str, version: int | None, run: str, artifact: str) -> _Kept:
    """The result that is asked for. Raises FoundProblem where there is none, ServiceFailed where MLflow is away."""
    if version is not None and run:
        raise FoundProblem("--run", found="a version too", allowed="--run or --version", do="Leave one of them out.")
    if version is not None:
        asked = [(_of_version(ledger, model, version), f"version {version}")]
    elif run:
        asked = [(_of_run(ledger, model, run).id, f"run {run}")]
    else:
        latest = ledger.requests.latest(model, limit=LOOKED_AT)
        asked = [(one.id, f"request {one.id}") for one in latest if one.step not in BEFORE]
    try:
        kept = _first(wiring.hasty_registry(settings), model, asked, artifact)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ServiceFailed(
            f"MLflow, which keeps the results, does not answer ({why}). Try again once it does."
        ) from error
    if kept is None:
        raise _not_kept(model, asked[0][1] if version or run else f"the newest {LOOKED_AT} requests", artifact)
    return kept


def _first(registry: Registry, model: str, asked: list[tuple[str, str]], artifact: str) -> _Kept | None:
    """Of these requests, each with its name for people."""
    for request_id, of in asked:
        run = registry.find_run(model, request_id)
        try:
            if run is not None:
                return _Kept(run, of, json.loads(registry.logged_file(run, artifact)))
        except KeyError:
            continue
    return None


def _not_kept(model: str, what: str, artifact: str) -> FoundProblem:
    aside = ", and of whose rows some were set aside" if artifact == RESULT_AFTER else ""
    return FoundProblem(
        f"{what} of model '{model}'",
        found=f"no {artifact} in MLflow",
        allowed=f"a run that came as far as validate{aside}",
        do="A version that was only judged again was not validated again: `evergreen trace` says which run made it.",
    )


def _of_version(ledger: Ledger, model: str, version: int) -> str:
    """The request that made it."""
    try:
        return ledger.models.candidate(model, version).request_id
    except KeyError:
        there = ", ".join(str(one.version) for one in ledger.models.candidates(model)[:10]) or "none yet"
        raise FoundProblem(
            f"version {version} of model '{model}'", found="no such version", allowed=there, do="Name one of these."
        ) from None


def _of_run(ledger: Ledger, model: str, run: str) -> TriggerRequest:
    found = ledger.requests.for_run(model, run)
    if found is None:
        try:
            found = ledger.requests.get(run)
        except KeyError:
            found = None
    if found is None or found.model != model:
        newest = ", ".join(one.run_id for one in ledger.requests.latest(model, limit=3)) or "none yet"
        raise FoundProblem(
            f"--run '{run}'",
            found="no run or request of the model",
            allowed=f"such as {newest}",
            do="Name one of these.",
        )
    return found


def _tell(model: str, kept: _Kept, output: Path, *, as_json: bool) -> None:
    met, many = counted(kept.full)
    unmet = [one["expectation_config"] for one in kept.full["results"] if not one["success"]]
    if as_json:
        found = {"model": model, "of": kept.of, "mlflow_run": kept.run, "met": met, "expectations": many}
        print_json({**found, "not_met": unmet, "file": str(output)})
        return
    typer.echo(f"{model}, {kept.of}: {met} of {many} expectations were met.")
    for one in unmet:
        column = one["kwargs"].get("column")
        typer.echo(f"Not met: {one['type']}{f' ({column})' if column else ''}")
    typer.echo(f"Written: {output}")
