"""`evergreen score` on a real ledger, store and files."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.bundles import CARRIERS, release

from commands import Run
from evergreen import wiring
from spec_project import make_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a model that was released, and rows in its folder."""
    root = make_project(tmp_path, "delay")
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    settings = wiring.Settings.load()
    settings.home.mkdir()
    release(wiring.ledger(settings), wiring.store(settings), version=1, model="delay")
    rows = {"id": range(4), "distance": [1.0, None, 3.0, 4.0], "hour": 9, "carrier": [*CARRIERS, "ZZ"]}
    pl.DataFrame(rows).write_parquet("in.parquet")
    return root


def test_it_scores_and_says_what_it_did(run: Run) -> None:
    told = run("score", "delay", "--input", "in.parquet", "--output", "out.parquet")
    assert told.status == 0, told.err
    assert told.err == ""  # no bar where nobody looks
    first, second, third = told.out.splitlines()
    assert first.startswith("delay version 1: 4 rows of 1 file scored in ")
    assert second == "Written: out.parquet"
    assert third.startswith("Not seen in training, answered as missing: carrier in 1 rows. The first is 'ZZ' (")
    assert pl.read_parquet("out.parquet").columns == ["id", "distance", "hour", "carrier", "prediction", "version"]
    assert "scored" in run("history", "delay").words


def test_json_and_the_columns_to_keep(run: Run) -> None:
    told = run("score", "delay", "--input", "*.parquet", "--output", "o.parquet", "--keep", "id, hour", "--json")
    assert (told.json["version"], told.json["rows"], told.json["unseen"]["carrier"]["rows"]) == (1, 4, 1)
    assert pl.read_parquet("o.parquet").columns == ["id", "hour", "prediction", "version"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("delay", "--output", "in.parquet"), "one of the input's files"),
        (("delay", "--output", "o.parquet", "--version", "9"), "version 9: found no such version; allowed: 1"),
        (("dela", "--output", "o.parquet"), "model 'dela'"),
        (("delay", "--output", "o.parquet", "--keep", "it"), "no column 'it'"),
    ],
)
def test_a_problem_is_told_and_nothing_written(run: Run, arguments: tuple[str, ...], told: str) -> None:
    found = run("score", *arguments, "--input", "in.parquet")
    assert found.status == 1
    assert told in found.err
    assert not Path("o.parquet").exists()
