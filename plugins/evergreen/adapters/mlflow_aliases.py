"""The aliases of registered models, asked of MLflow's server over HTTP: for a process that lives for ever.

MLflow's own client would bring 280 MB of libraries into it, and wait for minutes for a server that is away.
"""

from __future__ import annotations

from typing import Any

import httpx

from evergreen.core.errors import ServiceFailed

TIMEOUT = 5.0  # seconds


class MlflowAliases:
    """See Aliases; `url` is the tracking server's. Raises ServiceFailed where it does not answer, or refuses."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/api/2.0/mlflow/registered-models"
        no_idle_sockets = httpx.Limits(max_keepalive_connections=0)  # so that there is nothing to close
        self._http = httpx.Client(timeout=TIMEOUT, limits=no_idle_sockets)

    def aliases(self, model: str) -> dict[str, int]:
        """See Aliases."""
        answer = self._send("GET", "get", params={"name": model})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return {}
        found = self._checked(answer).json()["registered_model"].get("aliases", [])
        return {one["alias"]: int(one["version"]) for one in found}

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """See Aliases."""
        self._checked(self._send("POST", "alias", json={"name": model, "alias": alias, "version": str(version)}))

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return self._http.request(method, f"{self._url}/{path}", **content)
        except httpx.HTTPError as error:
            raise ServiceFailed(f"MLflow at {self._url} does not answer ({type(error).__name__}: {error}).") from error

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if not answer.is_success:
            raise ServiceFailed(f"MLflow, {answer.request.url}: {answer.status_code} {answer.text[:300]}")
        return answer
