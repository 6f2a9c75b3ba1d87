"""`evergreen forget`: remove what was answered about one person from the log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.known import Reason, existing_ledger, known_model, whoever_asks
from evergreen.cli.screen import AsJson, counted, print_json
from evergreen.core.errors import FoundProblem

if TYPE_CHECKING:
    from evergreen.steps.forget import Done


def forget(
    key: Annotated[str, typer.Argument(help="What callers send as x-request-key with requests about that person.")],
    reason: Reason,
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Only this model's rows; else all.")] = "",
    as_json: AsJson = False,
) -> None:
    """Remove what was answered about one person from the log.

    \b
    Every row of this request key that was answered before now leaves the
    prediction log, and ground truth of the same inference ids with it. Rows that
    serving has not brought into the store yet are left out as it does, within
    seconds; ground truth that is told later of a row that went is left out too.
    Pages of `evergreen report` go from the store. What this cannot reach:
    snapshots, models that were trained on such rows, and reports in MLflow and in
    files, until the next report of that version takes their place.

    \b
    The ledger keeps who asked, when and why, and the sha256 of the key, not the
    key. Killed at any point, it may be run again.

    \b
    Examples:
      evergreen forget customer-4711 --reason "asked by mail, ticket 17"
      evergreen forget customer-4711 --model flight-delay --reason "ticket 17"
    """
    from evergreen.steps.forget import forget as forget_key

    if not key.strip() or not reason.strip():
        found = "no key" if not key.strip() else "no reason"
        raise FoundProblem("forget", found=found, allowed="a request key and a reason", do="Add what is missing.")
    settings = wiring.Settings.load()
    ledger, predictions = existing_ledger(settings), wiring.predictions(settings)
    if model and model not in predictions.models():
        known_model(settings, ledger, model)
    done = forget_key(
        ledger,
        wiring.store(settings),
        predictions,
        key,
        model=model,
        by=whoever_asks(),
        reason=reason.strip(),
        now=datetime.now(UTC),
    )
    if as_json:
        print_json(_as_dict(done))
    else:
        _show(done)


def _as_dict(done: Done) -> dict[str, Any]:
    removed = {
        model: {"answers": one.predictions, "ground_truth": one.truths, "parts": one.parts}
        for model, one in done.removed.items()
    }
    return {"key_sha256": done.key_sha256, "removed": removed}


def _show(done: Done) -> None:
    for model, one in done.removed.items():
        what = f"{counted(one.predictions, 'answer')} and {one.truths} of ground truth"
        typer.echo(f"{model}: {what} removed, of {counted(len(one.parts), 'part')}.")
    if not done.removed:
        typer.echo("The store has no row of this key.")
    typer.echo("Rows that serving has not brought there yet are left out as it does, within seconds.")
    typer.echo(f"The ledger names the key by its sha256: {done.key_sha256}")
