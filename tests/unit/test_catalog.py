"""The catalog: what is read, what is refused, and that every problem is told at once with its place."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from evergreen.core.catalog import Problem, load_catalog, render
from spec_project import DEFAULTS, SPEC, make_project, write_spec, write_suite


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


def only_problem(root: Path) -> Problem:
    """The one problem there is."""
    catalog = load_catalog(root)
    assert len(catalog.problems) == 1, render(catalog.problems)
    return catalog.problems[0]


def test_a_right_project_has_its_models_by_name_and_no_problems(tmp_path: Path) -> None:
    catalog = load_catalog(make_project(tmp_path, "b", "a", "c"))
    assert catalog.problems == ()
    assert list(catalog.specs) == ["a", "b", "c"]


def test_an_empty_project_has_neither(tmp_path: Path) -> None:
    assert load_catalog(tmp_path).specs == {}
    assert load_catalog(tmp_path).problems == ()


def test_only_reads_one_models_folder(tmp_path: Path) -> None:
    root = make_project(tmp_path, "a", "b")
    write_spec(root, "b", ("task:", "tsk:"))
    catalog = load_catalog(root, only="a")
    assert (list(catalog.specs), catalog.problems) == (["a"], ())


# ---------------------------------------------------------------- defaults


def test_defaults_are_merged_key_by_key(project: Path) -> None:
    write_spec(project, "delay", ("gates:", "approval: {mode: auto}\ngates:"))
    spec = load_catalog(project).specs["delay"]
    assert spec.owner == "ops@example.com"
    assert (spec.approval.mode, spec.approval.timeout) == ("auto", timedelta(hours=24))
    assert (spec.validation.suite, spec.validation.quarantine.max_fraction) == ("delay", 0.01)


def test_a_models_list_replaces_that_of_the_defaults(project: Path) -> None:
    (project / "models/_defaults.yaml").write_text(
        DEFAULTS + "gates: [{metric: accuracy, min: 0.5}, {metric: brier, max: 1}]\n"
    )
    assert [gate.metric for gate in load_catalog(project).specs["delay"].gates] == ["auc"]


def test_an_unknown_key_of_the_defaults_is_told_once_and_there(tmp_path: Path) -> None:
    root = make_project(tmp_path, "a", "b")
    (root / "models/_defaults.yaml").write_text(DEFAULTS + "cooldwn: 6h\n")
    problem = only_problem(root)
    assert (problem.file, problem.line, problem.field) == ("models/_defaults.yaml", 5, "cooldwn")
    assert problem.do == "Did you mean 'cooldown'?"
    assert load_catalog(root).specs == {}


def test_an_unknown_key_of_the_defaults_is_told_without_any_model(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/_defaults.yaml").write_text("serving:\n  pol: default\n")
    problem = only_problem(tmp_path)
    assert (problem.line, problem.field, problem.do) == (2, "serving.pol", "Did you mean 'pool'?")


def test_a_wrong_value_that_comes_from_the_defaults_names_the_defaults(project: Path) -> None:
    (project / "models/_defaults.yaml").write_text(DEFAULTS.replace("0.01", "2"))
    problem = only_problem(project)
    assert (problem.place, problem.field) == ("models/_defaults.yaml:4", "validation.quarantine.max_fraction")
    assert (problem.found, problem.allowed) == ("2", "at most 1.0")


def test_a_name_for_all_models_is_refused(project: Path) -> None:
    (project / "models/_defaults.yaml").write_text(DEFAULTS + "name: delay\n")
    assert only_problem(project).place == "models/_defaults.yaml:5"


def test_broken_defaults_are_told_with_what_else_is_wrong_and_no_spec_is_valid(project: Path) -> None:
    (project / "models/_defaults.yaml").write_text("owner: [\n")
    write_spec(project, "delay", ("task: binary_classification", "task: binary"))
    catalog = load_catalog(project)
    assert [problem.file for problem in catalog.problems] == ["models/_defaults.yaml", "models/delay/model.yaml"]
    assert catalog.specs == {}


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_empty_defaults_share_nothing(project: Path, text: str) -> None:
    (project / "models/_defaults.yaml").write_text(text)
    assert (only_problem(project).field, only_problem(project).found) == ("owner", "nothing")


# ---------------------------------------------------------------- one thing wrong

WRONG = [
    # change, line, field, found, allowed, do
    (("task: bin", "tsk: bin"), [
        (1, "task", "nothing", "What kind of answer the model gives", "Add 'task', here or in models/_defaults.yaml."),
        (2, "tsk", "unknown key 'tsk'", "name, owner, task", "Did you mean 'task'?"),
    ]),
    (("connection: w", "conection: w"), [
        (4, "source.conection", "unknown key 'conection'", "connection, table, query", "Did you mean 'connection'?"),
    ]),
    (("  connection: warehouse\n", ""), [
        (3, "source.connection", "nothing", "Airflow connection id", "Add 'connection'"),
    ]),
    (("table: flights", "files: data/*.parquet"), [
        (4, "source.connection", "'warehouse' beside 'files'", "no connection", "Remove it; credentials"),
    ]),
    (("connection: warehouse\n  table: flights", "files: data/flights.xlsx"), [
        (4, "source.files", "'data/flights.xlsx'", "files that end in .parquet or .csv", "Name them so"),
    ]),
    (("connection: warehouse\n  table: flights", "files: sftp://me:s3cret@host/*.csv"), [
        (4, "source.files", "a URL with a password in it", "without user and password", "environment"),
    ]),
    (("- schedule:", "- schedul:"), [
        (17, "triggers[1].schedul", "unknown key 'schedul'", "schedule, new_data", "Did you mean 'schedule'?"),
    ]),
    (("length: 14d, min_rows: 1000}", "length: 14d}\nmin_rows: 5"), [
        (15, "min_rows", "unknown key", "name, owner", "stands under window.holdout and triggers[].new_data and mon"),
    ]),
    (("task: binary_classification", "task: binary_clasification"), [
        (2, "task", "'binary_clasification'", "binary_classification, multiclass_classification, regression",
         "Did you mean 'binary_classification'?"),
    ]),
    (("metric: auc", "metric: acu"), [
        (21, "gates[0].metric", "'acu'", "auc, logloss, brier, average_precision", "Did you mean 'auc'?"),
    ]),
    (("metric: auc", "metric: rmse"), [
        (21, "gates[0].metric", "'rmse'", "(for binary_classification)", "Choose a metric that this task has."),
    ]),
    (("min: 0.6}", "min: 60}"), [(21, "gates[0]", "min 60", "between 0 and 1", "no candidate could ever pass")]),
    ((", min: 0.6}", "}"), [(21, "gates[0]", "no limit", "'min', 'max' or both", "Write what")]),
    (("gates:\n  - {metric: auc, min: 0.6}", "gates: []"), [(20, "gates", "an empty list", "at least one entry", "")]),
    (("train: 90d", "train: 90"), [(13, "window.train", "90", "a whole number and a unit", "with its unit")]),
    (("train: 90d", "train: 0d"), [(13, "window.train", "'0d'", "longer than 0s", "")]),
    (("train: 90d", "train: 999999999d"), [(13, "window.train", "'999999999d'", "up to 36500d", "")]),
    (('"0 3 * * *"', "0 3 * *"), [(17, "triggers[1].schedule", "'0 3 * *' (not five fields)", "five fields", "")]),
    (('"0 3 * * *"', '"0 25 * * *"'), [(17, "triggers[1].schedule", "out of range", "five fields in UTC", "")]),
    (('"0 3 * * *"', '"0 3 31 2 *"'), [(17, "triggers[1].schedule", "failed to find next date", "five fields", "")]),
    (("min_rows: 5000", 'min_rows: "5000"'), [
        (16, "triggers[0].new_data.min_rows", "'5000'", "a whole number", "Write the number without quotes."),
    ]),
    (("min_rows: 5000", "min_rows: yes"), [(16, "triggers[0].new_data.min_rows", "true", "a whole number", "")]),
    (("min_rows: 5000", "min_rows: 0"), [(16, "triggers[0].new_data.min_rows", "0", "at least 1", "")]),
    (("[carrier, hour]", "[carrier, no]"), [
        (10, "features.columns[1]", "false", "a text", "Put it in quotes: YAML reads a bare yes, no, on or off"),
    ]),
    (("[carrier, hour]", "carrier"), [(10, "features.columns", "'carrier'", "a list", "")]),
    (("[carrier, hour]", "[carrier, hour, late]"), [(10, "features.columns[2]", "which is the label", "", "")]),
    (("[carrier, hour]", "[carrier, hour, id]"), [(10, "features.columns[2]", "which is the key", "", "Remove it")]),
    (("[carrier, hour]", "[carrier, hour, at]"), [(10, "features.columns[2]", "which is the event time", "", "")]),
    (("[carrier, hour]", "[carrier, hour, hour]"), [(10, "features.columns[2]", "'hour' a second time", "", "")]),
    (("categorical: [carrier]", "categorical: [carier]"), [
        (11, "features.categorical[0]", "'carier', which is not in", "carrier, hour", "Did you mean 'carrier'?"),
    ]),
    (("  table: flights\n", ""), [(3, "source", "none of 'table', 'query' and 'files'", "one of table", "")]),
    (("table: flights", "table: flights\n  query: select 1"), [(3, "source", "'table' and 'query'", "one of", "")]),
    (("table: flights", "query: drop table flights"), [(5, "source.query", "'drop table flights'", "one SELECT", "")]),
    (("source:\n", "source: flights\nxsource:\n"), [
        (3, "source", "'flights'", "a map with connection, table, query, files, event_time, key", "Correct the value."),
        (4, "xsource", "unknown key", "", "Did you mean 'source'?"),
    ]),
    (("gates:", "training: {params: {max_dept: 3}}\ngates:"), [
        (20, "training.params.max_dept", "unknown parameter 'max_dept'", "max_depth", "Did you mean 'max_depth'?"),
    ]),
    (("gates:", "training: {params: {seed: 3}}\ngates:"), [(20, "training.params.seed", "'seed'", "", "Remove it")]),
    (("gates:", "cooldown: 1h\ncooldown: 2h\ngates:"), [
        (21, "cooldown", "'cooldown' a second time (first on line 20)", "each key once", "Keep one of them"),
    ]),
    (("name: delay", "name: deley"), [(1, "name", "'deley'", "'delay', as the folder is called", "Write name: delay")]),
    (("name: delay", "name: Delay 1"), [
        (1, "name", "'Delay 1'", "'delay', as the folder is called", ""),
        (1, "name", "'Delay 1'", "lower-case letters, digits and -", ""),
    ]),
    (("name: delay", "name:"), [(1, "name", "nothing (null)", "a text", "Write its value.")]),
    (("suite: delay", "suite: dely"), [(19, "validation.suite", "no expectations/dely.json", "", "Did you mean")]),
]  # fmt: skip


def _id(case: object) -> str | None:
    return f"{case[0]} to {case[1]}".replace("\n", " ") if isinstance(case, tuple) else None


@pytest.mark.parametrize(("change", "expected"), WRONG, ids=_id)
def test_what_is_wrong_is_told_with_line_field_found_allowed_and_act(
    project: Path, change: tuple[str, str], expected: list[tuple[int, str, str, str, str]]
) -> None:
    write_spec(project, "delay", change)
    catalog = load_catalog(project)
    assert catalog.specs == {}
    told = [(p.line, p.field) for p in catalog.problems if p.file == "models/delay/model.yaml"]
    assert told == [(line, field) for line, field, *_ in expected], render(catalog.problems)
    for problem, (_, _, found, allowed, do) in zip(catalog.problems, expected, strict=True):
        assert found in problem.found
        assert allowed in problem.allowed
        assert do in problem.do
        assert "None" not in str(problem)


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("", 1, "an empty file"),
        ("# nothing yet\n", 1, "an empty file"),
        ("- a\n- b\n", 1, "a list of 2: a, b"),
        ("name: delay\nsource: [\n", 3, "broken YAML"),
        ("name: delay\nsource:\n\ttable: t\n", 3, "broken YAML"),
        ("name: delay\n---\nname: other\n", 2, "broken YAML"),
        ("name: !!python/object:os.system x\n", 1, "broken YAML"),
        ("name: \x01\n", None, "broken YAML"),
    ],
)
def test_what_is_no_spec_at_all(project: Path, text: str, line: int | None, found: str) -> None:
    (project / "models/delay/model.yaml").write_text(text)
    problem = only_problem(project)
    assert (problem.file, problem.line) == ("models/delay/model.yaml", line)
    assert found in problem.found


def test_bytes_that_are_not_utf8(project: Path) -> None:
    (project / "models/delay/model.yaml").write_bytes(SPEC.replace("NAME", "d\xe9lay").encode("latin-1"))
    assert only_problem(project).do == "Save the file as UTF-8."


# ---------------------------------------------------------------- names and folders


def test_two_folders_that_name_the_same_model(tmp_path: Path) -> None:
    root = make_project(tmp_path, "delay", "delay-copy")
    write_spec(root, "delay-copy", ("name: delay-copy", "name: delay"))
    problem = only_problem(root)
    assert problem.place == "models/delay-copy/model.yaml:1"
    assert problem.found == "'delay', which models/delay has already"
    assert problem.do == "Write name: delay-copy."
    assert list(load_catalog(root).specs) == ["delay"]


@pytest.mark.parametrize("name", ["monitoring", "rollback", "retraining", "nightly-report", "monitor", "hold"])
def test_a_name_that_a_dag_has_already(tmp_path: Path, name: str) -> None:
    root = make_project(tmp_path, name)
    (root / "dags/nightly_report.py").touch()
    assert only_problem(root).field == "name"
    assert load_catalog(root).specs == {}


def test_a_folder_whose_name_no_model_can_have(tmp_path: Path) -> None:
    root = make_project(tmp_path, "Flight_Delay")
    catalog = load_catalog(root)
    assert "models/Flight_Delay" in {problem.file for problem in catalog.problems}
    assert "Rename the folder" in render(catalog.problems)


def test_a_folder_without_a_spec(project: Path) -> None:
    (project / "models/empty").mkdir()
    problem = only_problem(project)
    assert (problem.file, problem.found) == ("models/empty", "no model.yaml")
    (project / "models/empty/model.yml").touch()
    assert only_problem(project).do == "Rename model.yml to model.yaml."
    assert list(load_catalog(project).specs) == ["delay"]


def test_files_and_hidden_folders_beside_the_models_are_no_models(project: Path) -> None:
    (project / "models/README.md").touch()
    for folder in (".git", "__pycache__"):
        (project / "models" / folder).mkdir()
    assert load_catalog(project).problems == ()


# ---------------------------------------------------------------- all at once


def test_every_problem_of_every_file_is_told_at_once_and_good_models_stay(tmp_path: Path) -> None:
    root = make_project(tmp_path, "bad", "good", "worse")
    write_spec(root, "bad", ("train: 90d", "train: 90"), ("metric: auc", "metric: acu"), ("table:", "tabel:"))
    write_spec(root, "worse", ("suite: worse", "suite: none"))
    write_suite(root, "bad", {"type": "expect_nothing", "kwargs": {}})
    catalog = load_catalog(root)
    told = [(problem.file, problem.field) for problem in catalog.problems]
    assert told == [
        ("expectations/bad.json", "expectations[0].type"),
        ("models/bad/model.yaml", "source.tabel"),
        ("models/bad/model.yaml", "window.train"),
        ("models/worse/model.yaml", "validation.suite"),
    ]
    assert list(catalog.specs) == ["good"]


def test_rendered_problems_fit_80_columns_and_name_everything(project: Path) -> None:
    write_spec(project, "delay", ("gates:", "training: {params: {max_dept: 3}}\ngates:"), ("task: b", "tsk: b"))
    problems = load_catalog(project).problems
    text = render(problems)
    assert max(len(line) for line in text.splitlines()) <= 80
    words = " ".join(text.split())
    for problem in problems:
        for part in (problem.file, f"line {problem.line}", problem.field, problem.found, problem.allowed, problem.do):
            assert part in words


def test_a_problem_is_one_readable_paragraph(project: Path) -> None:
    write_spec(project, "delay", ("- schedule:", "- schedul:"))
    assert str(only_problem(project)) == (
        "models/delay/model.yaml:17: triggers[1].schedul: found unknown key 'schedul'; "
        "allowed: schedule, new_data, upstream, metric, recall. Did you mean 'schedule'?"
    )


# ---------------------------------------------------------------- upstream models


def wait_for(root: Path, name: str, *others: str) -> None:
    triggers = "".join(f"\n  - upstream: {other}" for other in others)
    write_spec(root, name, ('- schedule: "0 3 * * *"', '- schedule: "0 3 * * *"' + triggers))


def test_an_upstream_model_must_be_there(tmp_path: Path) -> None:
    root = make_project(tmp_path, "fares", "seats")
    wait_for(root, "seats", "fares")
    assert load_catalog(root).specs["seats"].upstream == ["fares"]
    wait_for(root, "seats", "fare")
    problem = only_problem(root)
    assert (problem.place, problem.field) == ("models/seats/model.yaml:18", "triggers[2].upstream")
    assert (problem.found, problem.allowed, problem.do) == ("no model 'fare'", "fares", "Did you mean 'fares'?")
    assert list(load_catalog(root).specs) == ["fares"]


def test_an_upstream_model_whose_spec_is_broken_is_told_there_only(tmp_path: Path) -> None:
    root = make_project(tmp_path, "fares", "seats")
    wait_for(root, "seats", "fares")
    write_spec(root, "fares", ("train: 90d", "train: 90"))
    assert only_problem(root).file == "models/fares/model.yaml"
    assert list(load_catalog(root).specs) == ["seats"]


def test_models_that_wait_for_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    root = make_project(tmp_path, "a", "b", "c", "d", "own")
    for name, others in {"a": ["c", "d"], "b": ["a"], "c": ["b"], "own": ["own"]}.items():
        wait_for(root, name, *others)
    catalog = load_catalog(root)
    assert list(catalog.specs) == ["d"]
    assert [(p.file.split("/")[1], p.line, p.found) for p in catalog.problems] == [
        ("a", 18, "a circle: a → c → b → a"),
        ("b", 18, "a circle: b → a → c → b"),
        ("c", 18, "a circle: c → b → a → c"),
        ("own", 18, "a circle: own → own"),
    ]


def test_a_running_task_reads_no_other_models_spec(tmp_path: Path) -> None:
    root = make_project(tmp_path, "fares", "seats")
    wait_for(root, "seats", "fares")
    catalog = load_catalog(root, only="seats")
    assert (list(catalog.specs), catalog.problems) == (["seats"], ())
