"""`make roll`: makes the colour that stands still from a new image; the DAG `roll_pool` then takes callers to it.

A container keeps the image that it was made from, and only the host may make containers: so the first half is done
here, and the rest, with its way back, by a run in Airflow that goes on whatever becomes of this program.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping
from types import MappingProxyType

from evergreen.composed import env_file
from evergreen.composed.airflow import Airflow
from evergreen.composed.docker_cli import ALL, ENV, check_docker, check_here, containers, revision, run
from evergreen.composed.env_file import Refused
from evergreen.composed.ledger import last_roll
from evergreen.composed.starting import BLUE, COLOURS, GREEN, REHEARSAL, is_left_alone, live_colours, ui_url
from evergreen.composed.waiting import Say

DAG = "roll_pool"
NO_STACK = "The stack in containers does not run. `make up` starts it."
EMBEDDED = (
    "The embedded shape (`evergreen up`) has one replica of serving and no roll: `evergreen down`, then `evergreen up`."
)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def roll(*, reason: str, build: bool, ready_within: int | None = None, say: Say = _print) -> int:
    """Roll the pool; the exit status. Raises Refused where nothing was begun."""
    try:
        check_docker()
    except Refused as none:
        raise Refused(f"{none}\n{EMBEDDED}") from None
    found = containers()
    check_here(found)
    if "scheduler" not in found or not ENV.exists():
        raise Refused(f"{NO_STACK}\n{EMBEDDED}")
    values = env_file.check(ENV)
    airflow = Airflow(ui_url(values), values)
    if not _finish(airflow, say):
        return 1
    idle = _idle()
    if build:
        say("Building the serving image ...")
        run(*ALL, "build", "--quiet", BLUE)
    say(f"Making {idle} from the image ...")
    run(*ALL, "create", "--no-build", "--force-recreate", idle, quiet=True)
    more = {} if ready_within is None else {"ready_within": ready_within}
    done = _run(airflow, reason or f"make roll, revision {revision()[:12]}", say, more)
    if done and not is_left_alone(containers()[REHEARSAL]):
        run(*ALL, "create", "--no-build", REHEARSAL, quiet=True)  # candidates are rehearsed in what will serve them
    return 0 if done else 1


def _finish(airflow: Airflow, say: Say) -> bool:
    """Go on with a roll that was broken off, if there is one; false where that failed."""
    last = last_roll(containers())
    if last is None or not last.under_way or len(live_colours()) < len(COLOURS):
        return True
    say("A roll was broken off, and both colours run: going on with it first ...")
    return _run(airflow, f"goes on with: {last.reason}", say)


def _idle() -> str:
    """The colour that stands still. Raises Refused where it is not clear which that is."""
    live = live_colours()
    if not live:
        raise Refused("No colour runs: `make up` starts one, from the new image.")
    if len(live) == len(COLOURS):
        last = last_roll(containers())
        idle = GREEN if last is None or last.active == BLUE else BLUE
        raise Refused(
            f"Both colours run, and no roll is under way. Stop the one that is not to answer: docker stop {idle}"
        )
    return GREEN if live == [BLUE] else BLUE


def _run(airflow: Airflow, reason: str, say: Say, more: Mapping[str, int] = MappingProxyType({})) -> bool:
    """A run of the DAG, followed to its end; whether it ended well."""
    run_id = airflow.start(DAG, {"reason": f"{reason} ({getpass.getuser()} on this host)", **more})
    say(f"Run {run_id} of the DAG {DAG}. It goes on if you leave:")
    done = airflow.follow(DAG, run_id, lambda sentence: say(f"  {sentence}"))
    last, live = last_roll(containers()), ", ".join(live_colours())
    print(f"Rolled: {live} answers." if done else f"Not rolled: {last.reason if last else 'see the run'}")
    return done
