"""A caller of the model that never stops asking while the demo changes versions under it."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx

PAUSE = 0.05  # seconds between two requests
TIMEOUT = 5.0  # seconds until a request has failed


class Caller:
    """Asks `POST /models/<name>/predict` in a thread; counts answers by version, and failures.

    Requests before the first answer do not count: nothing was released yet. `newest` is the version of the last
    answer, none before the first; `first` has the inference id of each version's first answer. `token` is sent where
    serving asks for one.
    """

    def __init__(self, url: str, record: dict[str, Any], token: str = "") -> None:
        self.url, self.record = url, record
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.answers: dict[int, int] = {}
        self.first: dict[int, str] = {}
        self.newest: int | None = None
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def wait_for(self, version: int, seconds: float) -> bool:
        """Whether this version answers within so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.newest == version:
                return True
            time.sleep(PAUSE / 2)
        return False

    def _run(self) -> None:
        with httpx.Client(timeout=TIMEOUT, headers=self._headers) as client:
            while not self._stop.wait(PAUSE):
                self._ask(client)

    def _ask(self, client: httpx.Client) -> None:
        try:
            answer = client.post(self.url, json={"records": [self.record]})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            if self.answers:
                self.failures.append(str(error))
            return
        told = answer.json()
        version = int(told["version"])
        self.first.setdefault(version, told["inference_ids"][0])
        self.answers[version] = self.answers.get(version, 0) + 1
        self.newest = version
