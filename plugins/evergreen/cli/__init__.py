"""The command `evergreen`. Each command imports what it needs when it runs: `check` loads no heavy library."""

from __future__ import annotations

import sys

import typer

from evergreen.cli.abort import abort
from evergreen.cli.alerts import alerts
from evergreen.cli.approve import approve, reject
from evergreen.cli.backfill import backfill
from evergreen.cli.check import check, schema
from evergreen.cli.data_docs import data_docs
from evergreen.cli.forget import forget
from evergreen.cli.gc import gc
from evergreen.cli.ground_truth import ground_truth
from evergreen.cli.history import history
from evergreen.cli.hold import hold, release_hold
from evergreen.cli.metrics import metrics
from evergreen.cli.new import new
from evergreen.cli.open import open
from evergreen.cli.promote import promote
from evergreen.cli.replay import replay
from evergreen.cli.report import report
from evergreen.cli.retrain import retrain
from evergreen.cli.rollback import rollback
from evergreen.cli.score import score
from evergreen.cli.stack import demo, down, up
from evergreen.cli.status import status
from evergreen.cli.token import app as token
from evergreen.cli.trace import trace
from evergreen.cli.trigger import trigger
from evergreen.core.errors import EvergreenError

HELP = """Keeps models fresh: retrains, judges and serves what is declared in models/.

\b
A first time:
  evergreen check                  are all specs and suites right?
  evergreen up                     start Airflow, MLflow and serving here
  evergreen status                 which version answers, and what comes next
  evergreen retrain flight-delay   retrain now
  evergreen down                   stop everything

\b
Commands work from any folder of the project. EVERGREEN_PROJECT names another
project, EVERGREEN_HOME another place for its state (default: .evergreen).
"""

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
COMMANDS = (
    new, check, status, alerts, metrics, retrain, trigger, backfill, approve, reject, promote, abort, rollback, hold,
    release_hold, history, trace, score, ground_truth, replay, report, data_docs, forget, gc, up, open, down, demo,
    schema,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.add_typer(token, name="token")


def main(arguments: list[str] | None = None) -> None:
    """Run a command line (none: the shell's) and exit: 0 done, 1 a problem that was told, 2 a wrong command line."""
    try:
        app(args=arguments, prog_name="evergreen")
    except EvergreenError as error:
        typer.echo(f"evergreen: {error}", err=True)
        sys.exit(1)
