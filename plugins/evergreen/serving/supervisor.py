"""The serving supervisor: one replica of a pool. It owns the socket, the workers and all talk with ledger and store."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import IO
from urllib.parse import urlsplit

from evergreen import wiring
from evergreen.core.errors import ServiceFailed
from evergreen.core.ports import Ledger
from evergreen.core.records import Release
from evergreen.serving import state as files
from evergreen.serving.caller_list import CallerList
from evergreen.serving.fixed import FixedLedger
from evergreen.serving.follower import Follower, Pool
from evergreen.serving.workers import Workers

BIND_PATIENCE = 5.0  # seconds: the workers of a killed supervisor let go of the port well within this
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What one replica serves, where and to whom.

    `advertise` is the URL that its heartbeats tell, where callers reach it by another than its own. With `tokens`,
    callers need one. With `only`, that release is served, from a clean start, without the ledger and to everyone:
    a rehearsal's callers are the platform's own.
    """

    pool: str
    host: str
    port: int
    workers: int
    max_body: int
    advertise: str | None = None
    tokens: bool = False
    only: Release | None = None
    end_with_stdin: bool = False


def serve(options: Options) -> None:
    """Run a replica until SIGTERM or SIGINT, or until standard input is closed.

    Raises ServiceFailed if another one has this pool's folder, or another program has the port.
    """
    settings = wiring.Settings.load()
    os.umask(0o077)
    folder = settings.home / "serving" / options.pool
    folder.mkdir(parents=True, exist_ok=True)
    stop = _stop_on_signals()
    if options.end_with_stdin:
        Thread(target=_stop_on_end_of_stdin, args=(stop,), daemon=True).start()
    with _only_one(folder), _bind(options.host, options.port) as listening:
        if options.only:
            (folder / files.STATE).unlink(missing_ok=True)  # of another release, that was served here before
        port = listening.getsockname()[1]
        url = f"http://{options.host}:{port}"
        _write_url(folder, url)
        tokens = options.tokens and not options.only
        team = Workers(folder, listening, options.workers, options.max_body, tokens=tokens)
        team.start()
        _log.info("pool %s answers %s on %s", options.pool, "callers with a token" if tokens else "everyone", url)
        follower = Follower(
            Pool(options.pool, _name(options.advertise, port), options.advertise or url, folder),
            _opener(settings, options.only),
            lambda: wiring.store(settings),
            team.pids,
            CallerList(folder) if tokens else None,
            lambda: (team.restarts, team.hangs),
        )
        Thread(target=follower.run, args=(stop,), daemon=True).start()
        while not stop.wait(0.05):
            team.restart_dead()
        _log.info("stopping")
        team.stop()


def _opener(settings: wiring.Settings, only: Release | None) -> Callable[[], Ledger | FixedLedger]:
    return (lambda: FixedLedger(only)) if only else (lambda: wiring.ledger(settings))


def _name(advertise: str | None, port: int) -> str:
    """The replica's name in the ledger: that of its address, which a container keeps when it is made anew."""
    return urlsplit(advertise).netloc if advertise else f"{socket.gethostname()}:{port}"


def _write_url(folder: Path, url: str) -> None:
    """For who started this with port 0. A full disk must not keep a replica down that can answer."""
    try:
        files.replace(folder / files.URL, url.encode(), durable=False)
    except OSError as error:
        _log.warning("%s cannot be written (%s); going on", folder / files.URL, error.strerror)


def _stop_on_signals() -> Event:
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _stop_on_end_of_stdin(stop: Event) -> None:
    """The pipe's other end is closed by whoever started us, or by the kernel when that process is gone."""
    while os.read(0, 4096):
        pass
    stop.set()


def _only_one(folder: Path) -> IO[bytes]:
    """Lock the folder for the life of this process. The lock dies with it, however it dies."""
    lock = (folder / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ServiceFailed(
            f"{folder}: another serving supervisor runs here. Stop it, or choose another --pool or EVERGREEN_HOME."
        ) from None
    return lock


def _bind(host: str, port: int) -> socket.socket:
    """The listening socket. Retries while the workers of a killed supervisor still hold the port.

    Not SO_REUSEPORT: two replicas would share a port by mistake, and callers would see two states.
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
