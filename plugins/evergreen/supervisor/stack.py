"""What runs, as `<home>/stack.json` tells it (mode 0600: it holds the passwords)."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from evergreen.supervisor.sessions import Session
from evergreen.wiring import Settings


@dataclass(frozen=True)
class Stack:
    """A running embedded shape. `pid` is the keeper's, 0 before it has started.

    `user` administers; `oncall` may start runs and answer approvals, and no more.
    """

    airflow_url: str
    mlflow_url: str
    serving_url: str
    user: str
    password: str
    pid: int
    oncall: str = "oncall"
    oncall_password: str = ""


KEEPER = "supervisor"


@dataclass(frozen=True)
class Record:
    """The whole of stack.json: the stack, each component's session, and how often it was started."""

    stack: Stack
    boot: float
    sessions: dict[str, Session] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)

    def with_session(self, name: str, session: Session) -> Record:
        """With a start of the component; its session before was ended. The keeper's gives the stack its pid."""
        stack = replace(self.stack, pid=session.sid) if name == KEEPER else self.stack
        starts = {**self.starts, name: self.starts.get(name, 0) + 1}
        return replace(self, sessions={**self.sessions, name: session}, starts=starts, stack=stack)


def path(home: Path) -> Path:
    """Where the record is."""
    return home / "stack.json"


def write(home: Path, record: Record) -> None:
    """Replace the record in one step."""
    draft = path(home).with_suffix(f".{os.getpid()}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(record), file, indent=1)
    draft.replace(path(home))


def read(home: Path) -> Record | None:
    """The record, none where nothing was started or the machine was booted since."""
    try:
        raw = json.loads(path(home).read_text())
    except FileNotFoundError:
        return None
    if raw["boot"] < psutil.boot_time() - 60:  # the kernel's figure wobbles by a second or so
        return None
    sessions = {name: Session(**session) for name, session in raw["sessions"].items()}
    return Record(Stack(**raw["stack"]), raw["boot"], sessions, raw["starts"])


def running(settings: Settings) -> Stack | None:
    """The stack of this home, if its keeper lives."""
    record = read(settings.home)
    keeper = record.sessions.get(KEEPER) if record else None
    return record.stack if record and keeper and keeper.leader_lives() else None
