"""`python -m evergreen.composed VERB`: the stack in containers. `make up` and its like call it."""

from __future__ import annotations

import argparse
import sys

from evergreen.composed.docker_cli import ALL, attached, check_docker, check_here, containers, has_data, run
from evergreen.composed.env_file import Refused
from evergreen.composed.rolling import roll
from evergreen.composed.showing import status
from evergreen.composed.starting import up

_UP = """\
Builds the images, starts what does not run, and waits until all of it is
healthy. The first time it writes .env (mode 0600) with secrets of its own
making, and prints the first admin's password; a secret that is missing or weak
is refused by its name. Run it as often as you like: what is as it should be is
left alone, and a serving slot that runs is never recreated, restarted or
stopped.
"""
_EXAMPLES = """\
examples:
  make up                                start, or bring up to date
  EVERGREEN_UI_PORT=9080 make up         the first time: another port
"""
_ROLL = """\
Builds the serving image, makes the colour that stands still from it, and starts
a run of the DAG `roll_pool`, which starts that colour, asks it every release's
golden rows, sends callers to it, and drains and stops the other one. No request
is lost. What goes wrong is undone by itself: the colour before answers, and the
exit status is 1. The run goes on if you leave; what was broken off is gone on
with the next time.
"""
_ROLLS = """\
examples:
  make roll                              to the image of this checkout
  make roll ARGS='--reason "new libraries"'
  make roll ARGS=--no-build              to the image of EVERGREEN_TAG as it is
"""
_LOGS = """\
examples:
  make logs                              follow all services
  make logs ARGS="scheduler --tail 50"   the last lines of one
  make logs ARGS="serving-blue --since 10m"
"""


def main() -> int:
    """Parse and do; tell what was refused in plain words."""
    options = _parser().parse_args()
    try:
        return int(options.do(options) or 0)
    except Refused as error:
        print(f"evergreen: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make", description="The stack in containers on this host.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    raw = argparse.RawDescriptionHelpFormatter
    one = verbs.add_parser("up", help="build, start, wait", description=_UP, epilog=_EXAMPLES, formatter_class=raw)
    one.set_defaults(do=lambda options: up())
    one = verbs.add_parser(
        "roll", help="take serving to a new image", description=_ROLL, epilog=_ROLLS, formatter_class=raw
    )
    one.add_argument("--reason", default="", help="why, for the history; default: the revision")
    one.add_argument("--no-build", action="store_true", help="take the image as it is")
    one.add_argument("--ready-within", type=int, metavar="S", help="seconds for the new colour to get ready (120)")
    one.set_defaults(
        do=lambda options: roll(reason=options.reason, build=not options.no_build, ready_within=options.ready_within)
    )
    one = verbs.add_parser("down", help="stop and remove the containers; data stays")
    one.add_argument("--volumes", action="store_true", help="remove all data too: models, history, accounts")
    one.set_defaults(do=lambda options: _down(volumes=options.volumes))
    one = verbs.add_parser(
        "status", help="health, restarts, memory, addresses, the colour that answers, and what happened to the slots"
    )
    one.set_defaults(do=lambda options: _status())
    one = verbs.add_parser("logs", help="all services' logs, or some", epilog=_LOGS, formatter_class=raw)
    one.add_argument("more", nargs=argparse.REMAINDER, help="services and options of `docker compose logs`")
    one.set_defaults(do=lambda options: _logs(options.more))
    one = verbs.add_parser("demo", help="play the demo's story against the running stack")
    one.add_argument("more", nargs=argparse.REMAINDER, help="--ask: you approve")
    one.set_defaults(do=lambda options: _demo(options.more))
    return parser


def _down(*, volumes: bool) -> None:
    try:
        check_docker()
        found = containers()
        check_here(found)
    except Refused as none:
        print(f"No containers of this checkout run. ({str(none).splitlines()[0]})")
        return
    if not found and not (volumes and has_data()):
        print("No containers here.")
        return
    run(*ALL, "down", "--remove-orphans", *(["--volumes"] if volumes else []))
    print("Stopped. All data is removed." if volumes else "Stopped. Data stays; `make up` starts it again.")
    if volumes:
        print(".env stays: the next stack has the same secrets. To have new ones, remove it.")


def _status() -> None:
    check_docker()
    print(status())


def _logs(more: list[str]) -> int:
    check_docker()
    return attached("logs", *(more or ["--follow", "--tail", "20"]))


def _demo(more: list[str]) -> int:
    check_docker()
    if "scheduler" not in containers():
        raise Refused("The stack does not run. `make up` starts it.")
    return attached("run", "--rm", "--no-deps", "demo", "python", "-m", "evergreen.demo.composed", *more)


if __name__ == "__main__":
    sys.exit(main())
