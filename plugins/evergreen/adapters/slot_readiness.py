"""When a throwaway serving process is ready, or why it never will be: what it says over HTTP."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from evergreen.core.errors import RehearsalFailed

POLL, PATIENCE = 0.05, 5.0  # seconds: between two looks, for one answer


def wait_until_ready(
    url: Callable[[], str | None], model: str, version: int, *, timeout: float, check: Callable[[], None]
) -> str:
    """The URL of a process that is ready and answers with this version; `timeout` is in seconds.

    `url` is none while it is not known. `check` is called all along, and raises RehearsalFailed where the process
    has ended. Raises RehearsalFailed, with what serving said, where it refused the bundle or time is up.
    """
    deadline, said = time.monotonic() + timeout, "it does not listen yet"
    while time.monotonic() < deadline:
        check()
        if found := url():
            said = _not_ready(found, model, version)
            if not said:
                return found
        time.sleep(POLL)
    check()
    raise RehearsalFailed(f"{model} version {version} was not ready within {timeout:g} s: {said}")


def _not_ready(url: str, model: str, version: int) -> str:
    """What is missing, empty if nothing is. Raises RehearsalFailed for what no waiting will change."""
    try:
        server_status, server = _get(url, "/v2/health/ready")
        status, told = _get(url, f"/v2/models/{quote(model, safe='')}/ready")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    reasons = " ".join(server.get("reasons", []))
    if told.get("refused"):
        raise RehearsalFailed(reasons or f"{model} version {version} is refused")
    if status == server_status == http.client.OK:
        return "" if told["version"] == str(version) else f"version {told['version']} answers"
    return reasons or str(told.get("error", told))


def _get(url: str, path: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
