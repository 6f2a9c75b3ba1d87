"""What every test gets: no telemetry, and no settings of the machine it runs on."""

import os

import pytest

os.environ.update(
    GX_ANALYTICS_ENABLED="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
    NO_COLOR="1",
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees the settings that it makes, not those of the shell."""
    for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "MLFLOW_TRACKING"))]:
        monkeypatch.delenv(name)


REAL = "tests/e2e/"  # real processes, which wait more than they work: they run beside the others, one stack at a time


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker for all real processes, the first; and one for the tests of any other file."""
    items.sort(key=lambda item: not item.nodeid.startswith(REAL))
    for item in items:
        file = item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(REAL if file.startswith(REAL) else file))
