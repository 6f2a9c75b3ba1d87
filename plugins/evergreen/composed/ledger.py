"""The control ledger, asked in its database's container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evergreen.composed.docker_cli import Container, run
from evergreen.composed.env_file import Refused

_LAST_ROLL = """
  SELECT active, change, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), "by",
         regexp_replace(reason, E'[\\t\\n]', ' ', 'g')
  FROM pool_event WHERE pool = 'default' ORDER BY seq DESC LIMIT 1"""


@dataclass(frozen=True)
class LastRoll:
    """The newest step of a roll: the colour that callers are sent to, and what happened when, by whom and why."""

    active: str
    change: str
    at: str
    by: str
    reason: str

    @property
    def under_way(self) -> bool:
        """Whether it has not come to its end."""
        return self.change in ("started", "switched")


def ask(found: Mapping[str, Container], query: str) -> list[str] | None:
    """The lines that the ledger answers, columns apart by a tab; none where it cannot be asked."""
    postgres = found.get("postgres")
    if postgres is None or not postgres["State"]["Running"]:
        return None
    words = ("docker", "exec", postgres["Id"], "psql", "-U", "postgres", "-d", "evergreen", "-AtF", "\t", "-c", query)
    try:
        return run(*words, quiet=True).splitlines()
    except Refused:  # no ledger yet, or the database is starting
        return None


def last_roll(found: Mapping[str, Container]) -> LastRoll | None:
    """None where the pool was never rolled, or the ledger cannot be asked."""
    lines = ask(found, _LAST_ROLL)
    return LastRoll(*lines[0].split("\t")) if lines else None
