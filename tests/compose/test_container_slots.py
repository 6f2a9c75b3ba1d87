"""The rehearsal slot in real Docker: the serving image, reached through the project's own docker-slots.

Under names of its own, so that a stack that runs here is not touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.slot_contract import MODEL, ContainersContract, Engine, Rig, SlotContract

from evergreen.adapters.container_slots import ContainerSlots, DockerSlots, Terms
from evergreen.adapters.file_store import FileStore
from evergreen.adapters.serving_client import HttpServingClient
from evergreen.adapters.slot_readiness import wait_until_ready
from evergreen.core.errors import LeaseBusy, RehearsalFailed, SlotUnavailable
from evergreen.core.slot_health import Act, Finding, SlotFacts, What, assess
from evergreen.fakes.ledger import in_memory_ledger

ROOT = Path(__file__).parents[2]
NAME = f"evergreen-test-{os.getpid()}"
SLOT, ABSENT, PROXY = f"{NAME}-slot", f"{NAME}-absent", f"{NAME}-docker-slots"
MEMORY_MB = 300
QUICK = Terms(lasts=3, waits=1, look=0.1)


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def wait_until(holds: Callable[[], bool]) -> None:
    """Try again, and after a SlotUnavailable too, for 20 s."""
    deadline = time.monotonic() + 20
    while True:
        try:
            if holds():
                return
        except SlotUnavailable:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline
        time.sleep(0.1)


def address(container: str) -> str | None:
    """Its address on the test's network; none while it does not run."""
    found = docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)
    return found or None


SERVE = ["python", "-m", "evergreen.serving", "--host", "0.0.0.0", "--port", "8000"]
SERVE += ["@/var/lib/evergreen/rehearsal/args"]


def run_slot(folder: Path, *options: str, program: Sequence[str] = SERVE) -> None:
    """Make the slot's container, as docker-compose.yml does."""
    with suppress(AssertionError):
        docker("rm", "-f", SLOT)
    docker(
        "create", "--name", SLOT, "--network", NAME, "--read-only", "--cap-drop", "ALL", "--restart", "no",
        "--security-opt", "no-new-privileges", "--init", "--memory", f"{MEMORY_MB}m", "--memory-swap", f"{MEMORY_MB}m",
        "--tmpfs", "/tmp", "--tmpfs", "/var/lib/evergreen/serving:uid=50000,gid=0,mode=0750",
        "-v", f"{folder}/store:/var/lib/evergreen/store:ro",
        "-v", f"{folder}/rehearsal:/var/lib/evergreen/rehearsal:ro",
        "-e", "EVERGREEN_SERVING_AUTH=none", *options,
        "evergreen-serving", *program,
    )  # fmt: skip


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """docker-slots, as the project configures it, but for the name of the slot; its URL."""
    given = (ROOT / "docker" / "docker-slots" / "haproxy.cfg").read_text()
    assert "rehearsal" in given
    config = tmp_path_factory.mktemp("docker-slots") / "haproxy.cfg"
    config.write_text(given.replace("serving-(blue|green|rehearsal)", f"({SLOT}|{ABSENT})"))
    config.parent.chmod(0o755)
    docker("network", "create", NAME)
    try:
        docker(
            "run", "-d", "--name", PROXY, "--network", NAME, "--user", "0:0",
            "-v", "/var/run/docker.sock:/var/run/docker.sock", "-v", f"{config}:/usr/local/etc/haproxy/haproxy.cfg:ro",
            "haproxy:2.6-bookworm",
        )  # fmt: skip
        url = f"tcp://{address(PROXY)}:2375"
        wait_until(lambda: DockerSlots(url).look(ABSENT).state == "absent")
        yield url
    finally:
        for container in (SLOT, PROXY):
            with suppress(AssertionError):
                docker("rm", "-f", container)
        docker("network", "rm", NAME)


@dataclass
class Container(Rig):
    """A rig whose slot is a container."""

    folder: Path
    url: str

    def another(self, terms: Terms = QUICK, timeout: float = 30) -> ContainerSlots:
        """The same slot, for another process."""
        return ContainerSlots(
            DockerSlots(self.url), self.ledger.leases, self.folder / "rehearsal", wait_until_ready,
            slot=SLOT, url=self.answers_at, terms=terms, timeout=timeout,
        )  # fmt: skip

    def answers_at(self) -> str | None:
        found = address(SLOT)
        return found and f"http://{found}:8000"

    def __post_init__(self) -> None:
        self.ledger = in_memory_ledger()
        self.slots = self.another()


