"""`make status`: what runs, in a table of at most 80 columns, and what happened to the slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evergreen.composed.docker_cli import Container, containers, run, state
from evergreen.composed.ledger import LastRoll, ask, last_roll
from evergreen.composed.starting import COLOURS

HEAD = ("service", "state", "restarts", "memory / limit", "published at")
WIDTHS = (17, 14, 8, 15, 22)
WIDEST = 80
_QUERY = """
  SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), slot, what, replace(detail, E'\\n', ' ')
  FROM slot_event ORDER BY seq DESC LIMIT 5"""
_HEARD = "SELECT round(extract(epoch FROM now() - at)) FROM heartbeat WHERE name = 'reconciler'"
_LATE = 60  # seconds
_UNITS = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "kiB": 1024, "B": 1}


def status() -> str:
    """The table, which colour answers, and the slots' last events, or that nothing runs."""
    found = containers()
    if not found:
        return "No containers here: `make up` starts them."
    used = _memory([one["Id"] for one in found.values() if one["State"]["Running"]])
    lines = [*table(found, used), *pool(found, last_roll(found)), *reconciler(ask(found, _HEARD))]
    return "\n".join([*lines, *_events(ask(found, _QUERY))])


def table(found: Mapping[str, Container], used: Mapping[str, str]) -> list[str]:
    """The lines; `used` is the memory in use by the first twelve characters of a container's id."""
    rows = [_row(service, one, used.get(one["Id"][:12], "")) for service, one in sorted(found.items())]
    return [_line(HEAD), *(_line(row) for row in rows)]


def _row(service: str, one: Container, used: str) -> tuple[str, ...]:
    limit = one["HostConfig"]["Memory"]
    memory = f"{used or '-'} / {limit / 1e6:.0f} MB" if limit else used
    return service, _state(one), str(one["RestartCount"]), memory, _published(one)


def _state(one: Container) -> str:
    now = state(one)
    if one["State"]["OOMKilled"]:
        return "out of memory" if now == "exited" else f"{now}, oom"
    return f"exited ({one['State']['ExitCode']})" if now == "exited" else now


def _published(one: Container) -> str:
    ports = (one["NetworkSettings"].get("Ports") or {}).values()
    return " ".join(sorted({f"{at['HostIp']}:{at['HostPort']}" for bound in ports for at in bound or []}))


def _memory(ids: Sequence[str]) -> dict[str, str]:
    """MB in use, by the first twelve characters of the container's id."""
    if not ids:
        return {}
    lines = run("docker", "stats", "--no-stream", "--format", "{{.ID}} {{.MemUsage}}", *ids, quiet=True).splitlines()
    return {identity[:12]: megabytes(text) for identity, text in (line.split(" ", 1) for line in lines)}


def megabytes(usage: str) -> str:
    """MB (10^6 bytes) of what `docker stats` writes: `512.3MiB / 1GiB`. Another form is shown as it is."""
    amount = usage.split("/")[0].strip()
    for unit, size in _UNITS.items():
        number = amount.removesuffix(unit)
        if number != amount and number.replace(".", "", 1).isdigit():
            return f"{float(number) * size / 1e6:.0f}"
    return amount


def pool(found: Mapping[str, Container], last: LastRoll | None) -> list[str]:
    """Which colours run, from images of which revision, to which callers are sent, and how the last roll ended."""
    live = [colour for colour in COLOURS if colour in found and found[colour]["State"]["Running"]]
    lines = [
        f"Pool default: {colour} {_role(colour, live, last)}, revision {_revision(found[colour])}" for colour in live
    ]
    if last:
        lines.append(f"Last roll: {last.at} UTC {last.change}, by {last.by}: {last.reason}")
    return ["", *(_cut(line) for line in lines)] if lines else []


def _role(colour: str, live: Sequence[str], last: LastRoll | None) -> str:
    if len(live) == 1 or (last and last.active == colour):
        return "answers"
    return "runs beside it" if last else "answers too"


def _revision(one: Container) -> str:
    told = (one["Config"]["Labels"] or {}).get("org.opencontainers.image.revision") or "unknown"
    head, dirty = told.removesuffix("-dirty"), "-dirty" if told.endswith("-dirty") else ""
    return f"{head[:12]}{dirty}"


def reconciler(seconds: list[str] | None) -> list[str]:
    """That nothing was heard from the reconciler for so many seconds, where that is long."""
    if seconds is None or (seconds and int(seconds[0]) <= _LATE):
        return []
    since = f"for {int(seconds[0]) // 60} min" if seconds else "yet"
    return ["", f"Nothing heard from the reconciler {since}: see docs/runbook.md."]


def _events(lines: list[str] | None) -> list[str]:
    """What was noticed about the slots last."""
    return ["", "Slots, newest first (UTC):", *(event(line) for line in lines)] if lines else []


def event(line: str) -> str:
    """One line of psql's, cut to the width of the table."""
    return _cut("  ".join(line.split("\t")))


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _line(cells: tuple[str, ...]) -> str:
    return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()
