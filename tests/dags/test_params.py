"""The trigger form and the REST API's check of `conf`, as Airflow makes both from the DAG's params."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.exceptions import ParamValidationError
from airflow.sdk import Param
from airflow.sdk.definitions.param import process_params
from airflow.serialization.serialized_objects import DagSerialization

from evergreen.core import run_params
from evergreen.core.run_params import RunParams
from evergreen.orchestration.dag_factory import build_dag
from records import make_spec


@pytest.fixture(scope="module")
def params() -> Any:
    """As the API server has them: from the serialised DAG."""
    return DagSerialization.from_dict(DagSerialization.to_dict(build_dag(make_spec()))).params


def test_the_form_shows_every_parameter_and_all_may_be_left_out(params: Any) -> None:
    assert list(params) == list(RunParams.model_fields)
    for name in params:
        field = params.get_param(name)
        assert field.schema["title"]
        assert field.description
    assert params.validate() == {
        "reason": None, "force": False, "window_end": None, "window_train": None, "dry_run": False, "override": None,
        "requested_by": None, "tune": False,
    }  # fmt: skip
    assert params.get_param("window_end").schema["format"] == "date-time"


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"requested_by": "ada", "reason": "repaired"},
        {"reason": "", "force": None, "window_end": "", "window_train": "", "requested_by": None},
        {"dry_run": True, "override": None},
        {"override": 7, "reason": "the timetable changed"},
        {"force": True, "window_end": "2013-12-01T00:00:00.000Z", "window_train": "120d"},
    ],
)
def test_what_airflow_accepts_admit_accepts(params: Any, conf: dict[str, Any]) -> None:
    params.deep_merge(conf).validate()
    RunParams.of(conf)


@pytest.mark.parametrize(
    "conf",
    [
        {"force": "yes"},
        {"reason": 7},
        {"window_end": "2013-12-01"},
        {"window_end": "2013-12-01T00:00:00"},
        {"window_train": "3 months"},
        {"requested_by": "a" * 201},
    ],
)
def test_a_bad_conf_is_refused_before_a_run_is_made(params: Any, conf: dict[str, Any]) -> None:
    """`create_dagrun` validates so; the REST API answers 400 to its ParamValidationError."""
    with pytest.raises(ParamValidationError, match=f"Invalid input for param {next(iter(conf))}"):
        params.deep_merge(conf).validate()


# ---------------------------------------------------------------- in the process that runs a task


@pytest.fixture
def dag() -> Any:
    """As the task's process builds it."""
    return build_dag(make_spec())


def test_every_task_sees_the_parameters_of_its_run(dag: Any) -> None:
    conf = {"reason": "repaired", "dry_run": True}
    for task in dag.tasks:
        seen = process_params(dag, task, conf, suppress_exception=False)
        assert (seen["reason"], seen["dry_run"], seen["force"]) == ("repaired", True, False)


def test_what_one_run_was_given_another_dag_does_not_have(dag: Any) -> None:
    process_params(dag, dag.tasks[0], {"reason": "repaired"}, suppress_exception=False)
    another = build_dag(make_spec())
    assert process_params(another, another.tasks[0], {}, suppress_exception=False)["reason"] is None


@pytest.mark.parametrize("conf", [{"force": "yes"}, {"window_train": "3 months"}])
def test_a_bad_conf_is_refused_there_too(dag: Any, conf: dict[str, Any]) -> None:
    with pytest.raises(ParamValidationError):
        process_params(dag, dag.tasks[0], conf, suppress_exception=False)


def test_the_values_that_are_not_checked_are_right(dag: Any) -> None:
    """RunField trusts its defaults: Airflow's own Param accepts each of them."""
    for name, field in run_params.form().items():
        Param(**field).resolve()
        assert dag.params.get_param(name).value == field["default"]
