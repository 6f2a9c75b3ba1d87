"""Who wants a notice: the `notify` of its model, or for one about all models that of `models/_defaults.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from evergreen.core.catalog import load_catalog, read_defaults
from evergreen.core.spec_notify import Notify

if TYPE_CHECKING:
    from evergreen.core.records import Notice


@dataclass(frozen=True)
class Audience:
    """The entries by model. `shared` are for notices about no model that has a valid spec.

    `complete`: all specs could be read. Else a notice that nobody wants may have somebody who does.
    """

    models: Mapping[str, list[Notify]]
    shared: list[Notify]
    complete: bool = True

    @classmethod
    def of_project(cls, root: Path) -> Audience:
        """As the specs have it now. Where the defaults name nobody, what is about all models goes to everybody."""
        catalog = load_catalog(root)
        models = {name: spec.notify for name, spec in catalog.specs.items()}
        everybody: list[Notify] = []
        for entry in (entry for entries in models.values() for entry in entries):
            if entry not in everybody:
                everybody.append(entry)
        return cls(models, _of_defaults(root) or everybody, complete=not catalog.problems)

    def wanting(self, notice: Notice) -> list[Notify]:
        """The entries over which this notice is sent."""
        return [entry for entry in self.models.get(notice.model, self.shared) if notice.kind in entry.on]


def _of_defaults(root: Path) -> list[Notify]:
    """None where they are wrong, which `evergreen check` tells."""
    try:
        return TypeAdapter(list[Notify]).validate_python(read_defaults(root).get("notify") or [])
    except ValidationError:
        return []
