"""What several unit tests ask for."""

from __future__ import annotations

import pytest

from commands import Run, runner


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `evergreen` in this process, given the words of a command."""
    return runner(capsys)
