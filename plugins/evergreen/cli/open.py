"""`evergreen open`: a page in the browser."""

from __future__ import annotations

import webbrowser
from typing import Annotated
from urllib.parse import quote

import typer

from evergreen import wiring
from evergreen.cli.screen import AsJson, find_model, print_json, running_stack
from evergreen.core.catalog import load_catalog
from evergreen.core.errors import FoundProblem
from evergreen.core.spec_fields import did_you_mean

PAGES = {
    "airflow": "{airflow}",
    "mlflow": "{mlflow}",
    "approvals": "{airflow}/required_actions?response_received=false",
    "model": "{airflow}/evergreen/models/{model}",
}
NO_BROWSER = "No browser could be started here: open the address yourself."


class UnknownPage(FoundProblem):
    """Raised for a page that is not one of PAGES."""


def open(
    page: Annotated[str, typer.Argument(help=f"One of {', '.join(PAGES)}.")] = "airflow",
    model: Annotated[str | None, typer.Argument(help="With `model`: its name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Open a page of the running stack in the browser.

    \b
    airflow     runs and tasks
    mlflow      experiments and the model registry
    approvals   what waits for an answer
    model NAME  the model's history, versions and their evidence

    \b
    Prints the address too; --json prints it only. `evergreen status` names the
    user and the password.

    \b
    Examples:
      evergreen open approvals
      evergreen open model flight-delay
    """
    settings = wiring.Settings.load()
    if page not in PAGES:
        do = did_you_mean(page, PAGES) or "Choose one of these."
        raise UnknownPage("page", found=f"'{page}'", allowed=", ".join(PAGES), do=do)
    name = _model(settings, model) if page == "model" else ""
    stack = running_stack(settings)
    url = PAGES[page].format(airflow=stack.airflow_url, mlflow=stack.mlflow_url, model=name)
    if as_json:
        print_json({"page": page, "url": url})
        return
    typer.echo(url)
    if not webbrowser.open(url):
        typer.echo(NO_BROWSER, err=True)


def _model(settings: wiring.Settings, model: str | None) -> str:
    catalog = load_catalog(settings.root)
    if model is None:
        names = ", ".join(catalog.specs) or "none yet"
        do = "Name it: `evergreen open model <name>`."
        raise UnknownPage("model", found="no name", allowed=names, do=do)
    return quote(find_model(catalog, model).name)
