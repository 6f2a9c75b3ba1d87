"""Serving, asked over HTTP as callers ask it.

On the standard library's client: what the client itself takes is in every latency that is measured here, and httpx
takes a millisecond more for each request, which is as much as serving needs to answer it.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from evergreen.core.errors import ServingFailed
from evergreen.core.ports import Answer

TIMEOUT = 30.0  # seconds
READY = "/v2/health/ready"
_Read = TypeVar("_Read")
_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class HttpServingClient:
    """Makes connections. `timeout` is in seconds, of each request; `token` is sent where there is one."""

    def __init__(self, timeout: float = TIMEOUT, token: str = "") -> None:
        self._timeout = timeout
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    @contextmanager
    def connect(self, url: str) -> Iterator[HttpServingConnection]:
        """One keep-alive connection to the serving process at this URL, opened by its first request."""
        address = urlsplit(url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.netloc, timeout=self._timeout)
        try:
            yield HttpServingConnection(connection, address.path.rstrip("/"), self._headers)
        finally:
            connection.close()

    def readiness(self, url: str) -> str:
        """What keeps the serving process at this URL from being ready, in its own words; empty where it is."""
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=self._timeout)
        try:
            connection.request("GET", READY)
            response = connection.getresponse()
            text = response.read()
            if response.status == http.client.OK:
                return ""
            return " ".join(json.loads(text)["reasons"]) or f"GET {READY} was answered with {response.status}"
        except (OSError, http.client.HTTPException) as error:
            return f"{url} does not answer: {error or type(error).__name__}"
        except (ValueError, KeyError, TypeError):
            return f"GET {READY} was answered with {response.status}: {text.decode(errors='replace')[:300]}"
        finally:
            connection.close()


class HttpServingConnection:
    """A connection to one serving process; its paths are below `root`, `headers` go with every request."""

    def __init__(
        self, connection: http.client.HTTPConnection, root: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self._connection, self._root = connection, root
        self._headers = {"content-type": "application/json", **(headers or {})}

    def predict(self, model: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
        """POST the rows to the plain records endpoint. Raises ServingFailed when it refuses or does not answer.

        `milliseconds` are from sending the request to having read the answer.
        """
        return self._ask(
            model, "predict", rows, http.client.OK, lambda found, ms: Answer(found["version"], found["predictions"], ms)
        )

    def tell(self, model: str, records: Sequence[Mapping[str, Any]]) -> int:
        """POST ground truth (inference_id, label, at); how many records were kept. Raises ServingFailed as predict."""
        return self._ask(model, "ground-truth", records, http.client.ACCEPTED, lambda found, ms: int(found["accepted"]))

    def _ask(
        self,
        model: str,
        what: str,
        records: Sequence[Mapping[str, Any]],
        good: int,
        read: Callable[[Any, float], _Read],
    ) -> _Read:
        """POST records; what `read` makes of the answer and its milliseconds where its status is the good one."""
        path = f"{self._root}/models/{quote(model, safe='')}/{what}"
        body = json.dumps({"records": list(records)}, allow_nan=False).encode()
        try:
            begun = time.perf_counter()
            status, text = self._post(path, body)
            milliseconds = (time.perf_counter() - begun) * 1000
        except (OSError, http.client.HTTPException) as error:
            at = f"{self._connection.host}:{self._connection.port}"
            raise ServingFailed(f"POST {path} at {at} did not answer: {error or type(error).__name__}") from error
        try:
            found = json.loads(text)
            if status == good:
                return read(found, milliseconds)
            said = _message(found["error"])
        except (ValueError, KeyError, TypeError):
            said = text.decode(errors="replace")[:300]
        raise ServingFailed(f"POST {path} was answered with {status}: {said}")

    def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Once more on a new connection, where serving has closed one that was idle."""
        reused = self._connection.sock is not None
        try:
            return self._send(path, body)
        except _STALE:
            self._connection.close()
            if not reused:
                raise
            return self._send(path, body)
        except BaseException:
            self._connection.close()  # an answer that still comes must not be read as that of the next request
            raise

    def _send(self, path: str, body: bytes) -> tuple[int, bytes]:
        self._connection.request("POST", path, body, self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()


def _message(error: Any) -> str:
    return str(error["message"] if isinstance(error, dict) else error)
