"""The components' logs: copied and emptied while their writers go on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from evergreen.supervisor import keeper
from evergreen.supervisor.rotation import rotate


def test_a_large_log_is_copied_and_emptied_and_three_copies_are_kept(tmp_path: Path) -> None:
    log, small = tmp_path / "serving.log", tmp_path / "mlflow.log"
    small.write_text("small")
    for turn in range(5):
        log.write_text(f"{turn}" * 11)
        assert rotate(tmp_path, limit=10) == ["serving.log"]
        assert log.read_text() == ""
    assert {path.name: path.read_text()[:1] for path in tmp_path.iterdir()} == {
        "serving.log": "", "serving.log.1": "4", "serving.log.2": "3", "serving.log.3": "2", "mlflow.log": "s",
    }  # fmt: skip
    assert rotate(tmp_path, limit=10) == []


def test_a_process_that_appends_goes_on_in_the_emptied_file(tmp_path: Path) -> None:
    log = tmp_path / "scheduler.log"
    code = "import sys\nfor line in sys.stdin: print('line', line.strip(), flush=True)"
    with log.open("ab") as out:  # as the keeper opens it
        writer = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=out, text=True)
    assert writer.stdin is not None

    def say(text: str, *, size: int) -> None:
        assert writer.stdin is not None
        writer.stdin.write(f"{text}\n")
        writer.stdin.flush()
        deadline = time.monotonic() + 10
        while log.stat().st_size < size:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    say("x" * 100, size=100)
    assert rotate(tmp_path, limit=50) == ["scheduler.log"]
    say("after", size=11)
    writer.stdin.close()
    assert writer.wait() == 0
    assert log.read_bytes() == b"line after\n"  # from its start: no hole where the old lines were
    assert (tmp_path / "scheduler.log.1").read_text() == f"line {'x' * 100}\n"


def test_a_copy_is_for_its_owner_only_as_the_log_is(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; os.umask(0o077)\n"
        "from evergreen.supervisor.rotation import rotate\n"
        "folder = pathlib.Path(sys.argv[1]); (folder / 'a.log').write_text('secret'); rotate(folder, limit=1)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert (tmp_path / "a.log.1").stat().st_mode & 0o777 == 0o600


def test_the_keeper_looks_at_them_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    monkeypatch.setattr(keeper, "rotate", lambda folder: looked.append(folder) or [])
    clock = [100.0]
    monkeypatch.setattr(keeper, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(keeper, "ROTATE", 0.2)
    made = keeper.Keeper.__new__(keeper.Keeper)
    made._home, made._rotate_at = tmp_path, 0.0
    for _ in range(6):
        made._keep_logs_small()
        clock[0] += 0.05
    assert looked == [tmp_path / "logs"] * 2
