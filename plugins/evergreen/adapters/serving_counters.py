"""What serving replicas count, from the pages that Prometheus reads too."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import httpx

from evergreen.core.errors import ServingFailed
from evergreen.core.ports import Served
from evergreen.core.records import CHAMPION

TIMEOUT = 5.0  # seconds
ANSWERED, FAILED = "ok", "failed"
_LINE = re.compile(r"(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(?P<name>[a-z_]+)="(?P<value>(?:[^"\\]|\\.)*)"')
_ESCAPED = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


class _Key(NamedTuple):
    worker: str
    model: str
    version: int
    arm: str


class HttpServingCounters:
    """See ServingCounters. /metrics asks for no token."""

    def __init__(self) -> None:
        no_idle_sockets = httpx.Limits(max_keepalive_connections=0)  # so that there is nothing to close
        self._http = httpx.Client(timeout=TIMEOUT, limits=no_idle_sockets)

    def read(self, url: str) -> list[Served]:
        """Those of the replica at this URL. Raises ServingFailed where it does not answer."""
        try:
            answer = self._http.get(f"{url.rstrip('/')}/metrics").raise_for_status()
            return parsed(answer.text.splitlines())
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ServingFailed(f"{url}/metrics: {type(error).__name__}: {error}") from error


def parsed(lines: Iterable[str]) -> list[Served]:
    """The counters on a page. Raises ValueError for a page that serving did not write."""
    starts: dict[str, float] = {}
    requests, failed = defaultdict[_Key, float](float), defaultdict[_Key, float](float)
    reached: dict[_Key, list[float]] = defaultdict(list)
    for name, labels, value in _samples(lines):
        key = _key(labels)
        if name == "evergreen_worker_start_seconds":
            starts[key.worker] = value
        elif name == "evergreen_requests_total" and labels["outcome"] in (ANSWERED, FAILED):
            requests[key] += value
            failed[key] += value if labels["outcome"] == FAILED else 0
        elif name == "evergreen_challenger_failures_total":
            requests[key] += value
            failed[key] += value
        elif name == "evergreen_request_seconds_bucket":
            reached[key].append(value)
    return [
        Served(
            boot=f"{key.worker}@{starts.get(key.worker, 0.0)}",
            model=key.model,
            version=key.version,
            arm=key.arm,
            requests=requests[key],
            failed=failed[key],
            latency=tuple(b - a for a, b in zip([0.0, *reached[key]], reached[key], strict=False)),
        )
        for key in sorted({*requests, *reached})
    ]


def _samples(lines: Iterable[str]) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for line in lines:
        if line.startswith("evergreen_") and (match := _LINE.fullmatch(line)):
            labels = _LABEL.finditer(match["labels"] or "")
            yield match["name"], {one["name"]: _unescaped(one["value"]) for one in labels}, float(match["value"])


def _key(labels: Mapping[str, str]) -> _Key:
    version = labels.get("version", "")
    number = int(version) if version.isdigit() else 0  # a request that failed before its version was known
    return _Key(labels.get("worker", ""), labels.get("model", ""), number, labels.get("arm", CHAMPION))


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda found: _ESCAPED.get(found[0], found[0]), text)
