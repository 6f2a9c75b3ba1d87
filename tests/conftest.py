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
