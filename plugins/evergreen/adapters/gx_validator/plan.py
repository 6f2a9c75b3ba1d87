"""What must be known of a window before it is known how each expectation is judged: its types, and where nulls are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.adapters.gx_validator import frames, kinds
from evergreen.adapters.gx_validator.library import Config
from evergreen.adapters.gx_validator.workers import apart
from evergreen.core.ports import PartRows

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Plan:
    """`nullable` names the columns that pandas has in another dtype because a value is missing somewhere in the window,
    where an expectation looks at that.
    """

    schema: Mapping[str, pl.DataType]
    nullable: frozenset[str]

    @classmethod
    def of(cls, parts: Sequence[PartRows], configs: Sequence[Config], *, fork: bool) -> Plan:
        """With `fork`, found out in a process of its own, so that Polars is not used in this one."""
        return apart(lambda: cls._of(parts, configs), fork=fork)

    @classmethod
    def _of(cls, parts: Sequence[PartRows], configs: Sequence[Config]) -> Plan:
        schema = dict(parts[0].head().schema)
        looked_at = [name for one in configs if kinds.looks_at_dtype(one) for name in kinds.columns_of(one["kwargs"])]
        doubtful = [
            name for name in dict.fromkeys(looked_at) if name in schema and frames.changes_with_nulls(schema[name])
        ]
        nullable: set[str] = set()
        for part in parts if doubtful else ():
            counts = part.skim(doubtful).null_count().row(0, named=True)
            nullable |= {name for name, nulls in counts.items() if nulls}
            if len(nullable) == len(doubtful):
                break
        return cls(schema, frozenset(nullable))

    def kind(self, config: Config) -> kinds.Kind:
        """How it is judged."""
        return kinds.kind_of(config, self.schema, self.nullable)
