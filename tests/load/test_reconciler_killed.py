"""A reconciler that is killed in the middle of its work loses no request and serves none twice, on SQLite."""

from __future__ import annotations

from pathlib import Path

from crowd import check, play


def test_a_hundred_requests_come_to_their_end_once_though_the_reconciler_is_killed_twice(tmp_path: Path) -> None:
    check(*play(f"sqlite:///{tmp_path / 'ledger.db'}", models=5, requests=100, kills=2))
