"""Tells a service that is away for the moment from an error that comes again: the first is worth waiting for."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

from evergreen.core.errors import EvergreenError

# Of Postgres (SQLSTATE, or its class): connection exceptions, no resources, shut down, starting up.
_AWAY = ("08", "53", "57P")
_REQUESTS = ("ConnectionError", "Timeout", "ChunkedEncodingError")  # requests.exceptions, not derived from Python's


class Outage(EvergreenError):
    """Raised when a service that a step needs does not answer; worth several retries."""

    retryable = True


def as_outage(error: Exception) -> Outage | None:
    """The error as an Outage, if it or what led to it is a lost or refused connection; else none."""
    for one in _chain(error):
        if isinstance(one, ConnectionError | TimeoutError) or _database_is_away(one) or _server_is_away(one):
            return Outage(
                f"A service does not answer: {_first_line(error)}. This is tried again by itself for some minutes. "
                "If it stays so, see which component is down (`make status`, or `evergreen up` in the embedded shape)."
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        yield at
        at = at.__cause__ or at.__context__


def _database_is_away(error: BaseException) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    code = getattr(error.orig, "pgcode", "none of Postgres")  # its driver has none where there was no answer
    return type(error).__name__ == "OperationalError" and (code is None or str(code).startswith(_AWAY))


def _server_is_away(error: BaseException) -> bool:
    """A client of `requests` that found nobody (MLflow's), or an HTTP answer of 500 and above to MLflow."""
    kinds = {(kind.__module__, kind.__name__) for kind in type(error).__mro__}
    if any(("requests.exceptions", name) in kinds for name in _REQUESTS):
        return True
    if ("mlflow.exceptions", "RestException") not in kinds:
        return False
    status = error.get_http_status_code()  # type: ignore[attr-defined]
    return bool(status >= 500)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300] if str(error).strip() else 'no text'}"
