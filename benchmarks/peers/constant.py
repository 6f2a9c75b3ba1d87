"""The limit: Evergreen's HTTP class on the same server, answering a constant; with `asgi`, uvicorn's own HTTP class.

python constant.py PORT ANSWER [asgi]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import uvicorn

from evergreen.serving.limits import Limits
from evergreen.serving.web.app import Call, Reply, ServingApp
from evergreen.serving.web.http import ServingProtocol

HEADERS = [
    (b"content-type", b"application/json"), (b"x-request-id", b"0123456789abcdef0123456789abcdef"),
    (b"x-model-version", b"1"),
]  # fmt: skip


class Constant(ServingApp):
    """As much of the application as the protocol asks, without a model, a queue, a log or a counter."""

    def __init__(self, answer: bytes) -> None:
        self.limits = Limits()
        self._reply = Reply(200, HEADERS, answer)
        self._call = Call(None, "bench", {}, b"", "", 0.0)  # type: ignore[arg-type]

    def is_draining(self) -> bool:
        """Never."""
        return False

    def route(self, path: bytes) -> Any:
        """Each path is that of the model."""
        return None, "bench"

    def call(self, endpoint: Any, name: str, headers: Any) -> Call:
        """The same for all."""
        return self._call

    def refused_at_once(self, call: Call) -> Reply | None:
        """Nobody."""
        return None

    def start(self, call: Call, body: bytes, reply: Callable[[Reply], None]) -> None:
        """The answer, at once."""
        reply(self._reply)


def by_asgi(answer: bytes) -> Any:
    """The same bytes, from a plain ASGI application."""
    headers = [*HEADERS, (b"content-length", b"%d" % len(answer))]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return application


if __name__ == "__main__":
    answer, asgi = sys.argv[2].encode(), sys.argv[3:] == ["asgi"]
    config = uvicorn.Config(
        by_asgi(answer) if asgi else Constant(answer), http="httptools" if asgi else ServingProtocol,
        port=int(sys.argv[1]), ws="none", lifespan="off", access_log=False, log_config=None, server_header=False,
        proxy_headers=False,
    )  # fmt: skip
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(uvicorn.Server(config).serve())
