"""Where the demo's story plays: addresses, who signs in, and how its people start a command there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen import wiring
    from evergreen.adapters.airflow_api import AirflowApi


@dataclass(frozen=True)
class Person:
    """Who signs in to Airflow. `told` is what the demo prints of the password, where not itself."""

    name: str
    password: str
    told: str = ""

    def __str__(self) -> str:
        """As the demo prints it."""
        return f"user {self.name}, password {self.told or self.password}"


@dataclass(frozen=True)
class Stage:
    """A running deployment. `airflow` and `serving` are URLs for the demo, `pages` and `answers` those for people."""

    settings: wiring.Settings
    airflow: str
    serving: str
    pages: str
    answers: str
    admin: Person
    oncall: Person
    notes: tuple[tuple[str, str], ...]  # what else there is to look at: title and address
    command: str  # what people type before the words of an Evergreen command
    logs: str  # where to look when something did not happen
    token: str = ""  # a caller's, where serving asks for one
    environment: Mapping[str, str] = field(default_factory=dict)  # of a command that on-call types

    def api(self, person: Person) -> AirflowApi:
        """Airflow's REST API, signed in as this person."""
        from evergreen import wiring

        return wiring.airflow(self.airflow, person.name, person.password)
