"""`make up`: builds, starts what does not run, waits, and says where everything is."""

from __future__ import annotations

import sys

from evergreen.composed import env_file
from evergreen.composed.docker_cli import (
    ALL,
    ENV,
    ROOT,
    Container,
    check_docker,
    check_here,
    containers,
    has_data,
    image_id,
    run,
    socket_group,
)
from evergreen.composed.env_file import Refused
from evergreen.composed.ledger import last_roll
from evergreen.composed.waiting import Say, Starting

SERVICES = (
    "postgres", "init", "api-server", "scheduler", "dag-processor", "triggerer", "mlflow", "docker-slots", "edge",
)  # fmt: skip
BLUE, GREEN, REHEARSAL = "serving-blue", "serving-green", "serving-rehearsal"
COLOURS, SLOTS = (BLUE, GREEN), (BLUE, GREEN, REHEARSAL)
IMAGES = ("init", "mlflow", BLUE)  # the services that build them
CONNECTIONS = ROOT / "connections.env"


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def up(say: Say = _print) -> None:
    """Start everything. Raises Refused with what is wrong and what to do."""
    check_docker()
    check_here(containers())
    values, first = _settings(say)
    say("Building the images (some minutes the first time, seconds after that) ...")
    run(*ALL, "build", "--quiet", *IMAGES)
    starting = Starting(say, containers())
    starting.compose_up(SERVICES)
    make_slots()
    _start_a_colour(say)
    live = live_colours()
    starting.wait((*SERVICES, *live))
    for colour in of_an_older_image(live):
        say(f"{colour} goes on with the image that it was made from. `make roll` takes the pool to the new one.")
    print(_where(values, first=first))


def _settings(say: Say) -> tuple[dict[str, str], bool]:
    """The values of `.env`, written now if this is the first time; whether it is."""
    if not ENV.exists() and has_data():
        raise Refused(
            f"{ENV}: found none, and volumes on this host hold the data of a stack whose secrets were in it. Put it "
            "back from the backup, or, to begin anew and lose that data: make down ARGS=--volumes"
        )
    first = env_file.ensure(ENV, {"DOCKER_GROUP": str(socket_group())})
    if first:
        say("Made .env, with secrets of its own.")
    env_file.check_private(CONNECTIONS)
    return env_file.check(ENV), first


def make_slots() -> None:
    """Make the slots that are missing, and those anew that stand still and are out of date; never one that runs."""
    found = containers()
    idle = [slot for slot in SLOTS if slot not in found or not is_left_alone(found[slot])]
    if idle:
        run(*ALL, "create", "--no-build", *idle, quiet=True)


def _start_a_colour(say: Say) -> None:
    """Where none runs: the one that the last roll left active, else blue."""
    if live_colours():
        return
    last = last_roll(containers())
    colour = last.active if last and last.active in COLOURS else BLUE
    say(f"No colour runs: starting {colour}")
    run("docker", "start", colour, quiet=True)


def is_left_alone(container: Container) -> bool:
    """Whether it is not to be touched: it runs, or is about to."""
    return container["State"]["Status"] in ("running", "restarting", "paused")


def live_colours() -> list[str]:
    """Those that run, or are about to."""
    found = containers()
    return [colour for colour in COLOURS if colour in found and is_left_alone(found[colour])]


def of_an_older_image(colours: list[str]) -> list[str]:
    """Those whose image is no longer the one that its name stands for."""
    found = containers()
    return [name for name in colours if found[name]["Image"] != image_id(found[name]["Config"]["Image"])]


def _where(values: dict[str, str], *, first: bool) -> str:
    pages, answers = ui_url(values), _address(values, "EVERGREEN_SERVING_PORT")
    password = values["EVERGREEN_ADMIN_PASSWORD"] if first else "EVERGREEN_ADMIN_PASSWORD in .env, unless changed since"
    lines = [
        "",
        f"Airflow   {pages}",
        f"          user admin, password {password}",
        f"Models    {pages}/evergreen/",
        f"Serving   {answers}",
        "",
        "A caller's token: docker compose exec scheduler evergreen token add <caller>",
        "Next: `make status`, `make logs`, `make demo-compose`. To stop: `make down`.",
    ]
    return "\n".join(lines)


def ui_url(values: dict[str, str]) -> str:
    """Where Airflow is found from this host."""
    return _address(values, "EVERGREEN_UI_PORT")


def _address(values: dict[str, str], port: str) -> str:
    host = values.get("EVERGREEN_BIND", env_file.SETTINGS["EVERGREEN_BIND"])
    return f"http://{'localhost' if host == '127.0.0.1' else host}:{values.get(port, env_file.SETTINGS[port])}"
