"""The edge in memory, and odd answers of an edge; HAProxy itself is in tests/compose/test_edge.py."""

from __future__ import annotations

import socket
from threading import Thread

import pytest
from tests.edge_contract import BLUE, GREEN, EdgeContract, Rig

from evergreen.adapters.edge_proxy import HAProxyEdge
from evergreen.core.errors import EdgeUnavailable
from evergreen.fakes.edge_proxy import InMemoryEdge


@pytest.fixture
def rig() -> Rig:
    ready: dict[str, bool] = {}
    edge = InMemoryEdge(BLUE, GREEN, ready=lambda colour: ready.get(colour, False))
    return Rig(edge, ready.__setitem__, edge.restart)


class TestEdge(EdgeContract):
    """In `make test`: the twin in memory."""


def test_one_that_does_not_listen_is_told_and_worth_a_retry() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(EdgeUnavailable, match=f"the edge at {url} .EVERGREEN_EDGE_URL. does not answer") as told:
            HAProxyEdge(url).servers()
    assert told.value.retryable


@pytest.mark.parametrize("answer", ["", "Permission denied\n\n", "1\n# be_id srv_name\n4\n\n# a,b,\n"])
def test_what_is_no_list_of_servers_is_told(answer: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def once() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer.encode())

        answering = Thread(target=once)
        answering.start()
        with pytest.raises(EdgeUnavailable, match="in an unknown form"):
            HAProxyEdge(f"tcp://127.0.0.1:{server.getsockname()[1]}").servers()
        answering.join()
