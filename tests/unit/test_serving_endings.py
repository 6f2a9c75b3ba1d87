"""Why a worker ended is counted by its kind and told for a while."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from evergreen.serving.replica.endings import CRASHED, HUNG, KILLED, OOM, Endings


def events(folder: Path, oom_kills: int) -> None:
    (folder / "memory.events").write_text(f"low 0\nhigh 0\nmax 12\noom {oom_kills}\noom_kill {oom_kills}\n")


@pytest.mark.parametrize(
    ("status", "hung", "oom_kills", "kind", "told"),
    [
        (-signal.SIGKILL, True, 7, HUNG, "it hung. "),
        (-signal.SIGKILL, False, 8, OOM, "the memory limit was reached. Raise the limit, or lower --workers"),
        (-signal.SIGKILL, False, 7, KILLED, "somebody sent it SIGKILL. "),
        (-signal.SIGTERM, False, 7, KILLED, "somebody sent it SIGTERM. "),
        (-signal.SIGSEGV, False, 7, CRASHED, "it crashed (SIGSEGV). "),
        (1, False, 8, CRASHED, "it crashed (exit status 1). "),
    ],
)
def test_an_end_is_counted_and_told(
    tmp_path: Path, status: int, hung: bool, oom_kills: int, kind: str, told: str
) -> None:
    events(tmp_path, 7)
    endings = Endings(tmp_path)
    assert endings.reasons() == []
    events(tmp_path, oom_kills)
    endings.add("1", status, hung=hung)
    assert {name: count for name, count in endings.counts.items() if count} == {kind: 1}
    (reason,) = endings.reasons()
    assert reason.text.startswith("Within the last 10 minutes worker 1 was started again: ")
    assert told in reason.text
    assert not reason.blocks


def test_it_is_told_for_a_while_and_counted_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endings = Endings(tmp_path / "no cgroup")
    endings.add("0", -signal.SIGKILL, hung=False)
    endings.add("1", -signal.SIGKILL, hung=False)
    assert "worker 1 " in endings.reasons()[0].text
    monkeypatch.setattr("evergreen.serving.replica.endings.TOLD_FOR", 0.0)
    assert endings.reasons() == []
    assert endings.counts[KILLED] == 2
