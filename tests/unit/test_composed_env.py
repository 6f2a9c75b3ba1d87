"""`.env`: written once and privately, and refused by name where a secret is missing or weak."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evergreen.composed import env_file
from evergreen.composed.env_file import SECRETS, Refused

ROOT = Path(__file__).parents[2]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    assert env_file.ensure(path, {"DOCKER_GROUP": "998"}, taken={"EVERGREEN_UI_PORT": "9080"})
    return path


def changed(path: Path, name: str, value: str | None) -> Path:
    """The file with another value; none: without the line."""
    line = "" if value is None else f"{name}={value}\n"
    text = re.sub(f"^{name}=.*\n", lambda _: line, path.read_text(), flags=re.MULTILINE)
    path.write_text(text)
    return path


def test_the_first_is_private_good_and_all_its_own(written: Path) -> None:
    values = env_file.check(written)
    assert written.stat().st_mode & 0o777 == 0o600
    assert len({values[name] for name in SECRETS}) == len(SECRETS)
    assert (values["EVERGREEN_UI_PORT"], values["EVERGREEN_SERVING_PORT"]) == ("9080", "8000")
    assert (values["EVERGREEN_BIND"], values["DOCKER_GROUP"]) == ("127.0.0.1", "998")
    assert [file.name for file in written.parent.iterdir()] == [".env"]


def test_it_is_written_once(written: Path) -> None:
    before = written.read_text()
    assert not env_file.ensure(written, {})
    assert written.read_text() == before


@pytest.mark.parametrize("name", SECRETS)
def test_a_missing_secret_is_named(written: Path, name: str) -> None:
    with pytest.raises(Refused, match=rf"^\.env, {name}: found nothing; allowed: [^\n]*$"):
        env_file.check(changed(written, name, None))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", "nothing"),
        ("Xk3_vb7Qm2", "10 characters"),
        ("changeme-changeme-changeme", "one that can be guessed"),
        ("Evergreen-production-2026", "one that can be guessed"),
        ("abababababababababab", "one that can be guessed"),
        ("Xk3/vb7Q@m2$uR9wZ1:tY", "characters that a URL cannot hold"),
    ],
)
def test_a_weak_secret_is_named_and_not_shown(written: Path, value: str, found: str) -> None:
    with pytest.raises(Refused, match=rf"^\.env, AIRFLOW_DB_PASSWORD: found {found}") as refused:
        env_file.check(changed(written, "AIRFLOW_DB_PASSWORD", value))
    assert not value or value not in str(refused.value)


def test_a_fernet_key_must_be_one(written: Path) -> None:
    with pytest.raises(Refused, match=r"^\.env, AIRFLOW_FERNET_KEY: found no such key; allowed: 32 random bytes"):
        env_file.check(changed(written, "AIRFLOW_FERNET_KEY", "Xk3vb7Qm2uR9wZ1tYXk3vb7Qm2uR9wZ1tY"))


def test_all_problems_are_told_at_once(written: Path) -> None:
    written.chmod(0o644)
    changed(changed(written, "POSTGRES_PASSWORD", None), "EVERGREEN_SERVING_PORT", "9080")
    with pytest.raises(Refused) as refused:
        env_file.check(written)
    mode, secret, ports = str(refused.value).splitlines()
    assert mode == ".env: found mode 644; allowed: 600, it holds secrets. Do: chmod 600 .env"
    assert secret.startswith(".env, POSTGRES_PASSWORD: found nothing")
    assert ports.startswith(".env, EVERGREEN_UI_PORT and EVERGREEN_SERVING_PORT: found the same port")


def test_a_port_must_be_one(written: Path) -> None:
    with pytest.raises(Refused, match=r"^\.env, EVERGREEN_UI_PORT: found '808O'; allowed: 1 to 65535\.$"):
        env_file.check(changed(written, "EVERGREEN_UI_PORT", "808O"))


def test_the_example_lists_what_is_written(written: Path) -> None:
    assert list(env_file.read(ROOT / ".env.example")) == list(env_file.read(written))


def test_the_compose_file_asks_for_the_secrets_that_are_written_and_checked() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    required = set(re.findall(r"\$\{([A-Z_]+):\?", compose))
    without_default = set(re.findall(r"\$\{([A-Z_]+)\}", compose))
    assert required == set(SECRETS)
    assert without_default <= set(SECRETS)