@pytest.fixture
def rig(proxy: str, tmp_path: Path) -> Container:
    for name in ("store", "rehearsal"):
        (tmp_path / name).mkdir()
    run_slot(tmp_path)
    return Container(None, HttpServingClient(timeout=10), FileStore(str(tmp_path / "store")), tmp_path, proxy)


class TestContainerSlots(SlotContract):
    """What every kind of slots does."""


@pytest.fixture
def engine(rig: Container) -> Engine:
    (rig.folder / "rehearsal" / "args").write_text(f"--only={MODEL}:1:{rig.bundle(1)}\n")
    return Engine(DockerSlots(rig.url), SLOT, ABSENT)


class TestDockerSlots(ContainersContract):
    """What Docker says and does."""


def state() -> dict[str, object]:
    return dict(json.loads(docker("inspect", "-f", "{{json .State}}", SLOT)))


def test_it_is_stopped_and_its_lease_is_given_back(rig: Container) -> None:
    made = rig.bundle(1)
    with rig.slots.start(MODEL, 1, made):
        assert state()["Status"] == "running"
        lease = rig.ledger.leases.get(f"slot:{SLOT}")
        assert lease is not None
        assert lease.holder.startswith(f"{MODEL} version 1 (")
        time.sleep(QUICK.lasts * 1.3)  # it is renewed meanwhile
        assert rig.answers(str(rig.answers_at()), rig.golden(made)[0])[0] == 1
    assert (state()["Status"], state()["OOMKilled"]) == ("exited", False)
    assert rig.ledger.leases.get(f"slot:{SLOT}") is None


def test_another_waits_for_it_and_says_who_has_it(rig: Container) -> None:
    first, second = rig.bundle(1), rig.bundle(2)
    with rig.slots.start(MODEL, 1, first) as slot:
        with pytest.raises(LeaseBusy, match=r"version 2 waited 1 s.*version 1 \("), rig.slots.start(MODEL, 2, second):
            pass
        assert rig.answers(slot.url, rig.golden(first)[0])[0] == 1
        begun: list[float] = []

        def patient() -> None:
            with rig.another(Terms(lasts=3, waits=30, look=0.1)).start(MODEL, 2, second) as its:
                begun.append(rig.answers(its.url, rig.golden(second)[0])[0])

        waiting = threading.Thread(target=patient)
        waiting.start()
        time.sleep(1)
        assert begun == []
    waiting.join(60)
    assert begun == [2]


def test_a_killed_holder_is_reclaimed_when_its_lease_has_run_out(rig: Container) -> None:
    first, second = rig.bundle(1), rig.bundle(2)
    (rig.folder / "rehearsal" / "args").write_text(f"--only={MODEL}:1:{first}\n")
    docker("start", SLOT)  # as the killed one left it
    now = datetime.now(UTC)
    rig.ledger.leases.acquire(f"slot:{SLOT}", "killed", timedelta(seconds=2), now)
    with rig.another(Terms(lasts=3, waits=10, look=0.1)).start(MODEL, 2, second) as slot:
        assert datetime.now(UTC) - now > timedelta(seconds=2)
        assert rig.answers(slot.url, rig.golden(second)[0])[0] == 2


def test_a_slot_that_others_stop_meanwhile_is_no_fault_of_the_candidate(rig: Container) -> None:
    made = rig.bundle(1)

    def ask_after_a_restart() -> None:
        with rig.slots.start(MODEL, 1, made) as slot:
            docker("restart", "-t", "1", SLOT)
            rig.answers(slot.url, [{"not": "a feature"}])

    with pytest.raises(SlotUnavailable, match="somebody stopped"):
        ask_after_a_restart()


def test_a_lease_that_was_lost_is_said_and_the_slot_of_its_new_holder_goes_on(rig: Container) -> None:
    made = rig.bundle(1)

    def lose_it() -> None:
        with rig.slots.start(MODEL, 1, made):
            late = datetime.now(UTC) + timedelta(days=1)
            rig.ledger.leases.acquire(f"slot:{SLOT}", "another", timedelta(minutes=5), late)
            time.sleep(QUICK.renewed * 2)

    with pytest.raises(SlotUnavailable, match=r"lost meanwhile.*another"):
        lose_it()
    assert state()["Status"] == "running"
    lease = rig.ledger.leases.get(f"slot:{SLOT}")
    assert lease is not None
    assert lease.holder == "another"


