"""`evergreen trace`: where a version, a release or a snapshot came from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger
from evergreen.cli.screen import AsJson, console, print_json
from evergreen.core.addresses import Addresses
from evergreen.core.catalog import load_catalog
from evergreen.core.lineage import nowhere
from evergreen.core.lineage_find import models_known
from evergreen.core.lineage_find import trace as find

if TYPE_CHECKING:
    from rich.tree import Tree

    from evergreen.core.lineage import Node, PageOf


def trace(
    what: Annotated[str, typer.Argument(help="A model, or the id of a release or snapshot (6+ characters).")],
    version: Annotated[int | None, typer.Argument(help="Of the model; else its champion.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where a version, a release or a snapshot came from.

    \b
    The chain, back from what answers: release, approval (or why nobody was
    asked), verdict with every gate, version with the hash of its bundle, run and
    trigger request, snapshot, suite, spec, code revision, image, libraries; also
    what was judged again or rolled back. Of a snapshot: the versions made of it.

    \b
    Reads the ledger, so that it answers while nothing runs too. What an earlier
    Evergreen did not keep is told as not recorded. Inference ids cannot be traced
    yet: an answer names its version, and that can.

    \b
    Examples:
      evergreen trace flight-delay            what answers now
      evergreen trace flight-delay 4
      evergreen trace 3f09ab                  a release or snapshot, by its id
      evergreen trace flight-delay --json |
        jq -r '.. | objects | select(.kind == "snapshot") | .id'
    """
    settings = wiring.Settings.load()
    ledger = existing_ledger(settings)
    models = models_known(ledger, load_catalog(settings.root).specs)
    found = find(ledger, models, what, version, _pages(settings))
    if as_json:
        print_json(found.as_dict())
    else:
        console().print(_tree(found))
        for line in dict.fromkeys(_links(found)):
            typer.echo(f"Run that {line}")


def _pages(settings: wiring.Settings) -> PageOf:
    """Where a run's page is: in the compose shape, or in the stack that runs here."""
    from evergreen import supervisor

    stack = supervisor.running(settings)
    airflow = os.environ.get("AIRFLOW__API__BASE_URL") or (stack.airflow_url if stack else "")
    return Addresses.under(airflow).run if airflow else nowhere


def _tree(node: Node) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(node.says), guide_style="dim")
    for one in node.below:
        tree.add(_tree(one))
    return tree


def _links(node: Node) -> Iterator[str]:
    """The pages of all runs in the tree; they are no part of it, so that none is broken over two lines."""
    if url := node.facts.get("url"):
        yield f"{node.facts['what']}: {url}"
    for one in node.below:
        yield from _links(one)
