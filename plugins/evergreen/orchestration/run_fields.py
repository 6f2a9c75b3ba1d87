"""The fields of the form that starts a run, as Airflow's params: core.run_params says what they are.

A field without a new value gives the one it has. Airflow's own checks that against its JSON Schema, and the schema
against the schema of schemas, each time it is asked, which is a dozen times for each field of each DAG that is parsed:
24 of 35 seconds with 1,000 models. What a run is given is checked as ever.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.sdk import Param
from airflow.sdk.definitions._internal.types import NOTSET

from evergreen.core import run_params


class RunField(Param):
    """A param whose value is known to be right: our own default, or one that was checked when it was set."""

    def resolve(self, value: Any = NOTSET, suppress_exception: bool = False) -> Any:
        """As Param, but that a value which is there is not checked again."""
        return self.value if value is NOTSET else super().resolve(value, suppress_exception)


RunField.__module__, RunField.__name__ = Param.__module__, Param.__name__  # Airflow serialises no other


def run_fields() -> dict[str, Param]:
    """By name. New ones for each DAG: a run sets its values in them."""
    return {name: RunField(**field) for name, field in _form().items()}


@cache
def _form() -> dict[str, dict[str, Any]]:
    return run_params.form()
