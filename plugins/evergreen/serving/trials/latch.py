"""Latches: `<pool>/latches/<release id>` says that this replica's guard took the release off trial, and why.

Made once and never changed: the first to come writes it whole, everyone else finds it. It outlives every process, and
goes when its release is no longer on trial.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import msgspec

from evergreen.core.records import TripKind
from evergreen.serving.state import replace, sync_folder

LATCHES = "latches"
_log = logging.getLogger(__name__)


class Latched(msgspec.Struct, frozen=True):
    """Why a release is off trial here, and since when (Unix seconds)."""

    kind: TripKind
    reason: str
    at: float


def latch(folder: Path, release_id: str, kind: TripKind, reason: str) -> Latched:
    """Take the release off trial in this replica; what its latch says, which may be another's.

    Where the disk does not take it, the flag in the guard's mapped file is all that holds the release off.
    """
    own = Latched(kind, reason, time.time())
    path = folder / LATCHES / release_id
    temporary = path.with_name(f".{release_id}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(temporary, msgspec.json.encode(own), durable=True)
        try:
            os.link(temporary, path)  # with its content, and only if it is not there
        finally:
            temporary.unlink()
        sync_folder(path.parent)
    except FileExistsError:
        return latched(folder, release_id) or own
    except OSError as error:
        _log.error("the latch of release %s cannot be kept: %s", release_id, error.strerror)
    return own


def latched(folder: Path, release_id: str) -> Latched | None:
    """What the release's latch says; none if there is none."""
    try:
        return msgspec.json.decode((folder / LATCHES / release_id).read_bytes(), type=Latched)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return Latched(TripKind.FAULTS, "its latch cannot be read", 0)  # it is there: that is what counts


def unlatch(folder: Path, keep: set[str]) -> None:
    """Remove the latches of all other releases."""
    for path in (folder / LATCHES).glob("*"):
        if path.name.lstrip(".").partition(".")[0] not in keep:  # with what a kill between the two steps has left
            path.unlink(missing_ok=True)
