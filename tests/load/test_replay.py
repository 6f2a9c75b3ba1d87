"""`evergreen replay` with the real trainer and Great Expectations, and its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import Run, runner
from replaying import DRIFTS, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


def test_xgboost_is_replaced_after_a_drift(world: World) -> None:
    found = world.replay(real=True)
    last = found.periods[-1]
    assert last.evergreen < last.frozen / 5
    assert last.low > 1
    assert found.share(found.evergreen) > 0.5
    assert last.best_of > DRIFTS


def test_the_command_prints_a_table_and_writes_chart_and_page(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVERGREEN_PROJECT", str(world.root))
    monkeypatch.setenv("EVERGREEN_CONN_WAREHOUSE", world.url)
    words = ("replay", "delay", "--from", "2013-02-10", "--to", "2013-03-02", "--every", "10d")
    told = run(*words, "--chart", str(tmp_path / "c.png"), "--html", str(tmp_path / "r.html"))
    assert told.status == 0, told.err
    assert told.err == ""  # no bar where nobody looks
    assert all(len(line) <= 80 for line in told.out.splitlines())
    assert "until" in told.out
    assert "Gap from frozen to best in hindsight closed: Evergreen" in told.words
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "r.html").read_text()
    assert page.count("<tr>") == 2 + 2
    assert "http" not in page.replace("xmlns", "")
    own = (world.root / "models" / "delay" / "model.yaml").read_text()
    (tmp_path / "tried.yaml").write_text(own.replace("3 * * 0", "3 * * 6"))
    assert run(*words, "--spec", str(tmp_path / "tried.yaml"), "--json").json["periods"]
    plain = run(*words, "--json").json
    assert json.dumps(plain, allow_nan=False)
    assert [period["end"][:10] for period in plain["periods"]] == ["2013-02-20", "2013-03-02"]
    assert plain["retrains"]["every_period"] == 1
