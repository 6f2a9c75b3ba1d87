"""One worker process: started by the serving supervisor, ends with it.

It reads local files alone: no ledger, no store, no library that belongs to them.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import threading
import time
from pathlib import Path

# XGBoost imports these where they are installed, and serving uses neither: 0.3 s and 80 MB instead of 1.5 s
# and 206 MB, which is most of the time from a worker's death to its next answer.
for _name in ("pandas", "sklearn"):
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]

import uvicorn  # noqa: E402

from evergreen.serving import state as files  # noqa: E402
from evergreen.serving.app import ServingApp  # noqa: E402
from evergreen.serving.callers import KnownCallers  # noqa: E402
from evergreen.serving.metrics import Metrics  # noqa: E402
from evergreen.serving.model_table import ModelTable  # noqa: E402
from evergreen.serving.pulse import beat  # noqa: E402

_GRACE = 3  # seconds for requests under way once the supervisor is gone
_log = logging.getLogger(__name__)


def main() -> None:
    """Load what the state file names, then answer on the inherited socket until told to stop."""
    options = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s worker {options.slot} %(levelname)s %(message)s")
    for descriptor in (options.socket, options.alive, options.pulse):
        os.set_inheritable(descriptor, False)
    callers = KnownCallers(options.folder / files.CALLERS) if options.tokens else None
    table = ModelTable(options.folder, options.slot, Metrics(), callers)
    config = uvicorn.Config(
        ServingApp(table, options.max_body).starlette(),
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=8,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=_end_with_supervisor, args=(options.alive, server), daemon=True).start()
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(server, table, socket.socket(fileno=options.socket), options))


async def _serve(
    server: uvicorn.Server, table: ModelTable, listening: socket.socket, options: argparse.Namespace
) -> None:
    """Callers wait in the socket's queue until the models are loaded: none is refused at a restart."""
    beating = asyncio.create_task(beat(options.pulse))
    await table.follow_once(options.share_metrics)
    following = asyncio.create_task(table.follow(options.share_metrics))
    await server.serve(sockets=[listening])
    following.cancel()
    beating.cancel()


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
    parser.add_argument("--share-metrics", action="store_true")
    return parser


if __name__ == "__main__":
    main()
