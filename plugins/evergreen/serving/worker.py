"""One worker process: started by the serving supervisor, ends with it.

It reads local files alone: no ledger, no store, no library that belongs to them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from evergreen.serving import state as files
from evergreen.serving.callers import KnownCallers
from evergreen.serving.engine import Engine
from evergreen.serving.limits import Limits, LogLimits
from evergreen.serving.log.answer_log import NoLog
from evergreen.serving.log.prediction_log import PredictionLog
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.pulse import DRAIN, beat
from evergreen.serving.trials.running_trial import Asking
from evergreen.serving.trials.trial_table import Trials
from evergreen.serving.web.app import ServingApp
from evergreen.serving.web.http import ServingProtocol, look_after

_SWITCH = 0.0005  # seconds that a thread with a large batch may keep the event loop waiting for the interpreter
_GRACE = 3  # seconds for requests under way once the supervisor is gone
_log = logging.getLogger(__name__)


def main() -> None:
    """Load what the state file names, then answer on the inherited socket until told to stop."""
    options = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s worker {options.slot} %(levelname)s %(message)s")
    for descriptor in (options.socket, options.alive, options.pulse):
        os.set_inheritable(descriptor, False)
    sys.setswitchinterval(_SWITCH)
    callers = KnownCallers(options.folder / files.CALLERS) if options.tokens else None
    table = ModelTable(options.folder, options.slot, Metrics(), callers, options.model_memory)
    listening = socket.socket(fileno=options.socket)
    app = _app(table, options, on_loopback=ip_address(listening.getsockname()[0]).is_loopback)
    config = uvicorn.Config(
        app,
        http=ServingProtocol,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=8,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=_end_with_supervisor, args=(options.alive, server), daemon=True).start()
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(server, app, table, listening, options))


def _app(table: ModelTable, options: argparse.Namespace, *, on_loopback: bool) -> ServingApp:
    """The log, the engine that writes to it, the trials that ask it, and the application over all."""
    most = {"max_connections": options.max_connections, "model_memory": options.model_memory}
    limits = Limits(options.max_body, options.max_rows, options.max_queue, **most)
    kept = LogLimits(options.log_seconds, options.log_backlog)
    log = PredictionLog(options.folder, table.settings_of, table.metrics, kept) if options.log else NoLog()
    engine = Engine(table.metrics, log, limits)
    trials = Trials(options.folder, options.slot, Asking(engine, table.metrics, limits.max_rows))
    table.then.append(trials.apply)
    table.also.append(trials.reasons)
    return ServingApp(table, limits, log, trials, engine, on_loopback=on_loopback)


async def _serve(
    server: uvicorn.Server, app: ServingApp, table: ModelTable, listening: socket.socket, options: argparse.Namespace
) -> None:
    """Callers wait in the socket's queue until the models are loaded: none is refused at a restart."""
    asyncio.get_running_loop().add_signal_handler(DRAIN, table.drain)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {DRAIN})
    beating = asyncio.create_task(beat(options.pulse))
    await table.follow_once(options.share_metrics)
    gc.collect()
    gc.freeze()  # what is here now stays: a full collection, in the middle of answers, need not look at it
    following = asyncio.create_task(table.follow(options.share_metrics))
    looking = asyncio.create_task(look_after(server.server_state.connections))
    logging_ = asyncio.create_task(app.log.run())
    await server.serve(sockets=[listening])
    for task in (following, beating, looking, logging_):
        task.cancel()
    app.close()


def _end_with_supervisor(alive: int, server: uvicorn.Server) -> None:
    """Wait for the end of the pipe that only the supervisor can close, and stop then."""
    os.read(alive, 1)
    _log.warning("the serving supervisor is gone: ending")
    server.should_exit = True  # closes the listening socket at once, so that a new supervisor can bind it
    time.sleep(_GRACE)
    os._exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evergreen.serving.worker", description=__doc__)
    parser.add_argument("--slot", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--socket", required=True, type=int)
    parser.add_argument("--alive", required=True, type=int)
    parser.add_argument("--pulse", required=True, type=int)
    parser.add_argument("--tokens", action="store_true", help="answer callers with a valid token only")
    parser.add_argument("--max-body", required=True, type=int)
    parser.add_argument("--max-rows", required=True, type=int)
    parser.add_argument("--max-queue", required=True, type=int)
    parser.add_argument("--max-connections", required=True, type=int)
    parser.add_argument("--model-memory", required=True, type=int)
    parser.add_argument("--log", action="store_true", help="keep what is answered")
    parser.add_argument("--log-seconds", type=float, default=LogLimits.seconds)
    parser.add_argument("--log-backlog", type=int, default=LogLimits.backlog)
    parser.add_argument("--share-metrics", action="store_true")
    return parser


if __name__ == "__main__":
    main()
