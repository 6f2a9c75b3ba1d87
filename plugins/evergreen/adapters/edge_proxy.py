"""The edge's HAProxy, by its runtime API: commands over TCP, on a network that no caller reaches."""

from __future__ import annotations

import csv
import socket
from urllib.parse import urlsplit

from evergreen.core.errors import EdgeUnavailable
from evergreen.core.ports import Door, EdgeServer

PATIENCE = 5.0  # seconds for one answer
BACKENDS = ("alive", "serving")  # both have both colours; whom callers are sent to is told by the last
_RUNNING = "2"  # srv_op_state
_MAINT, _DRAIN = 0x01, 0x08  # srv_admin_state: as it was set by this API


class HAProxyEdge:
    """Implements core.ports.EdgeProxy. `url` is that of the runtime API, such as tcp://edge-admin:9999."""

    def __init__(self, url: str) -> None:
        self._url = url

    def servers(self) -> dict[str, EdgeServer]:
        """Both colours, by name ('serving-blue'). Raises EdgeUnavailable."""
        told = self._ask(f"show servers state {BACKENDS[-1]}", f"show stat {BACKENDS[-1]} 4 -1")
        states, _, counts = told.partition("\n\n")
        try:
            _, head, *rows = states.splitlines()  # the first line is the format's version
            names = head.lstrip("# ").split(" ")
            found = [dict(zip(names, row.split(" "), strict=True)) for row in rows]
            requests = {one["svname"]: int(one["scur"]) for one in csv.DictReader(counts.lstrip("# \n").splitlines())}
            return {one["srv_name"]: _server(one, requests[one["srv_name"]]) for one in found}
        except (KeyError, ValueError) as error:
            raise EdgeUnavailable(f"the edge at {self._url} tells of its servers in an unknown form") from error

    def set(self, colour: str, door: Door) -> None:
        """Set a colour's door; twice is once. Raises EdgeUnavailable."""
        said = self._ask(*(f"set server {backend}/{colour} state {door}" for backend in BACKENDS)).strip()
        if said:
            raise EdgeUnavailable(f"the edge at {self._url} refuses to set {colour} to {door}: {said}")

    def _ask(self, *commands: str) -> str:
        """What it answers to commands that it takes as one."""
        address = urlsplit(self._url)
        try:
            with socket.create_connection((address.hostname, address.port), PATIENCE) as connection:
                connection.sendall(f"{';'.join(commands)}\n".encode())
                told = b""
                while more := connection.recv(65536):
                    told += more
        except OSError as error:
            raise EdgeUnavailable(
                f"the edge at {self._url} (EVERGREEN_EDGE_URL) does not answer: {error}. See `make status`, and "
                "`make logs ARGS=edge`."
            ) from error
        return told.decode()


def _server(state: dict[str, str], requests: int) -> EdgeServer:
    """Of a row of `show servers state`."""
    set_to = int(state["srv_admin_state"])
    door = Door.MAINT if set_to & _MAINT else Door.DRAIN if set_to & _DRAIN else Door.READY
    answering = door is Door.READY and state["srv_op_state"] == _RUNNING
    return EdgeServer(state["srv_name"], door, answering, requests)
