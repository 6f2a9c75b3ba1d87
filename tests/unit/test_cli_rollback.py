"""`evergreen rollback`, `hold`, `release-hold` and `history` on a real ledger, store and rehearsal."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import bundles
from commands import Run
from evergreen import wiring
from evergreen.adapters.file_store import FileStore
from evergreen.adapters.ledger import open_ledger
from evergreen.core.ports import Ledger
from evergreen.core.records import FLEET
from spec_project import make_project, write_spec


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model without a ledger; MLflow is down, and a rollback does not wait for it."""
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "9")  # so that they are put back
    return root


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which two versions were released; no replica serves them."""
    home = tmp_path_factory.mktemp("released")
    ledger, store = open_ledger(f"sqlite:///{home / 'ledger.db'}"), FileStore(str(home / "store"))
    for version in (1, 2):
        bundles.release(ledger, store, version=version, model="delay")
    return home


@pytest.fixture
def ledger(project: Path, released: Path) -> Ledger:
    """That of a copy of this home, the project's own."""
    settings = wiring.Settings.load()
    shutil.copytree(released, settings.home)
    return wiring.ledger(settings)


def champion(ledger: Ledger) -> int:
    return ledger.releases.live("default")[0].version


# ---------------------------------------------------------------- rollback


def test_rollback_says_what_it_does_and_how_to_go_on(run: Run, ledger: Ledger, project: Path) -> None:
    write_spec(project, "delay", ("task:", "tsk:"))  # a broken spec is no obstacle
    told = run("rollback", "delay", "--reason", "false alarms")
    assert told.status == 0, told.err
    assert champion(ledger) == 1
    progress = told.err.splitlines()
    assert progress[0] == "delay: from version 2 to version 1"
    assert progress[1].startswith("rehearsing version 1")
    assert max(map(len, told.out.splitlines())) <= 80
    for part in (
        "Rolled back delay from version 2 to version 1.",
        "Warning: no replica of pool 'default' is alive",
        "Warning: MLflow's aliases are not up to date",
        "To lift the hold: evergreen release-hold delay",
    ):
        assert part in told.words
    hold = ledger.holds.applying("delay")
    assert hold
    assert hold.reason == "false alarms"


def test_rollback_as_json(run: Run, ledger: Ledger) -> None:
    told = run("rollback", "delay", "--to", "1", "--reason", "false alarms", "--json")
    assert told.status == 0, told.err
    expected = {"model": "delay", "from_version": 2, "version": 1, "answers": False, "held": True}
    assert told.json.items() >= expected.items()
    assert len(told.json["warnings"]) == 2


def test_a_rollback_that_is_refused_changes_nothing(run: Run, ledger: Ledger) -> None:
    told = run("rollback", "delay", "--to", "7", "--reason", "false alarms")
    assert (told.status, told.out) == (1, "")
    assert "found a version that was never released; allowed: 1." in told.err
    store = wiring.store(wiring.Settings.load())
    _, other = bundles.make_bundle("delay", 1, predictions=[0.5] * 12)
    sealed = ledger.models.candidate("delay", 1).bundle
    store.put(f"bundles/{sealed}/golden.json", other["golden.json"])
    told = run("rollback", "delay", "--reason", "false alarms")
    assert told.status == 1
    assert "golden.json" in told.err
    assert (champion(ledger), ledger.holds.applying("delay")) == (2, None)


def test_before_anything_was_released_each_says_so(run: Run, project: Path) -> None:
    for command in (("rollback", "delay", "--reason", "x"), ("hold", "delay", "--reason", "x"), ("history",)):
        assert run(*command).err.startswith("evergreen: There is no ledger here yet")
    assert not (project / ".evergreen").exists()


def test_an_unknown_model_is_told_with_a_near_name(run: Run, ledger: Ledger) -> None:
    for command in ("rollback", "hold", "release-hold"):
        assert "Did you mean 'delay'?" in run(command, "dealy", "--reason", "x").err
    assert "Did you mean 'delay'?" in run("history", "dealy").err


@pytest.mark.parametrize("command", ["rollback", "hold", "release-hold"])
def test_a_reason_must_be_given(run: Run, ledger: Ledger, command: str) -> None:
    told = run(command, "delay")
    assert (told.status, told.out) == (2, "")
    assert "--reason" in told.err


# ---------------------------------------------------------------- hold


def test_hold_and_release_hold(run: Run, ledger: Ledger) -> None:
    told = run("hold", "delay", "--reason", "wrong fares")
    assert told.out.startswith("delay: held since ")
    assert told.out.splitlines()[0].endswith(": wrong fares.")
    assert told.out.splitlines()[1] == "To lift it: evergreen release-hold delay --reason …"
    assert run("hold", "delay", "--reason", "another").out.startswith("delay: already held since ")
    assert run("release-hold", "delay", "--reason", "repaired").out == "delay: the hold is lifted.\n"
    assert run("release-hold", "delay", "--reason", "repaired").out == "delay: was not held.\n"
    assert ledger.holds.applying("delay") is None


