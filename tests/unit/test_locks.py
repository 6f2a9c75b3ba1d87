"""The images' locks are requirements.txt, less what an image does not need; and the builds use them with care."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.markers import Marker

ROOT = Path(__file__).parents[2]
IMAGES = ("airflow", "serving", "mlflow")
GPU = {"xgboost", "nvidia-nccl-cu12"}
IN_AN_IMAGE = {
    "python_version": "3.11",
    "python_full_version": "3.11.2",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
    "os_name": "posix",
    "extra": "",
}
_PIN = re.compile(
    r"^(?P<name>[a-z0-9.-]+)(\[[a-z0-9,-]+\])?==(?P<version>\S+)(?: ; (?P<marker>[^\\]+))?"
    r"(?P<hashes>(?:\s*\\\n    --hash=sha256:[0-9a-f]{64})+)$",
    re.MULTILINE,
)


def read(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each package that a lock installs in an image, by name."""
    text = (ROOT / name).read_text()
    found: dict[str, tuple[str, frozenset[str]]] = {}
    pins = list(_PIN.finditer(text))
    assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)), f"{name}: a line is no pin with hashes"
    for pin in pins:
        if not pin["marker"] or Marker(pin["marker"].strip()).evaluate(IN_AN_IMAGE):
            assert pin["name"] not in found, f"{name}: two versions of {pin['name']}"
            found[pin["name"]] = pin["version"], frozenset(re.findall(r"sha256:\w+", pin["hashes"]))
    return found


@pytest.fixture(scope="module")
def lock() -> dict[str, tuple[str, frozenset[str]]]:
    return read("requirements.txt")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_the_versions_and_files_of_the_one_lock(
    image: str, lock: dict[str, tuple[str, frozenset[str]]]
) -> None:
    pins = read(f"requirements-{image}.txt")
    if image != "mlflow":
        assert pins.pop("xgboost-cpu")[0] == lock["xgboost"][0]
    assert {name: lock.get(name) for name in pins} == pins


def test_airflow_has_all_of_it_but_what_only_a_gpu_needs(lock: dict[str, tuple[str, frozenset[str]]]) -> None:
    assert set(read("requirements-airflow.txt")) == set(lock) - GPU | {"xgboost-cpu"}


def test_the_others_have_what_is_named_for_them() -> None:
    serving, mlflow = read("requirements-serving.txt"), read("requirements-mlflow.txt")
    heavy = ("apache-airflow", "mlflow", "great-expectations", "pandas", "scikit-learn", "polars", "pyarrow", "nvidia")
    assert not [name for name in serving if name.startswith(heavy)]
    assert {"mlflow", "psycopg2-binary"} <= set(mlflow)
    assert not [name for name in mlflow if name.startswith(("apache-airflow", "xgboost", "nvidia"))]


def test_no_lock_names_a_host_or_a_folder() -> None:
    for lock in ROOT.glob("requirements*.txt"):
        text = re.sub(r"^ *#.*", "", lock.read_text(), flags=re.MULTILINE)
        assert not re.findall(r"^.*(?:://| @ |--(?!hash=)|file:).*$", text, re.MULTILINE), lock.name


@pytest.mark.parametrize("image", IMAGES)
def test_a_build_installs_its_lock_before_it_copies_code(image: str) -> None:
    dockerfile = (ROOT / "docker" / image / "Dockerfile").read_text()
    lock = f"requirements-{image}.txt"
    install, revision = dockerfile.index(f"install-libraries /{lock}"), dockerfile.index("ARG EVERGREEN_REVISION")
    assert dockerfile.index(f"COPY {lock}") < install
    copies = [found.start() for found in re.finditer(r"^COPY (plugins|dags|models)", dockerfile, re.MULTILINE)]
    assert all(install < copy < revision for copy in copies)  # an edit or a commit installs nothing anew
    assert "syntax=" not in dockerfile  # it would be fetched from a registry
    assert (ROOT / "docker" / "install-libraries").read_text().count("--require-hashes") == 1


@pytest.mark.parametrize("image", IMAGES)
def test_a_build_uses_the_uv_that_wrote_the_locks(image: str) -> None:
    makefile = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    dockerfile = re.search(r"^ARG UV_VERSION=(\S+)$", (ROOT / f"docker/{image}/Dockerfile").read_text(), re.MULTILINE)
    assert makefile
    assert dockerfile
    assert dockerfile[1] == makefile[1]


def test_the_builder_is_sent_only_what_is_listed() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    listed = {line[1:] for line in lines if line.startswith("!")}
    code = {"dags", "docker", "expectations", "models", "plugins"}
    assert listed == code | {"requirements.txt", *(f"requirements-{image}.txt" for image in IMAGES)}
    assert "**/.env*" in lines[1:]
