"""The files by which the serving supervisor and its workers talk, in `<home>/serving/<pool>/`.

    state.json           what to serve: written by the supervisor only, the last good state after any crash
    callers.json         who may ask, by the digest of a token; only where tokens are asked for
    status.json          how the supervisor fares with ledger, store and disk
    platform.json        what the ledger knows of the platform, for the metrics page
    workers/<slot>.json  what each worker answers with or refused
    recent-<slot>.json   what it had loaded last, for its next start
    bundles/<id>/        verified bundles
    log/<id>.seg         answers that are not in the store yet (serving.segments)
    shipping.json        how far the supervisor is with bringing them there
    url                  where this replica listens, for who started it with port 0

Each is replaced in one step: a reader sees the old or the new file, never a mix. On a full disk nothing can be
replaced; there a file of JSON is written over in its own place, if it has the room. All are the owner's alone (0600).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TypeVar

import msgspec

STATE, STATUS, WORKERS, BUNDLES, URL = "state.json", "status.json", "workers", "bundles", "url"
CALLERS, SHIPPING, PLATFORM = "callers.json", "shipping.json", "platform.json"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Released(msgspec.Struct, frozen=True):
    """One release of a model. `previous` is what to answer with if this one is refused."""

    version: int
    release_id: str
    bundle: str
    generation: int
    previous: Released | None = None


class Rules(msgspec.Struct, frozen=True):
    """What rolls a version on trial back; none: not looked at. See records.RolloutPlan."""

    min_requests: int
    error_rate: float | None = None
    latency_p99_ms: float | None = None
    prediction_psi: float | None = None


class Trial(msgspec.Struct, frozen=True):
    """A version on trial beside a model's champion, in one of its stages.

    `weight` is the percentage of callers that it answers. `tripped` is why a guard took it off: then it answers nobody.
    """

    release: Released
    stage: str
    weight: int
    rules: Rules
    tripped: str = ""


class Settings(msgspec.Struct, frozen=True):
    """See records.ServingSettings."""

    pinned: bool = False
    log_sample: float = 1.0
    not_logged: tuple[str, ...] = ()
    max_concurrent: int = 256


class PoolState(msgspec.Struct, frozen=True):
    """What the pool serves, by model. A higher revision is to be read anew, even if the releases are the same."""

    revision: int = 0
    models: dict[str, Released] = {}
    trials: dict[str, Trial] = {}
    settings: dict[str, Settings] = {}


class Callers(msgspec.Struct, frozen=True):
    """The name of each caller by the sha256 of a token that is valid now."""

    names: dict[str, str] = {}


class Reason(msgspec.Struct, frozen=True):
    """Something that ops should know. `blocks` readiness, or is only told; `refused`: no waiting will change it."""

    text: str
    model: str | None = None
    blocks: bool = False
    refused: bool = False


class Status(msgspec.Struct, frozen=True):
    """The supervisor's own view. `heard_at` is when the ledger last answered (Unix seconds, 0 for never).

    `restarts` counts workers that were started again, by why the one before ended (workers.Ending). `awaited` are
    released models whose bundle has not come from the store yet. `written_at` is when this was written (Unix seconds).
    """

    reasons: list[Reason] = []
    heard_at: float = 0
    restarts: dict[str, int] = {}
    awaited: list[str] = []
    written_at: float = 0


class Recent(msgspec.Struct, frozen=True):
    """The models that a worker had loaded, asked last first."""

    names: list[str] = []


class WorkerReport(msgspec.Struct, frozen=True):
    """What one worker answers with, and which releases it refused and why.

    `loaded` are the releases that answer when they are asked: each was loaded and has passed its golden rows, and may
    have been evicted since.
    """

    pid: int
    revision: int
    loaded: dict[str, Released]
    refused: dict[str, str]
    metrics: dict[str, list[str]] = {}


class Shipping(msgspec.Struct, frozen=True):
    """How far the log is shipped: the age (s) of the oldest rows that are not in the store, bytes that wait, rows sent.

    `reasons` block nothing. `written_at`: Unix seconds, 0 for never.
    """

    lag: float = 0
    backlog: int = 0
    rows: int = 0
    reasons: list[Reason] = []
    written_at: float = 0


class Platform(msgspec.Struct, frozen=True):
    """What the ledger knew of the platform at `read_at` (Unix seconds, 0 for never), as sample lines by family."""

    read_at: float = 0
    samples: dict[str, list[str]] = {}


File = PoolState | Callers | Status | Shipping | Platform | Recent | WorkerReport
_T = TypeVar("_T", PoolState, Callers, Status, Shipping, Platform, Recent, WorkerReport)


def read(path: Path, kind: type[_T]) -> _T | None:
    """The file's content, none if there is no such file. Raises ValueError if it cannot be read as this kind."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path.name}: found {error}; allowed: what this version of Evergreen writes") from error


def write(path: Path, value: File, *, durable: bool = False) -> None:
    """Replace the file in one step; `durable` also over a power cut.

    Where the disk is full, the file is written over in its place: a release that is here already can still be rolled
    back to, a token revoked, a reason told. Raises OSError where that is not possible either.
    """
    data = msgspec.json.encode(value)
    try:
        replace(path, data, durable=durable)
    except OSError as error:
        if error.errno not in _FULL or not _write_over(path, data):
            raise


def replace(path: Path, data: bytes, *, durable: bool) -> None:
    """Write bytes in one step: temporary file, rename. Raises OSError, and leaves nothing behind then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb", opener=_private) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is written; none if there is no such file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def _write_over(path: Path, data: bytes) -> bool:
    """Into the blocks that the file has, so that it needs no new one; whether it fitted.

    One write of mostly one page: a process that is killed does it whole or not at all. Spaces fill up what was longer.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return False
    try:
        found = os.fstat(descriptor)
        if len(data) > found.st_blocks * 512:
            return False
        os.pwrite(descriptor, data.ljust(found.st_size), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
