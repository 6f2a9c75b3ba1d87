"""What commands of an incident share: the ledger that is there, who asks, and models that may have lost their spec."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evergreen import wiring
from evergreen.cli.screen import find_model
from evergreen.core.catalog import load_catalog
from evergreen.core.errors import ServiceFailed

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

Reason = Annotated[str, typer.Option("--reason", help="Why, in a sentence. Kept in the ledger, shown to others.")]


def existing_ledger(settings: wiring.Settings) -> Ledger:
    """The control ledger. Raises ServiceFailed where a SQLite ledger was never made: nothing was released yet."""
    file = settings.ledger_url.removeprefix("sqlite:///")
    if file != settings.ledger_url and not Path(file).exists():
        raise ServiceFailed("There is no ledger here yet: nothing was released. `evergreen up` starts Evergreen.")
    return wiring.ledger(settings)


def known_model(settings: wiring.Settings, ledger: Ledger, name: str) -> str:
    """The name of a model that was released or has a valid spec. Raises UnknownModel, with a near name.

    A released model is known whatever its spec looks like now: a rollback must not wait for the repair of a file.
    """
    if ledger.releases.champion(name).release_id is None:
        find_model(load_catalog(settings.root), name)
    return name


def whoever_asks() -> str:
    """The name of the person at this machine."""
    return getpass.getuser()