HUNGRY = (
    "import sys\nif 'evergreen.serving.worker' in sys.orig_argv:\n    held = [b'x' * 50_000_000 for _ in range(40)]\n"
)


def test_a_version_that_needs_more_memory_than_the_limit_is_told_so(rig: Container) -> None:
    made = rig.bundle(1)
    (rig.folder / "hungry").mkdir()
    (rig.folder / "hungry" / "sitecustomize.py").write_text(HUNGRY)
    run_slot(rig.folder, "-v", f"{rig.folder}/hungry:/hungry:ro", "-e", "PYTHONPATH=/opt/evergreen/plugins:/hungry")
    text = (
        rf"version 1 needed more than the memory limit of {MEMORY_MB * 1.048576:.0f} MB.*EVERGREEN_REHEARSAL_MEMORY_MB"
    )
    with pytest.raises(RehearsalFailed, match=text), rig.another(timeout=15).start(MODEL, 1, made):
        pass


def test_a_program_that_ends_is_told_with_its_exit_code_and_where_its_log_is(rig: Container) -> None:
    run_slot(rig.folder, "--entrypoint", "false")
    with (
        pytest.raises(RehearsalFailed, match=rf"exited, exit code 1.*docker logs --tail 20 {SLOT}"),
        rig.slots.start(MODEL, 1, rig.bundle(1)),
    ):
        pass


def test_no_container_and_no_docker_slots_are_worth_a_retry(rig: Container) -> None:
    docker("rm", "-f", SLOT)
    with pytest.raises(SlotUnavailable, match="no such container here"), rig.slots.start(MODEL, 1, rig.bundle(1)):
        pass
    with pytest.raises(SlotUnavailable, match="403"):
        DockerSlots(rig.url).look(PROXY)
    rig.url = "tcp://127.0.0.1:9"
    with pytest.raises(SlotUnavailable, match="EVERGREEN_SLOTS_URL"), rig.another().start(MODEL, 1, rig.bundle(1)):
        pass
    assert rig.ledger.leases.get(f"slot:{SLOT}") is None


# ---------------------------------------------------------------- the watch


def found(facts: SlotFacts) -> Finding | None:
    """What the watch makes of a slot, if it were blue."""
    return next(iter(assess([replace(facts, slot="serving-blue")], [], rehearsing=False, now=datetime.now(UTC))), None)


def wait_for_finding(containers: DockerSlots) -> Finding:
    deadline = time.monotonic() + 30
    while not (finding := found(containers.look(SLOT))):
        assert time.monotonic() < deadline, containers.look(SLOT)
        time.sleep(0.2)
    return finding


def test_a_slot_that_does_not_answer_is_found_and_its_restart_is_a_new_life(rig: Container) -> None:
    containers = DockerSlots(rig.url)
    run_slot(
        rig.folder, "--entrypoint", "sleep", "--health-cmd", "printf 'Traceback\ntimed out\n'; false",
        "--health-interval", "1s", "--health-retries", "6", program=["60"],
    )  # fmt: skip
    containers.restart(SLOT)
    assert found(containers.look(SLOT)) is None
    finding = wait_for_finding(containers)
    assert (finding.what, finding.act) == (What.RESTARTED, Act.RESTART)
    assert "did not answer its health check for" in finding.detail
    assert "(timed out)" in finding.detail
    containers.restart(SLOT)
    assert containers.look(SLOT).health == "starting"
    assert found(containers.look(SLOT)) is None


def test_a_slot_that_ends_by_itself_is_found_and_one_that_was_stopped_is_not(rig: Container) -> None:
    containers = DockerSlots(rig.url)
    run_slot(rig.folder, "--restart", "unless-stopped", "--entrypoint", "sh", program=["-c", "sleep 1; exit 3"])
    containers.restart(SLOT)
    finding = wait_for_finding(containers)
    assert (finding.what, finding.act) == (What.DIED, Act.NOTHING)
    assert "Docker starts it again" in finding.detail
    containers.stop(SLOT)
    assert containers.look(SLOT).state == "exited"


def test_a_slot_that_runs_out_of_memory_is_found_with_its_limit(rig: Container) -> None:
    containers = DockerSlots(rig.url)
    run_slot(rig.folder, "--entrypoint", "python", program=["-c", "held = b'x' * 900_000_000"])
    containers.restart(SLOT)
    finding = wait_for_finding(containers)
    assert "ran out of memory, its limit of 315 MB" in finding.detail
