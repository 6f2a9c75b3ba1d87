"""What every registry keeps: MLflow on SQLite, MLflow's server that passes artifacts on, and the in-memory twin."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from evergreen import wiring
from evergreen.adapters.mlflow_aliases import MlflowAliases
from evergreen.adapters.mlflow_registry import MlflowRegistry
from evergreen.core.errors import ServiceFailed
from evergreen.core.ports import LoggedTrial, Registry
from evergreen.core.rows import Rows
from evergreen.fakes.registry import FakeRegistry
from training_data import make_rows, make_spec

RUNNING = os.environ.get("EVERGREEN_TEST_MLFLOW")

Trial = tuple[str, dict[str, str], dict[str, float], str]  # name, params, metrics, status


@dataclass
class Shown:
    """What a person would find in the registry's pages, read without the adapter."""

    run: Callable[[str], dict[str, Any]]
    version: Callable[[str, int], dict[str, Any]]
    alias: Callable[[str, str], int]
    below: Callable[[str], list[Trial]]  # runs below a run, by name


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return dict(wiring.trainer().fit(make_spec(), Rows.of(make_rows(200))).files)


@pytest.fixture(scope="module")
def mlflow_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server whose artifacts can be reached through it only; EVERGREEN_TEST_MLFLOW may name one."""
    if RUNNING:
        yield RUNNING
        return
    place = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    stores = ("--backend-store-uri", f"sqlite:///{place / 'mlflow.db'}", "--serve-artifacts")
    own = ("--artifacts-destination", str(place / "hidden"), "--default-artifact-root", "mlflow-artifacts:/")
    address = ("--host", "127.0.0.1", "--port", port, "--workers", "1")
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *stores, *own, *address],
            cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while not answers(f"{url}/health"):
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module", params=["mlflow", "server", "fake"])
def both(request: pytest.FixtureRequest, mlflow_place: Path) -> Iterator[tuple[Registry, Shown]]:
    if request.param == "fake":
        fake = FakeRegistry()
        yield fake, shown_by_fake(fake)
    elif request.param == "server":
        url = request.getfixturevalue("server")
        yield MlflowRegistry(url, "mlflow-artifacts:/"), shown_by_mlflow(url, "mlflow-artifacts:/")
    else:
        url, artifacts = f"sqlite:///{mlflow_place / 'mlflow.db'}", (mlflow_place / "artifacts").as_uri()
        yield MlflowRegistry(url, artifacts), shown_by_mlflow(url, artifacts)


def shown_by_fake(fake: FakeRegistry) -> Shown:
    def run(run_id: str) -> dict[str, Any]:
        return {**vars(fake.runs[run_id])}

    def version(model: str, number: int) -> dict[str, Any]:
        kept = fake.versions[model, number]
        return {"tags": kept.tags, "description": fake.runs[kept.run_id].description, "run_id": kept.run_id}

    def below(run_id: str) -> list[Trial]:
        return [
            (
                name,
                {param: str(value) for param, value in one.params.items()},
                {metric: value for metric, value in one.metrics.items() if math.isfinite(value)},
                "FAILED" if one.failed else "FINISHED",
            )
            for name, one in sorted(fake.runs[run_id].trials.items())
        ]

    return Shown(run, version, lambda model, alias: fake.pointers[model, alias], below)


def shown_by_mlflow(url: str, artifacts: str) -> Shown:
    from mlflow import MlflowClient

    client = MlflowClient(url, url)

    def run(run_id: str) -> dict[str, Any]:
        found = client.get_run(run_id)
        assert found.info.artifact_uri.startswith(artifacts)
        data = found.data
        return {
            "params": data.params, "metrics": data.metrics, "tags": data.tags, "files": stored(client, run_id),
            "status": found.info.status, "description": data.tags.get("mlflow.note.content", ""),
        }  # fmt: skip

    def version(model: str, number: int) -> dict[str, Any]:
        found = client.get_model_version(model, str(number))
        return {"tags": found.tags, "description": found.description, "run_id": found.run_id}

    def below(run_id: str) -> list[Trial]:
        experiment = client.get_run(run_id).info.experiment_id
        found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
        return sorted((one.info.run_name, one.data.params, one.data.metrics, one.info.status) for one in found)

    def alias(model: str, name: str) -> int:
        return int(client.get_model_version_by_alias(model, name).version)

    return Shown(run, version, alias, below)


def stored(client: Any, run_id: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        if client.list_artifacts(run_id):
            client.download_artifacts(run_id, "", scratch)
        files = (file for file in Path(scratch).rglob("*") if file.is_file())
        return {file.relative_to(scratch).as_posix(): file.read_bytes() for file in files}


def test_a_run_is_found_again_by_its_name(both: tuple[Registry, Shown]) -> None:
    registry, shown = both
    first = registry.start_run("names", "request-1", {"evergreen.request": "request-1"})
    registry.end_run(first)
    assert shown.run(first)["status"] == "FINISHED"
    assert registry.start_run("names", "request-1", {"more": "1"}) == first
    assert shown.run(first)["status"] == "RUNNING"
    assert shown.run(first)["tags"].items() >= {"evergreen.request": "request-1", "more": "1"}.items()
    assert registry.start_run("names", "request-2", {}) != first
    assert registry.start_run("other-model", "request-1", {}) != first


def test_metrics_and_tags_are_replaced_and_params_are_kept(both: tuple[Registry, Shown]) -> None:
    registry, shown = both
    run = registry.start_run("logs", "request-1", {"a": "1"})
    registry.log(run, params={"max_depth": 6}, metrics={"auc": 0.6, "r2": math.nan}, tags={"a": "2"})
    registry.log(run, params={"max_depth": 6, "eta": 0.1}, metrics={"auc": 0.5})
    registry.log(run, params={"max_depth": 7})
    found = shown.run(run)
    assert found["params"] == {"max_depth": "6", "eta": "0.1"}
    assert found["metrics"] == {"auc": 0.5}
    assert found["tags"]["a"] == "2"
    assert found["tags"]["changed.max_depth"] == "7"


def test_files_lie_under_the_path_they_were_given(both: tuple[Registry, Shown]) -> None:
    registry, shown = both
    run = registry.start_run("files", "request-1", {})
    registry.log_file(run, "validation/result.json", b"old")
    registry.log_file(run, "validation/result.json", b"{}")
    registry.log_file(run, "note.bin", b"\x00\xff")
    assert shown.run(run)["files"] == {"validation/result.json": b"{}", "note.bin": b"\x00\xff"}


def test_a_file_is_read_again_and_what_is_not_there_is_told(both: tuple[Registry, Shown]) -> None:
    registry, _ = both
    assert registry.find_run("read", "request-1") is None
    run = registry.start_run("read", "request-1", {})
    assert (registry.find_run("read", "request-1"), registry.find_run("read", "request-2")) == (run, None)
    registry.log_file(run, "validation/result.json", b"{}")
    registry.log_file(run, "note.bin", b"\x00\xff")
    assert registry.logged_file(run, "validation/result.json") == b"{}"
    assert registry.logged_file(run, "note.bin") == b"\x00\xff"
    for unknown in ((run, "validation/other.json"), (run, "nowhere/result.json"), (run, "validation"), ("f" * 32, "a")):
        with pytest.raises(KeyError):
            registry.logged_file(*unknown)


def test_a_run_registers_a_version_once(both: tuple[Registry, Shown], files: dict[str, bytes]) -> None:
    registry, shown = both
    run = registry.start_run("models", "request-1", {})
    tags = {"evergreen.bundle": "abc", "evergreen.request": "request-1"}
    assert registry.register("models", run, files, tags) == 1
    assert registry.register("models", run, files, tags) == 1
    other = registry.start_run("models", "request-2", {})
    assert registry.register("models", other, files, {"evergreen.bundle": "def"}) == 2
    assert registry.register("models", run, files, {**tags, "evergreen.bundle": "ghi"}) == 3
    assert shown.version("models", 1)["run_id"] == run
    assert shown.version("models", 1)["tags"] == tags
    stored = shown.run(run)["files"]
    assert {name: stored[f"bundle/{name}"] for name in files} == files
    registry.set_alias("models", "challenger", 1)
    registry.set_alias("models", "challenger", 2)
    assert shown.alias("models", "challenger") == 2
    registry.set_alias("models", "champion", 1)
    assert registry.aliases("models") == {"challenger": 2, "champion": 1}


def test_a_description_stands_on_the_run_and_its_version(both: tuple[Registry, Shown], files: dict[str, bytes]) -> None:
    registry, shown = both
    run = registry.start_run("described", "request-1", {})
    registry.register("described", run, files, {})
    registry.describe(run, "**first**")
    registry.describe(run, "| gate | kept |")
    assert shown.run(run)["description"] == shown.version("described", 1)["description"] == "| gate | kept |"


def test_a_failed_run_says_so(both: tuple[Registry, Shown]) -> None:
    registry, shown = both
    run = registry.start_run("ends", "request-1", {})
    registry.end_run(run, failed=True)
    assert shown.run(run)["status"] == "FAILED"


def test_a_model_without_a_version_has_no_alias(both: tuple[Registry, Shown]) -> None:
    assert both[0].aliases("never-made") == {}


def test_an_alias_needs_its_version(both: tuple[Registry, Shown]) -> None:
    with pytest.raises(Exception, match=r"not found|no version"):
        both[0].set_alias("nothing", "challenger", 1)


# ---------------------------------------------------------------- MLflow only


def test_the_aliases_alone_are_those_of_the_registry(server: str, files: dict[str, bytes]) -> None:
    whole, alone = MlflowRegistry(server, "mlflow-artifacts:/"), MlflowAliases(server)
    assert alone.aliases("aliased") == {}
    first, second = (whole.register("aliased", whole.start_run("aliased", f"r{n}", {}), files, {}) for n in (1, 2))
    alone.set_alias("aliased", "champion", first)
    whole.set_alias("aliased", "challenger", second)
    assert alone.aliases("aliased") == whole.aliases("aliased") == {"champion": first, "challenger": second}
    alone.set_alias("aliased", "champion", second)
    assert whole.aliases("aliased")["champion"] == second
    with pytest.raises(ServiceFailed, match="not found"):
        alone.set_alias("aliased", "champion", 99)
    with pytest.raises(ServiceFailed, match="does not answer"):
        MlflowAliases("http://127.0.0.1:1").aliases("aliased")


@pytest.mark.parametrize("through", ["folder", "server"])
def test_mlflow_users_can_load_a_version(
    request: pytest.FixtureRequest,
    through: str,
    mlflow_place: Path,
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow

    from evergreen.core.bundle import MODEL

    monkeypatch.chdir(tmp_path)
    url, artifacts = f"sqlite:///{mlflow_place / 'mlflow.db'}", (mlflow_place / "artifacts").as_uri()
    if through == "server":
        url, artifacts = request.getfixturevalue("server"), "mlflow-artifacts:/"
    registry = MlflowRegistry(url, artifacts)
    run = registry.start_run("loadable", "request-1", {})
    version = registry.register("loadable", run, files, {})
    assert list(tmp_path.iterdir()) == []  # no ./mlruns
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    booster = mlflow.xgboost.load_model(f"models:/loadable/{version}")
    info = mlflow.models.get_model_info(f"models:/loadable/{version}")
    assert bytes(booster.save_raw("ubj")) == files[MODEL]
    assert info.signature.inputs.input_names() == ["x", "carrier", "count"]
    assert info.run_id == run


def test_an_experiment_keeps_its_place(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    url, before = f"sqlite:///{tmp_path / 'mlflow.db'}", (tmp_path / "before").as_uri()
    MlflowRegistry(url, before).start_run("m", "request-1", {})
    moved = MlflowRegistry(url, (tmp_path / "after").as_uri())
    moved.log_file(moved.start_run("m", "request-2", {}), "note.txt", b"here")
    assert MlflowClient(url, url).get_experiment_by_name("m").artifact_location == f"{before}/m"
    assert [file.name for file in (tmp_path / "before").rglob("*.txt")] == ["note.txt"]
    moved.start_run("new", "request-1", {})
    assert MlflowClient(url, url).get_experiment_by_name("new").artifact_location.endswith("/after/new")


def test_an_experiment_in_mlflows_bin_is_taken_out_again(mlflow_place: Path) -> None:
    from mlflow import MlflowClient

    url = f"sqlite:///{mlflow_place / 'mlflow.db'}"
    registry = MlflowRegistry(url, (mlflow_place / "artifacts").as_uri())
    registry.start_run("binned", "request-1", {})
    client = MlflowClient(url, url)
    client.delete_experiment(client.get_experiment_by_name("binned").experiment_id)
    assert registry.start_run("binned", "request-2", {})


def test_trials_are_runs_of_their_own_below_a_run_and_logged_once(both: tuple[Registry, Shown]) -> None:
    registry, shown = both
    run = registry.start_run("flights", "tuned", {})
    trials = [
        LoggedTrial(f"s-{at}", {"max_depth": at}, {"score": 0.7, "bad": math.nan}, {"kind": "sampled"}, failed=at == 2)
        for at in range(3)
    ]
    registry.log_trials(run, trials[:2])
    registry.log_trials(run, trials)
    assert shown.below(run) == [
        (f"s-{at}", {"max_depth": str(at)}, {"score": 0.7}, "FAILED" if at == 2 else "FINISHED") for at in range(3)
    ]
    assert registry.start_run("flights", "tuned", {}) == run
