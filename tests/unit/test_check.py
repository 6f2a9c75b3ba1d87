"""`evergreen check` as a person or a script runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evergreen.cli import main
from spec_project import make_project, write_spec, write_suite

ROOT = Path(__file__).parents[2]
STARTS = 20  # at most
HEAVY = {
    "airflow", "mlflow", "great_expectations", "xgboost", "pandas", "polars", "sqlalchemy", "numpy", "sklearn",
    "matplotlib", "httpx", "psutil",
}  # fmt: skip
PROBE = """
import sys
from evergreen.cli import main
try:
    main(["check"])
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path, "bad", "good")
    monkeypatch.chdir(root)
    return root


def run(*arguments: str) -> int:
    """The exit status."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_this_project_is_right_and_the_check_is_light_and_quick() -> None:
    """At its best, because other work on the machine is not the check's."""
    seconds: list[float] = []
    while len(seconds) < STARTS and min(seconds, default=1) >= 1:
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT / "docs", capture_output=True, text=True)
        seconds.append(time.monotonic() - began)
        assert done.returncode == 0, done.stdout + done.stderr
        assert HEAVY & set(done.stderr.split()) == set()
    assert "flight-delay" in done.stdout
    assert min(seconds) < 1


def test_problems_are_all_told_and_the_status_is_1(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_spec(project, "bad", ("task:", "tsk:"), ("suite: bad", "suite: none"))
    write_suite(project, "good", expectations=[])
    assert run("check") == 1
    told = capsys.readouterr().out
    for part in ("models/bad/model.yaml", "Did you mean 'task'?", "expectations/good.json", "3 problems in 2 files."):
        assert part in told
    assert max(map(len, told.splitlines())) <= 80


def test_a_missing_suite_is_told_beside_the_rest(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "expectations/bad.json").unlink()
    assert run("check") == 1
    assert "'bad', but no expectations/bad.json" in capsys.readouterr().out


def test_it_works_from_any_folder_of_the_project(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project / "models/good")
    assert run("check") == 0
    assert "2 models, no problems." in capsys.readouterr().out


def test_json_for_a_script(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_spec(project, "bad", ("metric: auc", "metric: acu"))
    assert run("check", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert [model["model"] for model in told["models"]] == ["good"]
    [problem] = told["problems"]
    assert (problem["file"], problem["line"], problem["field"]) == ("models/bad/model.yaml", 21, "gates[0].metric")
    assert set(problem) == {"file", "line", "field", "found", "allowed", "do"}


def test_a_project_without_models(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bad", "good"):
        (project / f"models/{name}/model.yaml").unlink()
        (project / "models" / name).rmdir()
    assert run("check") == 0
    assert "No models yet" in capsys.readouterr().out
