"""Specs that are kept as they were read: the same catalog as without, whatever changes or breaks in between."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from evergreen.core import catalog as module
from evergreen.core.catalog import Catalog, load_catalog
from evergreen.core.kept_specs import KeptSpecs
from spec_project import make_project, write_spec, write_suite


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path, "a", "b")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were parsed."""
    found: list[str] = []
    plain = module._read_layer

    def noting(root: Path, file: str, **more: bool) -> object:
        found.append(file)
        return plain(root, file, **more)

    monkeypatch.setattr(module, "_read_layer", noting)
    return found


def load(root: Path, only: str | None = None) -> Catalog:
    """With what is kept; the same as without."""
    found = load_catalog(root, only, kept=root / "home" / "specs.json")
    assert found == load_catalog(root, only)
    return found


def parsed(root: Path, read: list[str]) -> list[str]:
    """The specs that a load with what is kept has parsed."""
    read.clear()
    load_catalog(root, kept=root / "home" / "specs.json")
    return [file for file in read if file.endswith("model.yaml")]


def test_a_second_time_no_spec_is_parsed(project: Path, read: list[str]) -> None:
    assert list(load(project).specs) == ["a", "b"]
    assert parsed(project, read) == []
    assert list(load(project).specs) == ["a", "b"]


def test_a_changed_spec_is_parsed_and_the_others_are_not(project: Path, read: list[str]) -> None:
    load(project)
    write_spec(project, "a", ("train: 90d", "train: 30d"))
    assert parsed(project, read) == ["models/a/model.yaml"]
    assert load(project).specs["a"].window.train != load(project).specs["b"].window.train


def test_changed_defaults_are_seen_by_all(project: Path, read: list[str]) -> None:
    load(project)
    defaults = project / "models" / "_defaults.yaml"
    defaults.write_text(defaults.read_text().replace("ops@", "others@"))
    assert len(parsed(project, read)) == 2
    assert load(project).specs["a"].owner == "others@example.com"


def test_other_code_reads_all_anew(project: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load(project)
    monkeypatch.setattr("evergreen.core.kept_specs._code", lambda: b"another revision")
    assert len(parsed(project, read)) == 2


def test_a_suite_that_breaks_takes_its_model_away(project: Path) -> None:
    load(project)
    write_suite(project, "a", expectations=[])
    found = load(project)
    assert list(found.specs) == ["b"]
    assert [problem.file for problem in found.problems] == ["expectations/a.json"]
    (project / "expectations" / "b.json").unlink()
    assert list(load(project).specs) == []


def test_a_dag_file_that_takes_the_name_takes_the_model_away(project: Path) -> None:
    load(project)
    (project / "dags" / "a.py").write_text("")
    assert list(load(project).specs) == ["b"]


def test_a_folder_that_was_renamed_is_told(project: Path) -> None:
    load(project)
    (project / "models" / "a").rename(project / "models" / "c")
    assert [problem.field for problem in load(project).problems] == ["name"]


def test_what_is_wrong_is_told_each_time_with_its_line(project: Path) -> None:
    write_spec(project, "b", ("task:", "tsk:"))
    assert load(project).problems == load(project).problems != ()


def test_an_upstream_that_goes_is_told_with_its_line_by_a_spec_that_was_kept(project: Path) -> None:
    write_spec(project, "a", ('  - schedule: "0 3 * * *"\n', '  - schedule: "0 3 * * *"\n  - upstream: b\n'))
    assert load(project).problems == ()
    (project / "models" / "b" / "model.yaml").unlink()
    (project / "models" / "b").rmdir()
    [problem] = [one for one in load(project).problems if one.field]
    assert (problem.file, problem.field) == ("models/a/model.yaml", "triggers[2].upstream")
    assert problem.line


@pytest.mark.parametrize("damage", ["", "{", "\x00", "truncated", "changed", "a list"])
def test_a_damaged_file_is_as_good_as_none(project: Path, read: list[str], damage: str) -> None:
    load(project)
    file = project / "home" / "specs.json"
    whole = file.read_text()
    told = {"truncated": whole[:-9], "changed": whole.replace("90d", "10d"), "a list": "\n[]"}
    file.write_text(told.get(damage, damage))
    assert len(parsed(project, read)) == 2
    assert load(project).specs["a"].window.train.days == 90
    assert parsed(project, read) == []


def test_what_is_not_used_any_more_is_not_kept(project: Path) -> None:
    load(project)
    file = project / "home" / "specs.json"
    before = len(json.loads(file.read_text().partition("\n")[2]))
    (project / "models" / "b" / "model.yaml").unlink()
    (project / "models" / "b").rmdir()
    load(project)
    assert (before, len(json.loads(file.read_text().partition("\n")[2]))) == (2, 1)
    assert [path.name for path in file.parent.iterdir()] == ["specs.json"]


def test_values_that_json_would_change_are_not_kept(project: Path) -> None:
    kept = KeptSpecs(project / "one.json")
    kept.keep("date", "suite", {"at": date(2013, 1, 1)})
    kept.keep("key", "suite", {1: "a"})
    kept.keep("fine", "suite", {"a": [1, 1.5, True, None, "x"]})
    kept.write()
    again = KeptSpecs(project / "one.json")
    assert [again.find(key) is not None for key in ("date", "key", "fine")] == [False, False, True]


def test_a_home_that_cannot_be_written_costs_the_time_only(project: Path) -> None:
    (project / "home").write_text("a file, no folder")
    assert list(load(project).specs) == ["a", "b"]


def test_a_running_task_reads_its_own_spec_and_writes_nothing(project: Path) -> None:
    assert list(load(project, only="a").specs) == ["a"]
    assert not (project / "home").exists()
