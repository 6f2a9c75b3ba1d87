"""The spec's own rules: durations, XGBoost's parameters, what others read from it, and what is generated from it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from evergreen.core import reference
from evergreen.core.spec import ModelSpec
from evergreen.core.spec_fields import SET_BY_EVERGREEN, TREE_PARAMS, format_duration, parse_duration
from evergreen.core.spec_shape import keys_of, parts
from records import make_spec

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("text", ["0s", "45s", "10m", "6h", "90d", "36500d", "90s", "25h"])
def test_a_duration_is_read_and_written_alike(text: str) -> None:
    assert format_duration(parse_duration(text)) == text


@pytest.mark.parametrize("wrong", ["", "d", "1.5h", "-1d", "1 d", "1w", "1D", "36501d", 5, None, True, "１d"])
def test_what_is_no_duration_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="a whole number and a unit"):
        parse_duration(wrong)


def test_a_spec_survives_json() -> None:
    spec = make_spec(cooldown="6h", approval={"timeout": "90m"})
    assert json.loads(spec.model_dump_json())["approval"]["timeout"] == "90m"
    assert ModelSpec.model_validate(json.loads(spec.model_dump_json())) == spec


def test_what_others_read() -> None:
    spec = make_spec(triggers=[{"schedule": "0 3 * * *"}, {"new_data": {"min_rows": 5}}, {"schedule": "0 4 * * *"}])
    assert spec.columns == ["id", "at", "x", "y"]
    assert spec.schedule == ["0 3 * * *", "0 4 * * *"]
    assert spec.new_data is not None
    assert spec.new_data.min_rows == 5
    assert make_spec(triggers=[]).new_data is None


def test_models_of_one_source_share_its_id_and_others_do_not() -> None:
    source = {"connection": "w", "event_time": "at", "key": "id"}
    ids = [make_spec(source={**source, **what}).source.id for what in (
        {"table": "t"}, {"table": "u"}, {"query": "select * from t"}, {"query": "select * from u"}
    )]  # fmt: skip
    files = [make_spec(source={"files": url, "event_time": "at", "key": "id"}).source.id for url in ("a.csv", "b.csv")]
    assert len({*ids, *files}) == 6
    assert make_spec(name="other", source={**source, "table": "t"}).source.id == ids[0]


def test_a_release_of_another_model_is_a_trigger() -> None:
    spec = make_spec(triggers=[{"upstream": "fares"}, {"upstream": "seats"}])
    assert (spec.upstream, spec.schedule, spec.new_data) == (["fares", "seats"], [], None)
    with pytest.raises(ValidationError, match="'fares' a second time"):
        make_spec(triggers=[{"upstream": "fares"}, {"upstream": "fares"}])


@pytest.mark.parametrize(
    ("trigger", "told"),
    [
        ({}, "none of 'schedule', 'new_data', 'upstream', 'metric' and 'recall'"),
        ({"schedule": "0 3 * * *", "upstream": "fares"}, "found 'schedule' and 'upstream'; allowed: one of them"),
    ],
)
def test_a_trigger_is_one_of_five(trigger: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make_spec(triggers=[trigger])


def test_a_second_new_data_trigger_is_refused() -> None:
    with pytest.raises(ValidationError, match="a second new_data"):
        make_spec(triggers=[{"new_data": {"min_rows": 5}}, {"new_data": {"min_rows": 9}}])


def test_a_gate_may_look_for_what_is_too_good() -> None:
    spec = make_spec(gates=[{"metric": "auc", "min": 0.6, "max": 0.99}, {"metric": "logloss", "max": 3}])
    assert spec.gates[0].max == 0.99


def test_all_refusals_of_one_check_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as refused:
        make_spec(features={"columns": ["id", "y", "x"]}, gates=[{"metric": "mae", "max": 1}])
    assert [error["loc"] for error in refused.value.errors()] == [
        ("features", "columns", 0),
        ("features", "columns", 1),
        ("gates", 0, "metric"),
    ]


def test_a_label_that_is_the_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="source's key or time"):
        make_spec(label={"column": "id", "arrives_after": "1d"})


def unused_by_xgboost(names: tuple[str, ...]) -> str:
    """What XGBoost says of parameters that it does not use, when it trains on one."""
    import numpy as np
    import xgboost as xgb

    values = {"tree_method": "hist", "device": "cpu", "grow_policy": "depthwise", "sampling_method": "uniform"}
    texts = {"monotone_constraints": "(0)", "interaction_constraints": "[[0]]"}
    params = {name: {**values, **texts}.get(name, 1) for name in names} | {"base_score": 0.5, "max_bin": 16}
    rows = xgb.DMatrix(np.array([[0.0], [1.0]]), label=[0, 1])
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        xgb.train({**params, "objective": "binary:logistic"}, rows, num_boost_round=1)
    return " ".join(str(warning.message) for warning in heard)


def test_xgboost_knows_every_parameter_that_a_spec_may_name() -> None:
    assert "not used" not in unused_by_xgboost(TREE_PARAMS)
    assert "max_dept" in unused_by_xgboost((*TREE_PARAMS, "max_dept"))


@pytest.mark.parametrize("name", SET_BY_EVERGREEN)
def test_a_parameter_that_evergreen_sets_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValidationError, match=SET_BY_EVERGREEN[name]):
        make_spec(training={"params": {name: 1}})


def test_a_parameter_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(ValidationError, match="an empty list"):
        make_spec(training={"params": {"max_depth": []}})


# ---------------------------------------------------------------- schema and page


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "models/_defaults.yaml").read_text())


def test_the_schema_in_docs_is_up_to_date(defaults: dict[str, Any]) -> None:
    written = (ROOT / reference.SCHEMA_FILE).read_text()
    assert written == reference.as_text(reference.json_schema(defaults)), "run: evergreen schema --write"


def test_the_page_in_docs_is_up_to_date_and_names_every_key() -> None:
    written = (ROOT / reference.PAGE_FILE).read_text()
    assert written == reference.markdown(), "run: evergreen schema --write"
    for _, part in parts():
        for name, field in keys_of(part).items():
            assert f"| `{name}` |" in written
            assert field.description, f"{part.__name__}.{name} is not described"


def test_the_projects_specs_are_right_in_the_schema_and_a_typo_is_not(defaults: dict[str, Any]) -> None:
    schema = reference.json_schema(defaults)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    files = sorted((ROOT / "models").glob("*/model.yaml"))
    assert files
    for file in files:
        assert file.read_text().startswith("# yaml-language-server: $schema=../../docs/model-spec.schema.json\n")
        spec = yaml.safe_load(file.read_text())
        assert list(validator.iter_errors(spec)) == []
        assert not validator.is_valid({**spec, "windw": {}})
        assert not validator.is_valid({**spec, "cooldown": "6 hours"})
        assert not validator.is_valid({key: value for key, value in spec.items() if key != "gates"})


def test_only_keys_that_the_defaults_do_not_give_are_required() -> None:
    bare, given = reference.json_schema({}), reference.json_schema({"owner": "x", "window": {"train": "90d"}})
    assert "owner" in bare["required"]
    assert "owner" not in given["required"]
    assert "window" in given["required"]  # its holdout is still missing
    assert given["$defs"]["Window"]["required"] == ["holdout"]
    whole = {"window": {"train": "90d", "holdout": {"length": "14d"}}}
    assert "window" not in reference.json_schema(whole)["required"]
