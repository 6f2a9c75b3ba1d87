"""What tests of approvals on a real Airflow look at, and the command that answers."""

from __future__ import annotations

import os
import subprocess
import sys

from airflow_world import World
from evergreen.adapters.airflow_api import Question
from evergreen.core.records import ApprovalState


def question_of(world: World, model: str, run_id: str) -> Question:
    question = world.api.question(model, run_id)
    assert question is not None
    return question


def command(world: World, *arguments: str, patience: float = 60) -> subprocess.CompletedProcess[str]:
    """An `evergreen` command in the stack's project."""
    environment = {**os.environ, "EVERGREEN_PROJECT": str(world.settings.root)}
    line = [sys.executable, "-m", "evergreen.cli", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=patience)


def states(world: World, model: str) -> list[ApprovalState]:
    return [question.state for question in world.ledger.approvals.history(model)]


def ended_without_release(world: World, model: str, run_id: str) -> str:
    """The run's note, once it has ended green without a release."""
    run = world.finished(model, run_id)
    assert run["state"] == "success"
    assert world.api.tasks(model, run_id)["roll_out"] == "skipped"
    assert world.ledger.releases.history(model) == []
    return str(run["note"])
