"""Expectation suites are checked against Great Expectations' own list, without importing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evergreen.core.catalog import Problem, load_catalog, render
from evergreen.core.gx_expectations import FILE
from spec_project import SUITE, make_project, write_spec, write_suite

BETWEEN = "expect_column_values_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


def problems_with(root: Path, *expectations: dict[str, Any]) -> list[Problem]:
    """The problems of a suite of these expectations."""
    write_suite(root, "delay", *expectations)
    return list(load_catalog(root).problems)


def test_the_list_is_that_of_the_installed_library() -> None:
    from evergreen.adapters.gx_list import generate

    assert FILE.read_text() == generate(), "run: python -m evergreen.adapters.gx_list"


def test_the_projects_suites_keep_every_expectation_when_the_library_reads_them() -> None:
    """The library drops what it does not know: none may be missing."""
    import great_expectations as gx

    files = sorted((Path(__file__).parents[2] / "expectations").glob("*.json"))
    assert files
    for file in files:
        suite = json.loads(file.read_text())
        read = gx.ExpectationSuite(name=suite["name"], expectations=suite["expectations"])
        assert len(read.expectations) == len(suite["expectations"])


REFUSED_BY_GX = [
    {"type": BETWEEN, "kwargs": {"column": "hour", "min": 0, "max_value": 23}},
    {"type": BETWEEN, "kwargs": {"column": "hour"}},
    {"type": BETWEEN, "kwargs": {"column": "hour", "min_value": "zero"}},
    {"type": BETWEEN, "kwargs": {"column": "hour", "min_value": 0, "mostly": 1.5}},
    {"type": BETWEEN, "kwargs": {"min_value": 0}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "hour", "value_set": "abc"}},
    {
        "type": "expect_column_pair_values_to_be_equal",
        "kwargs": {"column_A": "id", "column_B": "at", "ignore_row_if": "x"},
    },
]


@pytest.mark.parametrize("expectation", REFUSED_BY_GX, ids=lambda e: json.dumps(e["kwargs"]))
def test_what_the_library_would_refuse_at_run_time_is_told_before(project: Path, expectation: dict[str, Any]) -> None:
    import great_expectations as gx

    with pytest.raises(ValueError, match="validation error"):
        gx.ExpectationSuite(name="delay", expectations=[expectation])
    assert problems_with(project, expectation)


@pytest.mark.parametrize(
    "expectation",
    [
        {"type": BETWEEN, "kwargs": {"column": "at", "min_value": "2013-01-01", "mostly": 1}},
        {"type": BETWEEN, "kwargs": {"column": "hour", "min_value": None, "max_value": 23, "strict_max": True}},
        {"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": ["id", "at"], "exact_match": False}},
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "severity": "warning", "id": "x"},
        {"type": "expect_column_quantile_values_to_be_between", "kwargs": {
            "column": "hour", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[5, 20]]}}},
        {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "carrier", "regex": "\\d/\ud83d"}},
    ],
)  # fmt: skip
def test_what_the_library_takes_is_no_problem(project: Path, expectation: dict[str, Any]) -> None:
    import great_expectations as gx

    gx.ExpectationSuite(name="delay", expectations=[expectation])
    assert problems_with(project, expectation) == []


@pytest.mark.parametrize(
    ("expectation", "field", "found", "do"),
    [
        ({"type": "expect_column_values_to_be_betwen", "kwargs": {}}, "type", "betwen'", f"Did you mean '{BETWEEN}'?"),
        ({"type": "check_it", "kwargs": {}}, "type", "'check_it'", "drop it silently"),
        ({"kwargs": {"column": "id"}}, "type", "nothing", "Look the name up"),
        (
            {"expectation_type": NOT_NULL, "kwargs": {}},
            "expectation_type",
            "'expectation_type'",
            "Export the suite again",
        ),
        ({"type": NOT_NULL}, "kwargs", "no 'column'", "Add 'column'."),
        ({"type": NOT_NULL, "kwargs": []}, "kwargs", "an empty list", "as a map"),
        ({"type": NOT_NULL, "kwarg": {}, "kwargs": {"column": "id"}}, "kwarg", "unknown key", "Did you mean 'kwargs'?"),
        ({"type": NOT_NULL, "kwargs": {"colum": "id"}}, "kwargs.colum", "unknown argument", "Did you mean 'column'?"),
        (
            {"type": NOT_NULL, "kwargs": {"column": "huor"}},
            "kwargs.column",
            "'huor', which delay does not read",
            "'hour'?",
        ),
        ({"type": NOT_NULL, "kwargs": {"column": "id"}, "severity": "bad"}, "severity", "'bad'", "Choose one"),
        (
            {"type": "expect_table_columns_to_match_set", "kwargs": {"column_set": ["id", "tail"]}},
            "kwargs.column_set[1]",
            "'tail', which delay does not read",
            "name the column in the spec",
        ),
        (
            {"type": "unexpected_rows_expectation", "kwargs": {"unexpected_rows_query": "select 1"}},
            "type",
            "which needs a database",
            "Choose one",
        ),
        ("expect_something", "", "'expect_something'", "as a map"),
    ],
)
def test_what_is_wrong_in_an_expectation(project: Path, expectation: Any, field: str, found: str, do: str) -> None:
    problems = problems_with(project, {"type": NOT_NULL, "kwargs": {"column": "id"}}, expectation)
    told = {problem.field: problem for problem in problems}
    problem = told[f"expectations[1].{field}".rstrip(".")]
    assert found in problem.found
    assert do in problem.do
    text = (project / "expectations/delay.json").read_text().splitlines()
    assert problem.line is not None
    named = field.split(".")[-1].split("[")[0]
    assert named in "".join(text[problem.line - 2 : problem.line]) or problem.line > 7  # the key's line, or its map's


def test_the_line_is_that_of_the_argument(project: Path) -> None:
    [problem] = problems_with(project, *SUITE["expectations"], {"type": NOT_NULL, "kwargs": {"column": "huor"}})
    line = (project / "expectations/delay.json").read_text().splitlines()[problem.line - 1]
    assert line.strip() == '"column": "huor"'


def test_an_empty_suite_would_let_everything_pass(project: Path) -> None:
    write_suite(project, "delay", expectations=[])
    [problem] = load_catalog(project).problems
    assert (problem.file, problem.field, problem.found) == ("expectations/delay.json", "expectations", "an empty list")
    assert load_catalog(project).specs == {}


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("", 1, "broken JSON"),
        ('{"name": "delay",\n "expectations": [}', 2, "broken JSON"),
        ("[]", 1, "an empty list"),
        ('{"name": "delay"}', 1, "nothing"),
        ('{"name": "delay", "expectations": {}}', 1, "an empty map"),
    ],
)
def test_what_is_no_suite(project: Path, text: str, line: int, found: str) -> None:
    (project / "expectations/delay.json").write_text(text)
    [problem] = load_catalog(project).problems
    assert (problem.file, problem.line) == ("expectations/delay.json", line)
    assert found in problem.found


def test_a_suite_of_another_name(project: Path) -> None:
    write_suite(project, "delay", name="dealy")
    [problem] = load_catalog(project).problems
    assert (problem.line, problem.field, problem.found) == (2, "name", "'dealy'")


def test_a_key_twice(project: Path) -> None:
    file = project / "expectations/delay.json"
    file.write_text(file.read_text().replace('"name": "delay",', '"name": "delay",\n  "name": "delay",'))
    [problem] = load_catalog(project).problems
    assert (problem.line, problem.field, problem.found) == (3, "name", "'name' a second time")


def test_json_that_is_no_yaml_is_told_without_its_line(project: Path) -> None:
    file = project / "expectations/delay.json"
    suite = (
        file.read_text().replace('"hour"', '"huor"').replace('"meta": {}\n}', '"meta": {"face": "\\ud83d\\ude00"}\n}')
    )
    file.write_text(suite)
    [problem] = load_catalog(project).problems
    assert (problem.line, problem.field) == (None, "expectations[1].kwargs.column")


def test_a_suite_that_no_model_names_is_checked_too(project: Path) -> None:
    write_suite(project, "spare", {"type": "expect_nothing", "kwargs": {"column": "any"}})
    [problem] = load_catalog(project).problems
    assert problem.file == "expectations/spare.json"
    assert list(load_catalog(project).specs) == ["delay"]


def test_a_suite_that_two_models_share_is_checked_for_the_columns_of_each(project: Path) -> None:
    write_spec(project, "other", ("suite: other", "suite: delay"), ("[carrier, hour]", "[carrier, minute]"))
    catalog = load_catalog(project)
    assert [problem.found for problem in catalog.problems] == ["'hour', which other does not read"], render(
        catalog.problems
    )
    assert list(catalog.specs) == ["delay"]
