"""Commands of `evergreen`, run in this process as a person would type them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from evergreen.cli import main


@dataclass
class Told:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """stdout on one line."""
        return " ".join(self.out.split())

    @property
    def json(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)


Run = Callable[..., Told]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command, given as its words."""

    def run_command(*arguments: str) -> Told:
        status = 0
        try:
            main(list(arguments))
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Told(status, *capsys.readouterr())

    return run_command