def test_a_hold_on_all_models_stays_when_one_models_hold_is_lifted(run: Run, ledger: Ledger) -> None:
    assert run("hold", "--all", "--reason", "migration", "--json").json["model"] == FLEET
    run("hold", "delay", "--reason", "wrong fares")
    told = run("release-hold", "delay", "--reason", "repaired").out.splitlines()
    assert told[0] == "delay: the hold is lifted."
    assert told[1].startswith("But all models are held since ")
    assert told[1].endswith("migration. To lift that: evergreen release-hold --all --reason …")
    assert run("release-hold", "--all", "--reason", "done", "--json").json["lifted"] is True
    assert ledger.holds.applying("delay") is None


@pytest.mark.parametrize("what", [(), ("delay", "--all")])
def test_hold_wants_one_model_or_all(run: Run, ledger: Ledger, what: tuple[str, ...]) -> None:
    told = run("hold", *what, "--reason", "x")
    assert told.status == 2
    assert "name one model, or write --all" in told.err
    assert ledger.holds.history() == []


# ---------------------------------------------------------------- history


def test_history_tells_when_what_which_who_and_why_within_80_columns(run: Run, ledger: Ledger) -> None:
    run("hold", "--all", "--reason", "the migration of the warehouse, which takes until Thursday evening or longer")
    told = run("history", "delay")
    assert max(map(len, told.out.splitlines())) <= 80
    assert told.out.split()[:5] == ["when", "what", "version", "who", "why"]
    for part in ("released 1 test for a test", "released 2 test for a test", "held (all"):
        assert part in told.words
    assert max(map(len, run("history").out.splitlines())) <= 80
    rows = run("history", "--json").json
    assert [(row["model"], row["what"], row["version"]) for row in rows] == [
        ("delay", "prepared", 1),
        ("delay", "released", 1),
        ("delay", "prepared", 2),
        ("delay", "replaced", 1),
        ("delay", "released", 2),
        ("all models", "held (all models)", None),
    ]


def test_history_since_a_time(run: Run, ledger: Ledger) -> None:
    ledger.holds.place("delay", by="ada", reason="later", now=datetime.now(UTC) + timedelta(hours=9))
    then = (datetime.now(UTC) + timedelta(hours=8)).isoformat()
    assert [row["what"] for row in run("history", "delay", "--since", then, "--json").json] == ["held"]
    assert len(run("history", "delay", "--since", "7d", "--json").json) == 6
    assert len(run("history", "delay", "--since", "2001-01-01", "--json").json) == 6
    assert run("history", "delay", "--since", "2999-01-01").out.startswith("Nothing happened to delay since 2999")
    told = run("history", "--since", "yesterday")
    assert told.status == 1
    assert "--since: found 'yesterday'; allowed: a day" in told.err


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_history_as_a_file_holds_all_columns(run: Run, ledger: Ledger, project: Path, kind: str) -> None:
    import polars as pl

    told = run("history", "delay", "--export", f"told.{kind}")
    assert told.status == 0, told.err
    assert told.out == f"Wrote 5 events to told.{kind}\n"
    file = project / f"told.{kind}"
    frame = pl.read_csv(file, try_parse_dates=True) if kind == "csv" else pl.read_parquet(file)
    assert frame.columns == ["time", "model", "what", "version", "who", "why"]
    assert frame["time"].dtype == pl.Datetime("us", "UTC")
    rows = [(row["what"], row["version"], row["why"]) for row in run("history", "delay", "--json").json]
    assert frame.select("what", "version", "why").rows() == rows
    assert [path.name for path in project.glob(".told*")] == []
    if kind == "csv":
        assert file.read_text().splitlines()[1].partition(",")[0].endswith("Z")


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("told.xlsx", "found a name that ends with '.xlsx'; allowed: .csv, .parquet"),
        ("told", "found a name without an ending; allowed: .csv, .parquet"),
        ("nowhere/told.csv", "found no folder nowhere"),
    ],
)
def test_history_refuses_a_file_of_another_kind(run: Run, ledger: Ledger, file: str, found: str) -> None:
    told = run("history", "--export", file)
    assert (told.status, told.out) == (1, "")
    assert found in told.err


def test_an_export_that_fails_leaves_the_older_file_as_it_was(
    run: Run, ledger: Ledger, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import polars as pl

    (project / "told.csv").write_text("older")

    def full(*args: object, **more: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_csv", full)
    with pytest.raises(OSError, match="No space"):
        run("history", "--export", "told.csv")
    assert (project / "told.csv").read_text() == "older"
    assert list(project.glob(".told*")) == []


def test_history_of_a_model_to_which_nothing_happened(run: Run, project: Path) -> None:
    settings = wiring.Settings.load()
    settings.home.mkdir()
    wiring.ledger(settings)
    assert run("history", "delay").out.startswith("Nothing happened yet to delay")
    assert run("history", "--json").json == []
