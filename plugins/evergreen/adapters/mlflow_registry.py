"""The registry and experiment record in MLflow: one experiment and one registered model for each model spec.

Uses the client only, never MLflow's "active run": nothing is written below the current folder. The booster is
stored in MLflow's own XGBoost flavour (`mlflow.xgboost.load_model("models:/<name>/<version>")`), and the bundle's
files, which serving answers from, as artifacts `bundle/…` of the run.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow.xgboost
import xgboost as xgb
from mlflow import MlflowClient
from mlflow.entities import Experiment, LoggedModel, LoggedModelOutput, Metric, Param, Run, RunTag, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, Schema
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from mlflow.utils.time import get_current_time_millis

from evergreen.core.bundle import MODEL, SCHEMA
from evergreen.core.ports import LoggedTrial

RUN_NAME = "evergreen.run"  # finds the run again; MLflow's own run name can be edited by anyone
TRIAL_NAME = "evergreen.trial.name"  # finds a trial again below its run
TRIALS_AT_A_TIME, MOST_TRIALS = 4, 1000  # logged; a spec allows no more
REQUIREMENTS = [f"xgboost=={xgb.__version__}"]  # a fixed list: MLflow would spend seconds guessing it
EXISTS = ("RESOURCE_ALREADY_EXISTS",)
UNKNOWN = ("RESOURCE_DOES_NOT_EXIST",)


class MlflowRegistry:
    """A tracking server or database by URL, and the URL below which new experiments keep their artifacts.

    'mlflow-artifacts:/' sends them through the server; 'file:///…' and 's3://…' go past it, from every process that
    logs or reads. An experiment keeps the place that it was made with.
    """

    def __init__(self, url: str, artifacts: str) -> None:
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=url, registry_uri=url)
        self._artifacts = artifacts.rstrip("/")

    def start_run(self, model: str, name: str, tags: Mapping[str, str]) -> str:
        """See Registry."""
        experiment = self._experiment(model)
        found = self._named(experiment, name)
        if found is None:
            own = {**tags, RUN_NAME: name}
            return str(self._client.create_run(experiment, run_name=name, tags=own).info.run_id)
        run_id, known = str(found.info.run_id), found.data.tags
        if found.info.status != "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        if new := {name: value for name, value in tags.items() if known.get(name) != value}:
            self.log(run_id, tags=new)
        return run_id

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """See Registry."""
        known = self._client.get_run(run_id).data.params if params else {}
        wanted = {name: str(value) for name, value in (params or {}).items()}
        changed = {f"changed.{name}": v for name, v in wanted.items() if known.get(name, v) != v}
        now = get_current_time_millis()
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, v, now, 0) for name, v in (metrics or {}).items() if math.isfinite(v)],
            params=[Param(name, value) for name, value in wanted.items() if name not in known],
            tags=[RunTag(name, str(value)) for name, value in {**(tags or {}), **changed}.items()],
        )

    def log_file(self, run_id: str, path: str, data: bytes) -> None:
        """See Registry."""
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, PurePosixPath(path).name)
            file.write_bytes(data)
            self._client.log_artifact(run_id, str(file), _folder(path))

    def find_run(self, model: str, name: str) -> str | None:
        """See Registry."""
        experiment = self._client.get_experiment_by_name(model)
        found = self._named(str(experiment.experiment_id), name) if experiment else None
        return str(found.info.run_id) if found else None

    def logged_file(self, run_id: str, path: str) -> bytes:
        """See Registry."""
        try:
            listed = self._client.list_artifacts(run_id, _folder(path))
        except MlflowException as error:
            if error.error_code in UNKNOWN:
                raise KeyError(run_id) from None
            raise
        if path not in {one.path for one in listed if not one.is_dir}:
            raise KeyError(path)
        with tempfile.TemporaryDirectory() as scratch:
            return Path(self._client.download_artifacts(run_id, path, scratch)).read_bytes()

    def log_trials(self, run_id: str, trials: Sequence[LoggedTrial]) -> None:
        """See Registry. Three calls a trial, of several trials at a time: each call waits for the server, mostly."""
        experiment = self._client.get_run(run_id).info.experiment_id
        query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}' and attributes.status != 'RUNNING'"
        found = self._client.search_runs([experiment], query, max_results=MOST_TRIALS)
        there = {run.data.tags.get(TRIAL_NAME) for run in found}
        new = [trial for trial in trials if trial.name not in there]
        with ThreadPoolExecutor(TRIALS_AT_A_TIME) as threads:
            list(threads.map(lambda trial: self._log_trial(experiment, run_id, trial), new))

    def _log_trial(self, experiment: str, run_id: str, trial: LoggedTrial) -> None:
        tags = {**trial.tags, TRIAL_NAME: trial.name, MLFLOW_PARENT_RUN_ID: run_id}
        made = self._client.create_run(experiment, run_name=trial.name, tags=tags).info.run_id
        now = get_current_time_millis()
        self._client.log_batch(
            made,
            metrics=[Metric(name, v, now, 0) for name, v in trial.metrics.items() if math.isfinite(v)],
            params=[Param(name, str(value)) for name, value in trial.params.items()],
        )
        self._client.set_terminated(made, "FAILED" if trial.failed else "FINISHED")

    def register(self, model: str, run_id: str, files: Mapping[str, bytes], tags: Mapping[str, str]) -> int:
        """See Registry."""
        for made in self._versions(run_id):
            if made.name == model and {name: made.tags.get(name) for name in tags} == dict(tags):
                return int(made.version)
        for name, data in files.items():
            self.log_file(run_id, f"bundle/{name}", data)
        logged = self._log_model(run_id, files)
        self._registered_model(model)
        made = self._client.create_model_version(
            model, logged.artifact_location, run_id=run_id, tags=dict(tags), model_id=logged.model_id
        )
        return int(made.version)

    def describe(self, run_id: str, markdown: str) -> None:
        """See Registry."""
        self.log(run_id, tags={MLFLOW_RUN_NOTE: markdown})
        for made in self._versions(run_id):
            self._client.update_model_version(made.name, made.version, markdown)

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """See Registry."""
        self._client.set_registered_model_alias(model, alias, str(version))

    def aliases(self, model: str) -> dict[str, int]:
        """See Registry."""
        try:
            found = self._client.get_registered_model(model)
        except MlflowException as error:
            if error.error_code in UNKNOWN:
                return {}
            raise
        return {alias: int(version) for alias, version in found.aliases.items()}

    def end_run(self, run_id: str, *, failed: bool = False) -> None:
        """See Registry."""
        self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def _named(self, experiment: str, name: str) -> Run | None:
        query = f"tags.`{RUN_NAME}` = '{name}'"
        found = self._client.search_runs([experiment], query, ViewType.ACTIVE_ONLY, 1, ["attributes.start_time ASC"])
        return found[0] if found else None

    def _experiment(self, model: str) -> str:
        """The id of the model's experiment; made, or taken out of MLflow's bin, if need be."""
        found = self._client.get_experiment_by_name(model)
        if found is None:
            try:
                return str(self._client.create_experiment(model, f"{self._artifacts}/{model}"))
            except MlflowException as error:
                if error.error_code not in EXISTS:  # another run was quicker
                    raise
                found = self._client.get_experiment_by_name(model)
        assert isinstance(found, Experiment)
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _registered_model(self, model: str) -> None:
        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code not in EXISTS:
                raise

    def _versions(self, run_id: str) -> list[ModelVersion]:
        return list(self._client.search_model_versions(f"run_id = '{run_id}'"))

    def _log_model(self, run_id: str, files: Mapping[str, bytes]) -> LoggedModel:
        """Store the booster in MLflow's XGBoost flavour.

        Each step by the client: log_model() would need an active run and set global state.
        """
        run = self._client.get_run(run_id)
        logged = self._client.create_logged_model(
            run.info.experiment_id, name="model", source_run_id=run_id, params=run.data.params
        )
        with tempfile.TemporaryDirectory() as scratch:
            folder = str(Path(scratch, "model"))
            mlflow.xgboost.save_model(
                xgb.Booster(model_file=bytearray(files[MODEL])),
                folder,
                mlflow_model=Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id),
                signature=_signature(json.loads(files[SCHEMA])),
                pip_requirements=REQUIREMENTS,
                model_format="ubj",
            )
            self._client.log_model_artifacts(logged.model_id, folder)
        self._client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        self._client.finalize_logged_model(logged.model_id, "READY")
        return logged


def _folder(path: str) -> str | None:
    """Of an artifact, none for one that lies in no folder."""
    parent = PurePosixPath(path).parent
    return None if parent == PurePosixPath() else str(parent)


def _signature(schema: Mapping[str, Any]) -> ModelSignature:
    """The features by name, as MLflow's version page shows them."""
    types = {"number": "double", "category": "string"}
    columns = [ColSpec(types[f["kind"]], f["name"], required=False) for f in schema["features"]]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec("float")]))
