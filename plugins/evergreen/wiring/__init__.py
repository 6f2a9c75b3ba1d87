"""Settings, and the adapters built from them: the one place where ports meet their real systems."""

from evergreen.wiring.data import label_file, ledger, logged_parts, part_writer, predictions, snapshots, source, store
from evergreen.wiring.outside import airflow, airflow_api, aliases, hasty_registry, registry, runs
from evergreen.wiring.serving import edge, serving_client, serving_counters, slot_containers, slots
from evergreen.wiring.settings import Settings, connection_url, project_root
from evergreen.wiring.training import evidence_charts, replay_chart, trainer, tuner, validator

__all__ = [
    "Settings",
    "airflow",
    "airflow_api",
    "aliases",
    "connection_url",
    "edge",
    "evidence_charts",
    "hasty_registry",
    "label_file",
    "ledger",
    "logged_parts",
    "part_writer",
    "predictions",
    "project_root",
    "registry",
    "replay_chart",
    "runs",
    "serving_client",
    "serving_counters",
    "slot_containers",
    "slots",
    "snapshots",
    "source",
    "store",
    "trainer",
    "tuner",
    "validator",
]
