"""What only one replica at a time may have: the folder of its pool, and the port."""

from __future__ import annotations

import fcntl
import socket
import time
from pathlib import Path
from typing import IO

from evergreen.core.errors import ServiceFailed

BIND_PATIENCE = 5.0  # seconds: the workers of a killed supervisor let go of the port well within this


def only_one(folder: Path) -> IO[bytes]:
    """Lock the folder for the life of this process. The lock dies with it, however it dies.

    Raises ServiceFailed if another supervisor has it.
    """
    lock = (folder / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ServiceFailed(
            f"{folder}: another serving supervisor runs here. Stop it, or choose another --pool or EVERGREEN_HOME."
        ) from None
    return lock


def bind(host: str, port: int) -> socket.socket:
    """The listening socket. Retries while the workers of a killed supervisor still hold the port.

    Not SO_REUSEPORT: two replicas would share a port by mistake, and callers would see two states. Raises ServiceFailed
    if another program has the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + BIND_PATIENCE
    while True:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(2048)
            return listening
        except OSError as error:
            listening.close()
            if time.monotonic() > deadline:
                raise ServiceFailed(
                    f"cannot listen on {host}:{port} ({error.strerror}); choose another --port"
                ) from error
            time.sleep(0.05)
