"""`evergreen trace`: where an answer, a version, a release or a snapshot came from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
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
from evergreen.core.lineage_inference import looks_like_one, of_inference

if TYPE_CHECKING:
    from rich.tree import Tree

    from evergreen.core.lineage import Node, PageOf


def trace(
    what: Annotated[
        str, typer.Argument(help="A model, an inference id, or 6+ characters of a release's or snapshot's.")
    ],
    version: Annotated[int | None, typer.Argument(help="Of the model; else its champion.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where an answer, a version or a snapshot came from.

    \b
    The chain, back from what answers: release, approval (or why nobody was
    asked), verdict with every gate, version with the hash of its bundle, run and
    trigger request, snapshot, suite, spec, code revision, image, libraries; also
    what was judged again or rolled back. Of a snapshot: the versions made of it.

    \b
    Of an inference id, which every answer has: the features and the prediction
    from the log, then the release that answered. A row is there some 10 s after
    its answer.

    \b
    Reads ledger and store, so that it answers while nothing runs too. What an
    earlier Evergreen did not keep is told as not recorded.

    \b
    Examples:
      evergreen trace flight-delay            what answers now
      evergreen trace flight-delay 4
      evergreen trace 3f09ab                  a release or snapshot, by its id
      evergreen trace 01a21db8-e81b-7392-8729-6a58a7ffd0c1     an answer
      evergreen trace flight-delay --json |
        jq -r '.. | objects | select(.kind == "snapshot") | .id'
    """
    settings = wiring.Settings.load()
    ledger = existing_ledger(settings)
    if version is None and looks_like_one(what):
        found = of_inference(ledger, wiring.predictions(settings), what, datetime.now(UTC), _pages(settings))
    else:
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
