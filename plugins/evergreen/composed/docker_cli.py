"""Docker and Compose, as the programs on this host's PATH."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from evergreen.composed import env_file
from evergreen.composed.env_file import Refused

ROOT = Path(__file__).resolve().parents[3]
ENV = ROOT / ".env"
PROJECT = "evergreen"
SOCKET = Path("/var/run/docker.sock")
OLDEST_COMPOSE = (2, 24)
NEEDS = "Evergreen's containers need Docker with Compose v2.24 or newer."
ALL = ("docker", "compose", "--profile", "slots", "--profile", "demo")
_LABEL = "com.docker.compose"
Container = Mapping[str, Any]  # what `docker inspect` tells of one


def run(*words: str, quiet: bool = False) -> str:
    """What the command printed. Raises Refused with its words where it fails; shows its progress unless quiet."""
    errors = subprocess.PIPE if quiet else None
    done = subprocess.run(
        words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True, check=False
    )
    if done.returncode:
        raise Refused(f"`{' '.join(words)}` ended with {done.returncode}: {(done.stderr or '').strip() or 'see above'}")
    return done.stdout


def attached(*words: str) -> int:
    """A `docker compose` command that has the terminal; returns its exit status."""
    return subprocess.run([*ALL, *words], cwd=ROOT, env=environment(), check=False).returncode


def environment() -> dict[str, str]:
    """This process's, and what Compose needs besides `.env`: revision, a hash of configurations, the socket's group.

    What belongs into `.env` is left out: Compose would prefer a secret that a shell happens to have. Where the file
    lacks one, Compose gets a stand-in, so that a stack without its `.env` can still be looked at and stopped; `up`
    has refused before.
    """
    known = (*env_file.SECRETS, *env_file.SETTINGS)
    written = env_file.read(ENV) if ENV.exists() else {}
    stand_ins = {name: "missing" for name in env_file.SECRETS if not written.get(name)}
    kept = {name: value for name, value in os.environ.items() if name not in known}
    own = {"DOCKER_GROUP": str(socket_group()), "EVERGREEN_REVISION": revision(), "EVERGREEN_CONFIG": _config()}
    return {**kept, **stand_ins, **own}


def _config() -> str:
    """A hash of the files that containers read from this checkout only when they start."""
    files = sorted((ROOT / "docker").glob("*/haproxy.cfg"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def socket_group() -> int:
    """The number of the group that may use Docker's socket."""
    return SOCKET.stat().st_gid if SOCKET.exists() else 0


def revision() -> str:
    """The git revision of this checkout, with `-dirty` where it was changed; `unknown` outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head, changed = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def check_docker() -> None:
    """Raises Refused where there is no engine, or no Compose that is new enough."""
    try:
        run("docker", "version", quiet=True)
        found = run("docker", "compose", "version", "--short", quiet=True).strip()
    except FileNotFoundError:
        raise Refused(f"docker: found none on the PATH. {NEEDS}") from None
    except Refused as error:
        raise Refused(f"{error}\n{NEEDS} Is the engine running, and may you use it?") from None
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
    if numbers < OLDEST_COMPOSE:
        raise Refused(f"docker compose: found {found}. {NEEDS}")


def containers() -> dict[str, Container]:
    """The project's containers by service; one-off ones are left out."""
    # Twice where one of those listed is gone before it is looked at.
    for _ in range(3):
        ids = run("docker", "ps", "-aq", "--filter", f"label={_LABEL}.project={PROJECT}", quiet=True).split()
        try:
            found = json.loads(run("docker", "inspect", *ids, quiet=True)) if ids else []
            break
        except Refused as error:
            if "No such object" not in str(error):
                raise
    else:
        raise Refused("Docker's list of containers changes faster than it can be read. Ask again.")
    labelled = [(one["Config"]["Labels"], one) for one in found]
    return {
        labels[f"{_LABEL}.service"]: one
        for labels, one in labelled
        if labels.get(f"{_LABEL}.oneoff", "False") != "True"
    }


def check_here(found: Mapping[str, Container]) -> None:
    """Raises Refused where the containers are those of another checkout that is still there: one stack a host."""
    for one in found.values():
        folder = Path(one["Config"]["Labels"].get(f"{_LABEL}.project.working_dir", ROOT))
        if folder.is_dir() and folder.resolve() != ROOT:
            raise Refused(f"The stack of {folder} is on this host, and there can be one. `make down` there first.")


def has_data() -> bool:
    """Whether a stack that ran here left its databases."""
    return bool(run("docker", "volume", "ls", "-q", "--filter", f"name=^{PROJECT}_postgres$", quiet=True).strip())


def log_end(container: Container, lines: int) -> str:
    """The last lines of its log, of both its outputs."""
    words = ["docker", "logs", "--tail", str(lines), container["Id"]]
    both = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return both.stdout.strip()


def image_id(name: str) -> str:
    """The id of the image that this name stands for now."""
    return run("docker", "image", "inspect", "--format", "{{.Id}}", name, quiet=True).strip()


def state(container: Container) -> str:
    """`healthy`, `starting`, `unhealthy`, or what Docker says of one without a check: `running`, `exited` …"""
    now = container["State"]
    health: str = (now.get("Health") or {}).get("Status", "")
    return health if now["Running"] and health and health != "none" else str(now["Status"])
