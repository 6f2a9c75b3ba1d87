"""The files by which the serving supervisor and its workers talk, in `<home>/serving/<pool>/`.

    state.json           what to serve: written by the supervisor only, the last good state after any crash
    status.json          how the supervisor fares with ledger and store
    workers/<slot>.json  what each worker has loaded or refused
    bundles/<id>/        verified bundles
    url                  where this replica listens, for who started it with port 0

Each is replaced in one step: a reader sees the old or the new file, never a mix.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

STATE, STATUS, WORKERS, BUNDLES, URL = "state.json", "status.json", "workers", "bundles", "url"


class Released(msgspec.Struct, frozen=True):
    """One release of a model. `previous` is what to answer with if this one is refused."""

    version: int
    release_id: str
    bundle: str
    generation: int
    previous: Released | None = None


class PoolState(msgspec.Struct, frozen=True):
    """What the pool serves, by model. A higher revision is to be read anew, even if the releases are the same."""

    revision: int = 0
    models: dict[str, Released] = {}


class Reason(msgspec.Struct, frozen=True):
    """Something that ops should know. `blocks` readiness, or is only told; `refused`: no waiting will change it."""

    text: str
    model: str | None = None
    blocks: bool = False
    refused: bool = False


class Status(msgspec.Struct, frozen=True):
    """The supervisor's own view. `heard_at` is when the ledger last answered (Unix seconds, 0 for never)."""

    reasons: list[Reason] = []
    heard_at: float = 0
    restarts: int = 0


class WorkerReport(msgspec.Struct, frozen=True):
    """What one worker answers with, and which releases it refused and why."""

    pid: int
    revision: int
    loaded: dict[str, Released]
    refused: dict[str, str]
    metrics: dict[str, list[str]] = {}


_T = TypeVar("_T", PoolState, Status, WorkerReport)


def read(path: Path, kind: type[_T]) -> _T | None:
    """The file's content, none if there is no such file. Raises ValueError if it cannot be read as this kind."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path.name}: found {error}; allowed: what this version of Evergreen writes") from error


def write(path: Path, value: PoolState | Status | WorkerReport, *, durable: bool = False) -> None:
    """Replace the file in one step; `durable` also over a power cut."""
    replace(path, msgspec.json.encode(value), durable=durable)


def replace(path: Path, data: bytes, *, durable: bool) -> None:
    """Write bytes in one step: temporary file, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
