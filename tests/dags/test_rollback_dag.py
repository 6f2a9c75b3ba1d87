"""The DAG `rollback`: its form, in a fresh interpreter as Airflow's DAG processor reads it."""

from __future__ import annotations

from pathlib import Path

from read_dag import read
from spec_project import make_project, write_spec

GOOD = {"model": "delay", "to_version": None, "reason": "false alarms"}


def test_the_form_offers_the_valid_models_and_wants_a_reason(tmp_path: Path) -> None:
    root = make_project(tmp_path, "delay", "airtime", "broken")
    write_spec(root, "broken", ("task:", "tsk:"))
    wrong = [{"model": "broken"}, {"reason": ""}, {"reason": "no"}, {"to_version": 0}, {"to_version": "2"}]
    found = read(root, "rollback", GOOD, {**GOOD, "to_version": 3}, {}, *({**GOOD, **change} for change in wrong))
    assert found["params"]["model"]["enum"] == ["airtime", "delay"]
    assert found["found"][:2] == [GOOD, {**GOOD, "to_version": 3}]
    assert all(str(refused).startswith("ParamValidationError") for refused in found["found"][2:]), found["found"]
    assert found["tags"] == ["evergreen"]
    assert found["tasks"] == ["roll_back"]
    assert "release-hold" in found["doc"]


def test_without_a_valid_model_the_dag_still_loads(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    write_spec(root, "delay", ("task:", "tsk:"))
    assert "enum" not in read(root, "rollback")["params"]["model"]
