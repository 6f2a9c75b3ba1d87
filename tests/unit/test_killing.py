"""The helper that kills programs at random moments: it kills while there is work, and says so where it could not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import killing
from killing import EndedBefore, Program, holds, moment


def count_slowly(folder: str) -> None:
    """Goes on where it was: a file for each of twenty steps."""
    for step in range(20):
        if not (path := Path(folder, str(step))).exists():
            path.write_text("done")
            time.sleep(0.02)


def leave_a_process(folder: str) -> None:
    """As a program whose child does not end with it."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    count_slowly(folder)


def fail(folder: str) -> None:
    """Never ends well."""
    Path(folder, "0").write_text("done")
    sys.exit("broken")


def program(act: object, folder: Path) -> Program:
    return Program(act, folder, at_work=lambda: any(folder.iterdir()))  # type: ignore[arg-type]


def done(folder: Path) -> int:
    """How many steps."""
    return len(list(folder.iterdir()))


def test_a_killed_program_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = program(count_slowly, tmp_path / "whole").run()
    killed = program(count_slowly, tmp_path / "killed")
    killed.kill(moment(1, of=5, within=whole))
    assert 1 <= done(tmp_path / "killed") < 20
    killed.run()
    assert done(tmp_path / "killed") == 20


def test_one_that_ends_before_its_moment_was_not_killed(tmp_path: Path) -> None:
    with pytest.raises(EndedBefore, match="ended with 0 before 30"):
        program(count_slowly, tmp_path / "m").kill(30)


def test_what_it_leaves_running_is_told_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killing, "ENDS", 0.1)
    with pytest.raises(AssertionError, match=r"left running: .*sleep"):
        program(leave_a_process, tmp_path / "m").kill(0.1)


def test_a_failure_comes_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended with 1:\nbroken"):
        program(fail, tmp_path / "m").run()


def test_a_folder_that_goes_while_it_is_looked_through_is_no_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir
    (tmp_path / "going").mkdir()

    def gone(path: str) -> object:
        if Path(path).name == "going":
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", gone)
    assert not holds(tmp_path, ".arrow")
    (tmp_path / "stays").mkdir()
    (tmp_path / "stays" / "0.arrow").touch()
    assert holds(tmp_path, ".arrow")
    assert not holds(tmp_path, ".parquet")


def test_moments_are_spread_and_repeat() -> None:
    found = [moment(seed, of=5, within=10) for seed in range(5)]
    assert found == [moment(seed, of=5, within=10) for seed in range(5)]
    assert [int(at / 1.9) for at in found] == [0, 1, 2, 3, 4]
