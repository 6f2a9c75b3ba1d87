"""Load on a server that runs: wrk for the closed loop, open_loop.py for a constant rate, each a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contenders import Server

HERE = Path(__file__).resolve().parent
MANY = 64  # connections of the closed loop
_OPEN, _TOO_MANY = 200, 1_000  # those that an open loop may have, at half and above the capacity
_LUA = 'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\nwrk.body = [==[%s]==]\n'
_PROBE, _IN_TIME = 3.0, 5.0  # seconds of a rate that is tried; milliseconds
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


@dataclass(frozen=True)
class Load:
    """What wrk saw: requests a second, milliseconds."""

    rate: float
    p50: float
    p99: float


def wrk(server: Server, connections: int, seconds: int) -> Load:
    """Load with that many connections. Raises SystemExit where an answer is not 2xx, or a connection fails."""
    script = server.place.folder / "ask.lua"
    script.write_text(_LUA % server.body.decode())
    url = f"http://127.0.0.1:{server.port}{server.contender.path}"
    line = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "--latency", "-s", str(script), url]
    told = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise SystemExit(f"{server.contender.name} failed under load:\n{told}")
    return Load(float(re.findall(r"Requests/sec: *([\d.]+)", told)[0]), _ms(told, "50%"), _ms(told, "99%"))


def _ms(told: str, part: str) -> float:
    found = re.search(rf"^ *{part} +([\d.]+)(us|ms|s|m) *$", told, re.MULTILINE)
    if found is None:
        raise SystemExit(f"no request was answered; give it more --seconds:\n{told}")
    return float(found[1]) * _UNITS[found[2]]


def highest_rate(server: Server, most: float) -> float:
    """The highest constant rate, up to `most`, at which half of the requests are answered within 5 ms of their time and
    none is refused or given up; to 3 %. In a closed loop callers fall into step and are answered together, which is
    cheaper: what that measures is no rate at which callers who know nothing of each other may come."""
    low, high = 0.0, most
    while high - low > 0.03 * most:
        rate = (low + high) / 2
        seen = constant_rate(server, rate, _PROBE)
        keeps_up = set(seen["answered"]) == {"200"} and not seen["unsent"] and seen["p50_ms"] < _IN_TIME
        low, high = (rate, high) if keeps_up else (low, rate)
    return low


def constant_rate(server: Server, rate: float, seconds: float) -> dict[str, Any]:
    """What open_loop.py saw."""
    (found,) = rates(server, rate, seconds, every=1e9)
    return found


def rates(server: Server, rate: float, seconds: float, every: float) -> Iterator[dict[str, Any]]:
    """The lines of open_loop.py as they come."""
    line = [sys.executable, str(HERE / "open_loop.py"), "--port", str(server.port), "--path", server.contender.path]
    line += ["--rate", str(rate), "--seconds", str(seconds), "--every", str(every)]
    line += ["--connections", str(_OPEN if every > seconds else _TOO_MANY)]
    asking = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert asking.stdin is not None
    assert asking.stdout is not None
    try:
        asking.stdin.write(server.body)
        asking.stdin.close()
        for told in asking.stdout:
            yield json.loads(told)
        if asking.wait():
            raise SystemExit("benchmarks/open_loop.py failed")
    finally:
        asking.kill()
        asking.wait()
