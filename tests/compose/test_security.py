"""What must be refused, and what must not be found: docker-slots, published ports, secrets, rights of processes."""

from __future__ import annotations

import http.client
import subprocess
from urllib.parse import urlsplit

import httpx
import pytest

from compose_stack import ROOT, ComposeStack

OURS = ("evergreen-airflow", "evergreen-serving", "evergreen-mlflow")
REFUSED = [
    ("GET", "/containers/json"),
    ("GET", "/info"),
    ("GET", "/images/json"),
    ("POST", "/containers/create"),
    ("POST", "/v1.41/containers/create?name=serving-green"),
    ("POST", "/containers/serving-blue/exec"),
    ("POST", "/containers/serving-blue/update"),
    ("POST", "/containers/serving-blue/kill"),
    ("DELETE", "/containers/serving-blue"),
    ("GET", "/containers/serving-blue/logs?stdout=1"),
    ("GET", "/containers/serving-blue/archive?path=/"),
    ("GET", "/containers/evergreen-postgres-1/json"),
    ("POST", "/containers/evergreen-postgres-1/stop"),
    ("POST", "/containers/serving-blue/../evergreen-postgres-1/stop"),
    ("POST", "/containers/serving-blue%2f..%2fevergreen-postgres-1/stop"),
    ("POST", "/containers/serving-blue/%73top"),
    ("POST", "/containers/serving-blue/stop/"),
    ("GET", "/containers/serving-blue/start"),
]


def _ask_docker_slots(stack: ComposeStack, method: str, path: str) -> int:
    """The status; http.client sends the path as it is written."""
    connection = http.client.HTTPConnection(stack.address("docker-slots"), 2375, timeout=10)
    try:
        connection.request(method, path, body=b"{}", headers={"content-type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(("method", "path"), REFUSED, ids=lambda value: value)
def test_docker_slots_refuses(stack: ComposeStack, method: str, path: str) -> None:
    assert _ask_docker_slots(stack, method, path) == 403


def test_docker_slots_lets_a_slot_be_looked_at(stack: ComposeStack) -> None:
    assert _ask_docker_slots(stack, "GET", "/containers/serving-blue/json") == 200


def test_what_is_published_asks_for_a_sign_in_or_answers_only_health(stack: ComposeStack) -> None:
    published = {
        service: {at["HostIp"] for bound in (one["NetworkSettings"]["Ports"] or {}).values() for at in bound or []}
        for service, one in stack.containers().items()
    }
    assert {service: ips for service, ips in published.items() if ips} == {
        "api-server": {"127.0.0.1"},
        "edge": {"127.0.0.1"},
    }
    for path in (
        "/",
        "/models/flight-delay/predict",
        "/v2",
        "/v2/models/flight-delay",
        "/v2/models/flight-delay/infer",
    ):
        for method in ("GET", "POST"):
            assert httpx.request(method, stack.serving_url + path, timeout=30).status_code in (401, 405), path
    for path in ("/metrics", "/metrics/", "//metrics", "/%6detrics", "/admin"):
        assert httpx.get(stack.serving_url + path, timeout=30).status_code in (401, 404), path
    assert httpx.get(f"{stack.serving_url}/v2/health/live", timeout=30).status_code == 200
    for path in ("/api/v2/dags", "/api/v2/connections", "/evergreen/", "/evergreen/models/flight-delay"):
        assert httpx.get(stack.airflow_url + path, timeout=30).status_code == 401, path


def test_every_process_drops_its_rights(stack: ComposeStack) -> None:
    for service, one in stack.containers().items():
        assert "no-new-privileges:true" in one["HostConfig"]["SecurityOpt"], service
        assert not one["HostConfig"]["Privileged"], service
        assert one["HostConfig"]["Memory"] > 0, service
        assert one["HostConfig"]["PidsLimit"] > 0, service
        mounts = [mount["Source"] for mount in one["Mounts"] if mount["Source"].endswith("docker.sock")]
        assert bool(mounts) == (service == "docker-slots"), service
        if not one["State"]["Running"]:
            continue
        lines = stack.run("docker", "top", one["Id"], "-eo", "pid,user,args").splitlines()[1:]
        users = {line.split()[1] for line in lines if not line.endswith("runc init")}  # it turns into its user's
        allowed = {"root"} if service == "postgres" else set()
        assert "root" not in users - allowed, service


def test_serving_slots_are_closed_in(stack: ComposeStack) -> None:
    for slot in ("serving-blue", "serving-green", "serving-rehearsal"):
        host = stack.inspect(slot)["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert (host["Memory"] > 0, host["NanoCpus"] > 0, host["PidsLimit"] > 0) == (True, True, True)


def test_no_secret_is_in_an_image_the_tree_or_a_log(stack: ComposeStack) -> None:
    secrets = [value for name, value in stack.env.items() if name.endswith(("PASSWORD", "KEY", "SECRET", "TOKEN"))]
    assert len(secrets) == 12
    told = {f"history of {image}": stack.run("docker", "history", "--no-trunc", image) for image in OURS}
    told |= {f"configuration of {image}": stack.run("docker", "inspect", image) for image in OURS}
    for service, one in stack.containers().items():
        logs = subprocess.run(["docker", "logs", one["Id"]], capture_output=True, text=True, check=True)
        told[f"log of {service}"] = logs.stdout + logs.stderr
    told["tree"] = "".join(
        (ROOT / name).read_text(errors="replace") for name in stack.run("git", "ls-files").splitlines()
    )
    found = [where for where, text in told.items() if any(secret in text for secret in secrets)]
    assert found == []


def test_the_networks_inside_lead_nowhere(stack: ComposeStack) -> None:
    networks = stack.run(
        "docker", "network", "ls", "--filter", "label=com.docker.compose.project=evergreen", "-q"
    ).split()
    inside = {
        name: internal == "true"
        for name, internal in (
            stack.run("docker", "network", "inspect", "-f", "{{.Name}} {{.Internal}}", one).split() for one in networks
        )
    }
    assert inside.pop("evergreen_front") is False
    assert inside.pop("evergreen_sources") is False  # tasks and watchers reach data outside
    assert all(inside.values())
    assert urlsplit(stack.serving_url).hostname in ("127.0.0.1", "localhost")


def test_a_slot_writes_the_log_into_the_store_and_nothing_else(stack: ComposeStack) -> None:
    code = (
        "from evergreen import wiring\n"
        "store = wiring.store(wiring.Settings.load())\n"
        "store.put('log/predictions/try/x', b'1'); store.remove('log/predictions/try/x')\n"
        "for key in ('bundles/x', 'snapshots/x', 'x'):\n"
        "    try: store.put(key, b'1')\n"
        "    except OSError as error: print(error.strerror)\n"
    )
    slot = next(name for name in ("serving-blue", "serving-green") if stack.processes(name, "evergreen.serving"))
    told = stack.run("docker", "exec", slot, "python", "-c", code)
    assert told.split("\n")[:3] == ["Read-only file system"] * 3
