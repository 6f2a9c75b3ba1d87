"""`make demo-compose`: the story on the running compose shape, in a container beside it."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256

import httpx
from rich.console import Console

from evergreen import wiring
from evergreen.core.errors import EvergreenError, FoundProblem
from evergreen.demo.plot import play
from evergreen.demo.stage import Person, Stage
from evergreen.demo.story import AIRTIME, DELAY, DemoFailed
from evergreen.demo.warehouse import Warehouse

ONCALL = "oncall"
ROLES = ("Approver", "Operator")


def main() -> int:
    """Parse the options and play; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make demo-compose", description=__doc__)
    parser.add_argument("--ask", action="store_true", help="wait for you to approve in the Airflow UI")
    ask, console = parser.parse_args().ask, Console()
    try:
        settings = wiring.Settings.load()
        _not_played_before(settings)
        with _token(settings) as token:
            play(console, _stage(settings, token), Warehouse(wiring.connection_url("warehouse")), ask=ask)
    except EvergreenError as error:
        console.print(f"[red]The demo did not do what it promises.[/red] {error}", soft_wrap=True)
        return 1
    console.print("For $TOKEN: [bold]docker compose exec scheduler evergreen token add me[/bold]")
    return 0


def _not_played_before(settings: wiring.Settings) -> None:
    releases = wiring.ledger(settings).releases
    known = [model for model in (DELAY, AIRTIME) if releases.history(model)]
    if known:
        raise DemoFailed(
            f"{' and '.join(known)} have releases already, and the story begins with none. "
            "`make down ARGS=--volumes` and `make up` begin anew; all that is stored here is lost then."
        )


@contextmanager
def _token(settings: wiring.Settings) -> Iterator[str]:
    """A caller's token for the time of the story."""
    tokens, token = wiring.ledger(settings).tokens, secrets.token_urlsafe(32)
    kept = tokens.add("demo", sha256(token.encode()).hexdigest(), by="demo", now=datetime.now(UTC))
    try:
        yield token
    finally:
        tokens.revoke(kept.id, by="demo", now=datetime.now(UTC))


def _stage(settings: wiring.Settings, token: str) -> Stage:
    airflow, password = os.environ["EVERGREEN_AIRFLOW_URL"], os.environ["EVERGREEN_ADMIN_PASSWORD"]
    admin = Person("admin", password, told="EVERGREEN_ADMIN_PASSWORD in .env")
    oncall = _on_call(airflow, admin)
    return Stage(
        settings=settings,
        airflow=airflow,
        serving="http://edge:8000",
        pages=os.environ["EVERGREEN_PAGES_URL"],
        answers=os.environ["EVERGREEN_ANSWERS_URL"],
        admin=admin,
        oncall=oncall,
        notes=(),
        command="docker compose exec scheduler evergreen",
        logs="`make logs`",
        token=token,
        environment={"EVERGREEN_AIRFLOW_USER": oncall.name, "EVERGREEN_AIRFLOW_PASSWORD": oncall.password},
    )


def _on_call(airflow: str, admin: Person) -> Person:
    """The user oncall, who may approve, retrain and roll back; with a new password where it is there already."""
    person = Person(ONCALL, secrets.token_urlsafe(12))
    with httpx.Client(base_url=airflow, timeout=30) as http:
        signed_in = http.post("/auth/token", json={"username": admin.name, "password": admin.password})
        http.headers["Authorization"] = f"Bearer {_checked(signed_in).json()['access_token']}"
        user = {
            "username": person.name,
            "password": person.password,
            "first_name": "On",
            "last_name": "Call",
            "email": "oncall@localhost",
            "roles": [{"name": role} for role in ROLES],
        }
        made = http.post("/auth/fab/v1/users", json=user)
        if made.status_code == httpx.codes.CONFLICT:
            made = http.patch(f"/auth/fab/v1/users/{ONCALL}", json=user)
        _checked(made)
    return person


def _checked(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise FoundProblem(
            f"Airflow, {answer.request.method} {answer.request.url.path}",
            found=f"{answer.status_code} {answer.text[:300]}",
            allowed="a success",
            do="Is admin's password in .env still the one that Airflow has? `make logs` has the API server's log.",
        )
    return answer


if __name__ == "__main__":
    sys.exit(main())
