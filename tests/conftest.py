"""What every test gets: no telemetry, and no settings of the machine it runs on."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

os.environ.update(
    GX_ANALYTICS_ENABLED="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
    NO_COLOR="1",
    OMP_NUM_THREADS="1",  # two workers have two cores: threads of their fits would mostly wait for each other
)

# An example may be slow because of what else this machine does. In CI Hypothesis does without a deadline by itself.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees the settings that it makes, not those of the shell."""
    for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "MLFLOW_TRACKING"))]:
        monkeypatch.delenv(name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that was skipped is a failure: what it needs is to be brought there."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and terminal and terminal.stats.get("skipped") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# Those with a real Airflow wait more than they work: they run beside the others, one stack at a time
AIRFLOW = tuple(f"tests/e2e/test_{name}.py" for name in ("approval", "killed", "retraining", "rollback"))
LONG = ("tests/e2e/", "tests/unit/test_trust_machine.py", "tests/unit/test_kill_everywhere.py", "tests/dags/")
LONG += tuple(
    f"tests/load/test_{name}" for name in ("dask", "many", "same", "sign", "supervisor", "train", "tuning", "validate")
)


class OneStackAtATime(LoadScopeScheduling):
    """One worker for all tests with an Airflow, and one for the tests of any other file."""

    def _split_scope(self, nodeid: str) -> str:
        return "airflow" if nodeid.startswith(AIRFLOW) else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneStackAtATime:
    """Not xdist's own `loadgroup`, which this pytest leaves without effect."""
    return OneStackAtATime(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Airflow's begin, then what takes long: else one worker would be left with it at the end."""
    items.sort(key=lambda item: (not item.nodeid.startswith(AIRFLOW), not item.nodeid.startswith(LONG)))
