"""The running stack in containers, as tests ask it and break it. tests/compose/conftest.py has its fixture, `stack`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from evergreen.composed import docker_cli, env_file
from evergreen.composed.showing import megabytes

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class ComposeStack:
    """What runs. `told` is what `make up` said; `idle_mb` what all containers held then, in MB."""

    env: Mapping[str, str] = field(repr=False)  # secrets: kept out of what a failed test shows
    told: str = field(default="", repr=False)  # the first admin's password may be in it
    idle_mb: float = 0
    fresh: bool = False  # brought up for these tests

    @classmethod
    def running(cls, told: str = "", *, fresh: bool = False) -> ComposeStack:
        """The stack as it is now."""
        env = env_file.read(ROOT / ".env")
        return cls(env, told, memory_mb(), fresh)

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.env['EVERGREEN_UI_PORT']}"

    @property
    def serving_url(self) -> str:
        return f"http://127.0.0.1:{self.env['EVERGREEN_SERVING_PORT']}"

    def run(self, *words: str) -> str:
        """What a command printed; it must succeed."""
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def containers(self) -> dict[str, dict[str, Any]]:
        """What `docker inspect` tells, by service."""
        return {service: dict(one) for service, one in docker_cli.containers().items()}

    def inspect(self, service: str) -> dict[str, Any]:
        return self.containers()[service]

    def address(self, service: str) -> str:
        """Its address in one of its networks: the host reaches each of them."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"].values()
        return next(str(one["IPAddress"]) for one in networks if one["IPAddress"])

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What the superuser's statement answers, columns apart by `|`."""
        ask = ("psql", "-h", "127.0.0.1", "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-Atc", statement)
        secret = f"PGPASSWORD={self.env['POSTGRES_PASSWORD']}"
        return self.run("docker", "exec", "-e", secret, self.inspect("postgres")["Id"], *ask).strip()

    def evergreen(self, *words: str) -> Any:
        """The JSON that a command `evergreen … --json` prints in the scheduler."""
        return json.loads(self.run("docker", "compose", "exec", "-T", "scheduler", "evergreen", *words))

    def processes(self, service: str, text: str) -> list[int]:
        """The host's numbers of the container's processes whose command line holds the text."""
        lines = self.run("docker", "top", self.inspect(service)["Id"], "-eo", "pid,args").splitlines()[1:]
        return [int(number) for number, command in (line.split(None, 1) for line in lines) if text in command]

    def kill_main(self, service: str) -> None:
        """kill -9 of what the container was started for; Docker starts it again. (`docker kill` would keep it away.)"""
        (main, *_) = psutil.Process(self.inspect(service)["State"]["Pid"]).children()
        os.kill(main.pid, signal.SIGKILL)

    @contextmanager
    def away(self, service: str) -> Iterator[None]:
        """Killed with -9, and not started again before the end of the block."""
        identity = self.inspect(service)["Id"]
        self.run("docker", "kill", "--signal", "KILL", identity)
        try:
            yield
        finally:
            self.run("docker", "start", identity)


def memory_mb() -> float:
    """What all running containers of the project hold, in MB (10^6 bytes), page cache left out."""
    ids = [one["Id"] for one in docker_cli.containers().values() if one["State"]["Running"]]
    lines = docker_cli.run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", *ids, quiet=True).splitlines()
    return sum(float(megabytes(line)) for line in lines)
