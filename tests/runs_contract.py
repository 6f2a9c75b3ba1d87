"""What everything that runs models' DAGs does: a real Airflow (tests/e2e), and the one in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evergreen.core.errors import FoundProblem, ServiceFailed
from evergreen.core.ports import Runs, RunState


@dataclass
class Rig:
    """Runs, and the way to look at them.

    `model` has a DAG that asks a person, `paused` one that is paused. `conf` gives a run's parameters. `wait` returns
    once the run waits for an answer, `goes_on` once it does not any more. `away` are the runs of an Airflow that does
    not answer.
    """

    runs: Runs
    model: str
    paused: str
    conf: Callable[[str], Mapping[str, Any]]
    wait: Callable[[str], None]
    goes_on: Callable[[str], None]
    away: Runs


class RunsContract:
    """Tests of one kind of runs; a subclass has the fixture `rig`, which all tests share, in this order."""

    def test_a_run_that_nobody_started_is_not_there(self, rig: Rig) -> None:
        assert rig.runs.state(rig.model, "contract") is None
        assert rig.runs.state("no-such-model", "contract") is None

    def test_a_run_has_the_id_and_the_parameters_that_it_was_started_with_and_twice_is_once(self, rig: Rig) -> None:
        rig.runs.start(rig.model, "contract", {"requested_by": "ann"})
        assert rig.runs.state(rig.model, "contract") in (RunState.QUEUED, RunState.RUNNING)
        rig.runs.start(rig.model, "contract", {"requested_by": "bert"})
        assert rig.conf("contract") == {"requested_by": "ann"}

    def test_a_dag_that_is_paused_or_missing_starts_nothing_and_says_so(self, rig: Rig) -> None:
        for model, why in ((rig.paused, "paused"), ("no-such-model", "no such DAG")):
            with pytest.raises(FoundProblem, match=rf"'{model}'.*{why}"):
                rig.runs.start(model, "contract", {})
            assert rig.runs.state(model, "contract") is None

    def test_a_wait_is_ended_once_and_where_nothing_waits_nothing_happens(self, rig: Rig) -> None:
        rig.runs.dismiss(rig.model, "no-such-run", "superseded")
        rig.wait("contract")
        rig.runs.dismiss(rig.model, "contract", "answered in the ledger: superseded")
        rig.goes_on("contract")
        rig.runs.dismiss(rig.model, "contract", "answered in the ledger: again")

    def test_the_scheduler_is_heard_of(self, rig: Rig) -> None:
        heard_at = rig.runs.scheduler_heard_at()
        assert heard_at is not None
        assert datetime.now(UTC) - heard_at < timedelta(minutes=5)

    def test_an_airflow_that_does_not_answer_is_told_as_such(self, rig: Rig) -> None:
        for ask in (
            lambda: rig.away.start(rig.model, "other", {}),
            lambda: rig.away.state(rig.model, "contract"),
            lambda: rig.away.dismiss(rig.model, "contract", "superseded"),
            lambda: rig.away.scheduler_heard_at(),
        ):
            with pytest.raises(ServiceFailed, match="Airflow"):
                ask()
