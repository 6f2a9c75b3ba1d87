"""Great Expectations itself: a suite on one frame in this process, without a project folder and without telemetry."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when the library is imported

import great_expectations as gx
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

if TYPE_CHECKING:
    import pandas as pd

VERSION: str = gx.__version__
FORMAT = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
DETAIL = 200

Config = Mapping[str, Any]  # an expectation of a suite: type, kwargs, …
Result = dict[str, Any]  # the library's own result of one, as JSON has it


class Library:
    """A frame that expectations are run on."""

    def __init__(self, frame: pd.DataFrame) -> None:
        context = gx.get_context(mode="ephemeral")  # 4 ms, and nothing is left of an earlier frame
        context.variables.progress_bars = {"globally": False}
        asset = context.data_sources.add_pandas("snapshot").add_dataframe_asset("rows")
        self._batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})

    @property
    def engine(self) -> Any:
        """The library's execution engine on the frame."""
        return self._batch.data.execution_engine

    def run(self, configs: Sequence[Config]) -> list[Result]:
        """A result for each, in their order."""
        return list(self.report("suite", configs)["results"])

    def report(self, name: str, configs: Sequence[Config]) -> dict[str, Any]:
        """The same with what the library says of them all."""
        named = [{**config, "id": _id(at)} for at, config in enumerate(configs)]
        suite = gx.ExpectationSuite(name=name, expectations=named)
        full = as_json(self._batch.validate(suite, result_format=FORMAT).to_json_dict())
        by_id = {found["expectation_config"]["id"]: found for found in full["results"]}  # its order is its own
        full["results"] = [by_id.get(_id(at)) or never_run(config) for at, config in enumerate(configs)]
        for found, config in zip(full["results"], configs, strict=True):
            found["expectation_config"]["id"] = config.get("id")
        return full


def as_json(value: Any) -> Any:
    """Plain values: NaN, which is no JSON, as text, and times as the library writes them."""
    return json.loads(json.dumps(value, default=_written), parse_constant=str)


def _written(value: Any) -> str:
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def refusal(config: Config) -> str:
    """Why the library would not run it. A suite drops an unknown expectation silently, so each is built before."""
    try:
        ExpectationConfiguration(**config).to_domain_obj()
    except Exception as error:  # its own errors, its pydantic's, TypeError: whatever it is, it cannot be judged
        return " ".join(str(error).split())[:DETAIL]
    return ""


def never_run(config: Config, why: str = "the library gave no result") -> Result:
    """The result of what could not be judged."""
    info = {"raised_exception": True, "exception_message": why, "exception_traceback": None}
    kept = {"type": str(config.get("type")), "kwargs": dict(config.get("kwargs") or {}), "id": config.get("id")}
    return {"success": False, "expectation_config": kept, "result": {}, "meta": {}, "exception_info": info}


def error_of(found: Result) -> str:
    """The first exception's message, empty if none was raised. Keyed by metric where a metric raised."""
    info: Mapping[str, Any] = found["exception_info"]
    raised: Iterable[Mapping[str, Any]] = [info] if "raised_exception" in info else info.values()
    for one in raised:
        if one["raised_exception"]:
            return " ".join(str(one["exception_message"] or "raised an exception").split())[:DETAIL]
    return ""


def _id(position: int) -> str:
    return str(uuid.UUID(int=position + 1))
