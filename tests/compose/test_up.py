"""`make up`: what runs afterwards, and that a second time changes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest

from compose_stack import ROOT, ComposeStack
from evergreen.composed.docker_cli import state
from evergreen.composed.starting import SERVICES, SLOTS, make_slots, of_an_older_image

RUNNING = {*SERVICES, "serving-blue"} - {"init"}
SERVING = "evergreen-serving:latest"
LATE = 60  # seconds: an answer to a health check, under the load of the test before
READY_WITHIN = 240  # seconds, images built
IDLE_MB = 3 * 1024**3 / 1e6
MEMORY_LIMITS = 8 * 1024**3  # bytes: what all may hold together


def up() -> str:
    done = subprocess.run(
        ["make", "up", f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr


def test_the_configuration_is_read_without_a_warning(stack: ComposeStack) -> None:
    command = ["docker", "compose", "--profile", "slots", "--profile", "demo", "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_are_healthy_and_none_had_to_be_restarted(stack: ComposeStack) -> None:
    until = time.monotonic() + LATE
    while not _all_healthy(found := stack.containers()) and time.monotonic() < until:
        time.sleep(1)
    assert {service: state(one) for service, one in found.items() if service in RUNNING} == dict.fromkeys(
        RUNNING, "healthy"
    )
    assert found["init"]["State"]["ExitCode"] == 0
    assert {service: one["RestartCount"] for service, one in found.items() if one["RestartCount"]} == {}
    assert [service for service, one in found.items() if one["State"]["OOMKilled"]] == []


def _all_healthy(found: dict[str, Any]) -> bool:
    return all(state(one) == "healthy" for service, one in found.items() if service in RUNNING)


def test_it_is_up_in_time_and_small(stack: ComposeStack) -> None:
    if not stack.fresh:
        pytest.skip("the stack ran before these tests: neither its start nor its idle memory was seen")
    seconds = [int(number) for number in re.findall(r"^ *(\d+) s  .*: ready$", stack.told, re.MULTILINE)]
    print(f"ready after {max(seconds)} s, holds {stack.idle_mb:.0f} MB")
    assert max(seconds) < READY_WITHIN
    assert stack.idle_mb < IDLE_MB


def test_the_limits_fit_a_machine_of_8_gib_and_are_there(stack: ComposeStack) -> None:
    limits = {service: one["HostConfig"]["Memory"] for service, one in stack.containers().items() if service != "init"}
    assert all(limits.values())
    assert sum(limits.values()) <= MEMORY_LIMITS


def test_a_second_time_changes_nothing(stack: ComposeStack) -> None:
    before = _which(stack)
    said = up()
    assert _which(stack) == before
    assert stack.env["EVERGREEN_ADMIN_PASSWORD"] not in said
    assert ": ready" not in said


def test_a_running_slot_is_left_alone_and_a_still_one_brought_up_to_date(stack: ComposeStack) -> None:
    """As after a build of a new serving image."""
    before = {slot: stack.inspect(slot)["Id"] for slot in SLOTS}
    image = stack.run("docker", "image", "inspect", "--format", "{{.Id}}", SERVING).strip()
    try:
        subprocess.run(
            ["docker", "build", "-q", "-t", SERVING, "-"],
            input=f"FROM {SERVING}\nLABEL another=one\n",
            text=True,
            check=True,
        )
        make_slots()
        changed = {slot for slot in SLOTS if stack.inspect(slot)["Id"] != before[slot]}
        assert changed == {"serving-green", "serving-rehearsal"}
        assert of_an_older_image(["serving-blue"]) == ["serving-blue"]
    finally:
        stack.run("docker", "tag", image, SERVING)
        make_slots()


def test_the_edge_passes_health_and_hides_the_rest(stack: ComposeStack) -> None:
    assert httpx.get(f"{stack.serving_url}/v2/health/ready", timeout=30).status_code == 200
    assert httpx.get(f"{stack.serving_url}/", timeout=30).status_code in (200, 401)
    for path in ("/metrics", "/edge", "/v2x", "/admin", "/;csv", "/haproxy?stats"):
        assert httpx.get(stack.serving_url + path, timeout=30).status_code == 404, path


def test_serving_may_read_the_ledger_and_write_only_what_it_sees(stack: ComposeStack) -> None:
    def may(right: str, table: str) -> str:
        return stack.sql(f"SELECT has_table_privilege('evergreen_serving', '{table}', '{right}')", "evergreen")

    assert {table: may("SELECT", table) for table in ("release", "champion", "caller_token")} == dict.fromkeys(
        ("release", "champion", "caller_token"), "t"
    )
    for table in ("replica", "arm_count"):
        assert [may(right, table) for right in ("INSERT", "UPDATE", "DELETE")] == ["t", "t", "f"], table
    assert [may(right, "trip") for right in ("INSERT", "UPDATE", "DELETE")] == ["t", "f", "f"]
    assert {may(right, table) for right in ("INSERT", "UPDATE") for table in ("champion", "caller_token")} == {"f"}


def test_no_user_may_connect_to_the_database_of_another(stack: ComposeStack) -> None:
    owners = ("airflow", "mlflow", "evergreen", "warehouse")
    allowed = {
        (user, base)
        for user in (*owners, "evergreen_serving")
        for base in owners
        if stack.sql(f"SELECT has_database_privilege('{user}', '{base}', 'CONNECT')") == "t"
    }
    assert allowed == {*((name, name) for name in owners), ("evergreen_serving", "evergreen")}


def _which(stack: ComposeStack) -> dict[str, tuple[Any, ...]]:
    """Each container's identity and start; init is there to run each time."""
    found = stack.containers()
    return {
        service: (one["Id"], one["State"]["StartedAt"], one["RestartCount"])
        for service, one in found.items()
        if service != "init"
    }
