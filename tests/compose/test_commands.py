"""The commands that docs/deployment.md shows, as it shows them."""

from __future__ import annotations

import time

import httpx

from compose_stack import ComposeStack


def test_status_fits_80_columns_and_names_every_service(stack: ComposeStack) -> None:
    lines = stack.run("make", "-s", "status").splitlines()
    assert max(len(line) for line in lines) <= 80
    assert {line.split()[0] for line in lines if line} >= set(stack.containers())


def test_logs_of_one_service(stack: ComposeStack) -> None:
    told = stack.run("make", "-s", "logs", "ARGS=scheduler --tail 50")
    assert "scheduler" in told
    assert "postgres-1 " not in told


def test_a_command_in_the_stack(stack: ComposeStack) -> None:
    assert "flight-delay" in _evergreen(stack, "status")
    assert _evergreen(stack, "history", "flight-delay")


def test_a_callers_token_counts_and_a_revoked_one_does_not(stack: ComposeStack) -> None:
    told = _evergreen(stack, "token", "add", "billing")
    token = next(word for word in told.split() if word.startswith("evg_"))
    _answers_within(stack, token, 200)
    (row,) = (line for line in _evergreen(stack, "token", "list").splitlines() if "billing" in line)
    _evergreen(stack, "token", "revoke", row.split()[0])
    _answers_within(stack, token, 401)


def _evergreen(stack: ComposeStack, *words: str) -> str:
    return stack.run("docker", "compose", "exec", "-T", "scheduler", "evergreen", *words)


def _answers_within(stack: ComposeStack, token: str, status: int) -> None:
    """A new or revoked token counts within seconds, without a restart."""
    deadline, headers = time.monotonic() + 60, {"Authorization": f"Bearer {token}"}
    while (found := httpx.get(f"{stack.serving_url}/", headers=headers, timeout=30).status_code) != status:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
