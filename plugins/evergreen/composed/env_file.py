"""`.env`: written once, with secrets of its own making, readable by its owner alone; checked at every start."""

from __future__ import annotations

import os
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

FERNET = "AIRFLOW_FERNET_KEY"
SECRETS = (
    "POSTGRES_PASSWORD",
    "AIRFLOW_DB_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "EVERGREEN_DB_PASSWORD",
    "SERVING_DB_PASSWORD",
    "WAREHOUSE_DB_PASSWORD",
    FERNET,
    "AIRFLOW_SECRET_KEY",
    "AIRFLOW_JWT_SECRET",
    "EVERGREEN_ADMIN_PASSWORD",
    "EVERGREEN_SERVICE_PASSWORD",
    "EVERGREEN_SERVING_TOKEN",
)
SETTINGS = {"EVERGREEN_BIND": "127.0.0.1", "EVERGREEN_UI_PORT": "8080", "EVERGREEN_SERVING_PORT": "8000"}
SHORTEST = 16
FEWEST_DIFFERENT = 6
# A secret that begins so is one that people choose, or that an example shows.
KNOWN = ("password", "passwort", "changeme", "change_me", "airflow", "postgres", "evergreen", "mlflow", "secret",
         "admin", "letmein", "qwerty", "12345", "missing")  # fmt: skip
ALLOWED = re.compile(r"[A-Za-z0-9_.~=-]*")  # what stands in a URL and in .env as it is
HEAD = "# Made by `make up`. Keep it with the backups and out of git: without it the stored data cannot be read.\n"
MAKE_ONE = "python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"
MAKE_KEY = "python3 -c 'import base64, secrets; print(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())'"


class Refused(Exception):
    """Raised, with all there is to say, where the stack must not be started."""


def ensure(path: Path, more: Mapping[str, str], taken: Mapping[str, str] = os.environ) -> bool:
    """Write the file where there is none, `more` settings in it; whether it did.

    Ports and address are taken from the environment if set. The file is there with all of it, or not at all.
    """
    if path.exists():
        return False
    values = {name: secrets.token_urlsafe(24) for name in SECRETS}
    values[FERNET] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
    values |= {name: taken.get(name, default) for name, default in SETTINGS.items()}
    values.update(more)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(HEAD + "".join(f"{name}={value}\n" for name, value in values.items()))
    try:
        os.link(draft, path)  # refuses where another `make up` was quicker
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def read(path: Path) -> dict[str, str]:
    """The file's values. Quotes around a value are left out, as Compose does."""
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("'\"") for name, value in pairs}


def check(path: Path) -> dict[str, str]:
    """The values, all secrets good. Raises Refused, naming each that is missing or weak, or an open file."""
    problems = [*_open_to_others(path)]
    values = read(path)
    problems += [problem for name in SECRETS if (problem := _weakness(name, values.get(name, "")))]
    problems += _bad_ports(values)
    if problems:
        raise Refused("\n".join(problems))
    return values


def check_private(path: Path) -> None:
    """Raises Refused where others on this host may read the file, if it is there."""
    if path.exists() and (problems := _open_to_others(path)):
        raise Refused("\n".join(problems))


def _open_to_others(path: Path) -> list[str]:
    mode = path.stat().st_mode & 0o777
    if not mode & 0o077:
        return []
    return [f"{path.name}: found mode {mode:03o}; allowed: 600, it holds secrets. Do: chmod 600 {path.name}"]


def _weakness(name: str, value: str) -> str:
    """Why this secret is not good enough; empty where it is. The value itself is never shown."""
    found = _what_is_wrong(name, value)
    if not found:
        return ""
    allowed = f"{SHORTEST} random characters or more, of A-Z a-z 0-9 _ . ~ = -"
    if name == FERNET:
        allowed = "32 random bytes in URL-safe base64"
    do = f"Take it from the backup, or put in a new one: {MAKE_KEY if name == FERNET else MAKE_ONE}"
    return f".env, {name}: found {found}; allowed: {allowed}. {do}"


def _what_is_wrong(name: str, value: str) -> str:
    if not value:
        return "nothing"
    if len(value) < SHORTEST:
        return f"{len(value)} characters"
    if not ALLOWED.fullmatch(value):
        return "characters that a URL cannot hold"
    if len(set(value)) < FEWEST_DIFFERENT or value.lower().startswith(KNOWN):
        return "one that can be guessed"
    return "" if name != FERNET or _is_key(value) else "no such key"


def _is_key(value: str) -> bool:
    try:
        return len(urlsafe_b64decode(value)) == 32
    except ValueError:
        return False


def _bad_ports(values: Mapping[str, str]) -> list[str]:
    ports = {name: values.get(name, default) for name, default in SETTINGS.items() if name.endswith("_PORT")}
    bad = [f".env, {name}: found {port!r}; allowed: 1 to 65535." for name, port in ports.items() if not _is_port(port)]
    if len(set(ports.values())) < len(ports):
        bad.append(f".env, {' and '.join(ports)}: found the same port; allowed: two. Change one.")
    return bad


def _is_port(text: str) -> bool:
    return text.isdigit() and 0 < int(text) < 65536
