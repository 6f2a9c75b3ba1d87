"""The serving supervisor: one replica of a pool. It owns the socket, the workers and all talk with ledger and store."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

from evergreen import wiring
from evergreen.core.ports import Ledger
from evergreen.core.records import Release
from evergreen.serving import state as files
from evergreen.serving.limits import Limits, LogLimits
from evergreen.serving.log.shipper import Shipper
from evergreen.serving.pulse import DRAIN
from evergreen.serving.replica.caller_list import CallerList
from evergreen.serving.replica.fixed import FixedLedger
from evergreen.serving.replica.follower import Follower, Pool
from evergreen.serving.replica.listening import bind, only_one
from evergreen.serving.replica.platform_gauges import PlatformGauges
from evergreen.serving.replica.stopping import Stop
from evergreen.serving.replica.workers import Workers

LAST_SHIPPING = 5.0  # seconds at the end for what workers logged last; what is left waits for the next start
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What one replica serves, where and to whom.

    `advertise` is the URL that its heartbeats tell, where callers reach it by another than its own. With `tokens`,
    callers need one. With `only`, that release is served, from a clean start, without the ledger and to everyone:
    a rehearsal's callers are the platform's own. `max_body` is in bytes, `model_memory` in MB. Told to end, it is not
    ready for `drain_seconds` and answers on, so that a load balancer sends callers elsewhere first.
    """

    pool: str
    host: str
    port: int
    workers: int
    max_body: int
    max_rows: int
    max_queue: int
    max_connections: int
    model_memory: int
    drain_seconds: float
    log_seconds: int
    log_backlog: int
    advertise: str | None = None
    tokens: bool = False
    only: Release | None = None
    end_with_stdin: bool = False


def serve(options: Options) -> None:
    """Run a replica until SIGTERM or SIGINT, or until standard input is closed; a second signal ends it at once.

    Raises ServiceFailed if another one has this pool's folder, or another program has the port.
    """
    settings = wiring.Settings.load()
    os.umask(0o077)
    folder = settings.home / "serving" / options.pool
    folder.mkdir(parents=True, exist_ok=True)
    stop, ended = Stop(), Event()
    stop.on_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, {DRAIN})  # as workers inherit it
    if options.end_with_stdin:
        stop.on_end_of_stdin()
    with only_one(folder), bind(options.host, options.port) as listening:
        if options.only:
            (folder / files.STATE).unlink(missing_ok=True)  # of another release, that was served here before
        port = listening.getsockname()[1]
        url = f"http://{options.host}:{port}"
        _write_url(folder, url)
        tokens = options.tokens and not options.only
        limits = _limits(options)
        log = None if options.only else LogLimits(options.log_seconds, options.log_backlog * 1_000_000)
        team = Workers(folder, listening, options.workers, limits, log, tokens=tokens)
        team.start()
        _log.info("pool %s answers %s on %s", options.pool, "callers with a token" if tokens else "everyone", url)
        follower = Follower(
            Pool(options.pool, _name(options.advertise, port), options.advertise or url, folder),
            _opener(settings, options.only),
            lambda: wiring.store(settings),
            team,
            CallerList(folder) if tokens else None,
        )
        Thread(target=follower.run, args=(ended,), daemon=True).start()
        shipper = Shipper(folder, lambda: wiring.store(settings), wiring.part_writer)
        shipping = Thread(target=shipper.run, args=(ended,), daemon=True)
        if log:
            shipping.start()
            platform = PlatformGauges(options.pool, folder, lambda: wiring.ledger(settings))
            Thread(target=platform.run, args=(ended,), daemon=True).start()
        while not stop.asked():
            _look_after(team)
        _drain(team, options.drain_seconds, stop)
        _log.info("stopping")
        ended.set()
        listening.close()  # the workers have it still: what has connected is answered, what comes now is refused
        team.stop(hurry=stop.asked_again)
        if log:
            shipping.join(LAST_SHIPPING)
            shipper.finish(LAST_SHIPPING)


def _look_after(team: Workers) -> None:
    team.restart_dead()
    time.sleep(0.05)


def _drain(team: Workers, seconds: float, stop: Stop) -> None:
    """Not ready any more, and still answering, until load balancers have seen it."""
    if not seconds:
        return
    _log.info("draining: not ready from now on, answering for %g s more", seconds)
    team.drain()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stop.asked_again():
        _look_after(team)


def _limits(options: Options) -> Limits:
    memory = options.model_memory * 1_000_000
    return Limits(
        options.max_body,
        options.max_rows,
        options.max_queue,
        max_connections=options.max_connections,
        model_memory=memory,
    )


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
