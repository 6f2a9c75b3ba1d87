"""The limit on wrong passwords at Airflow's token addresses."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from evergreen.orchestration.sign_in_limit import ADDRESSES, MOST, WITHIN, SignInLimit

WRONG, RIGHT = 401, 201


class Gate:
    """The limit before an app that answers what a test says, on a clock that a test turns."""

    def __init__(self) -> None:
        self.now, self.answer, self.reached = 100.0, WRONG, 0
        self._limit = SignInLimit(self._app, clock=lambda: self.now)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached += 1
        await send({"type": "http.response.start", "status": self.answer, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    def ask(self, path: str = "/auth/token", *, address: str = "10.0.0.1", method: str = "POST") -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self._limit, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                return await client.request(method, path)

        return asyncio.run(asked())

    def fill(self, address: str = "10.0.0.1") -> None:
        for _ in range(MOST):
            assert self.ask(address=address).status_code == WRONG


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_after_wrong_passwords_not_even_a_right_one_is_looked_at(gate: Gate) -> None:
    gate.fill()
    gate.answer = RIGHT
    told = gate.ask()
    assert (told.status_code, told.headers["retry-after"], gate.reached) == (429, str(int(WITHIN)), MOST)
    assert "Try again in 40 s" in told.json()["detail"]


def test_it_ends_by_itself(gate: Gate) -> None:
    gate.fill()
    gate.now += WITHIN - 1
    assert gate.ask().headers["retry-after"] == "1"
    gate.now += 1
    gate.answer = RIGHT
    assert gate.ask().status_code == RIGHT


def test_only_that_address_waits(gate: Gate) -> None:
    gate.fill()
    gate.answer = RIGHT
    assert gate.ask(address="10.0.0.2").status_code == RIGHT


@pytest.mark.parametrize("path", ["/auth/token/", "/auth/token/cli", "/auth/api/v1/security/login", "/base/auth/token"])
def test_every_address_that_takes_a_password_counts(gate: Gate, path: str) -> None:
    gate.fill()
    assert gate.ask(path).status_code == 429


def test_right_passwords_and_other_requests_are_not_counted(gate: Gate) -> None:
    gate.answer = RIGHT
    for _ in range(MOST + 1):
        assert gate.ask().status_code == RIGHT
    gate.answer = WRONG
    for _ in range(MOST + 1):
        assert gate.ask("/api/v2/dags").status_code == WRONG
        assert gate.ask("/auth/token", method="GET").status_code == WRONG
    assert gate.ask().status_code == WRONG


def test_its_memory_is_bounded(gate: Gate) -> None:
    gate.fill()
    for number in range(ADDRESSES):
        gate._limit._count(f"10.{number}")
    assert len(gate._limit._refused) == ADDRESSES
