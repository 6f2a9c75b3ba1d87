"""The expectations of a suite on a window, each by its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evergreen.adapters.gx_validator import frames, rowwise
from evergreen.adapters.gx_validator.counts import Counts
from evergreen.adapters.gx_validator.facts import ColumnFacts
from evergreen.adapters.gx_validator.found import Found, PartChecks
from evergreen.adapters.gx_validator.kept import Kept
from evergreen.adapters.gx_validator.kinds import Kind
from evergreen.adapters.gx_validator.library import Config, Library, Result
from evergreen.adapters.gx_validator.plan import Plan
from evergreen.adapters.gx_validator.verdict import on_counts
from evergreen.adapters.gx_validator.whole import WholeChecks
from evergreen.adapters.gx_validator.window import WindowChecks
from evergreen.adapters.gx_validator.workers import shared
from evergreen.core.ports import PartRows

if TYPE_CHECKING:
    from evergreen.core.ports import Store, WindowFacts

_WORTH_A_FORK = 400_000  # rows; fewer are judged before two processes have begun


@dataclass
class Judging:
    """`configs` by their positions in the suite, and by these the `results`, and the `rows` that were unexpected."""

    parts: Sequence[PartRows]
    configs: Mapping[int, Config]
    store: Store
    facts: WindowFacts
    memory_mb: float
    results: dict[int, Result] = field(default_factory=dict)
    rows: dict[int, Sequence[int]] = field(default_factory=dict)

    def run(self, name: str) -> dict[str, Any]:
        """Fills in results and rows; returns what the library says of a suite of this name.

        Two processes are forked for many rows, before Polars is used here.
        """
        configs = [*self.configs.values()]
        kept = Kept(self.store, configs)
        before = {at: kept.find(part) for at, part in enumerate(self.parts)}
        plan = Plan.of(self.parts, configs, fork=self._worth_a_fork(_new(before)))
        by_kind = {kind: [at for at, one in self.configs.items() if plan.kind(one) is kind] for kind in Kind}
        checks = self._checks(by_kind, plan)
        found = {at: one if one and one.asked == checks.asked else None for at, one in before.items()}
        kept.recall(self.parts, checks)

        def judge(group: Sequence[int]) -> list[Found]:
            judged = checks.judge([self.parts[at] for at in group])
            for at, of_part in zip(group, judged, strict=True):
                kept.keep(self.parts[at], of_part)
            kept.remember(self.parts[group[-1]], checks)
            return judged

        new = _new(found)
        with shared(self._groups(new), judge, fork=self._worth_a_fork(new)) as answers:
            head = self.parts[0].head()  # Polars from here on
            library = Library(frames.to_pandas(head, plan.nullable))
            window = WindowChecks(self.parts, self.store, self.facts, library, frames.plain(head), plan.nullable)
            full = library.report(name, [self.configs[at] for at in by_kind[Kind.SCHEMA]])
            self.results |= dict(zip(by_kind[Kind.SCHEMA], full["results"], strict=True))
            self._on_all_rows(window, by_kind, plan)
            for group, judged in answers:
                found |= dict(zip(group, judged, strict=True))
        self._on_parts(window, by_kind, checks, [one for _, one in sorted(found.items()) if one])
        return full

    def _on_all_rows(self, window: WindowChecks, by_kind: Mapping[Kind, Sequence[int]], plan: Plan) -> None:
        """What is not asked of the parts: done while others are at these."""
        whole = WholeChecks(self.parts, self.memory_mb)
        for at in by_kind[Kind.DISTINCT]:
            self.results[at] = window.on_values(self.configs[at]) or whole.run(self.configs[at], plan.schema)
        for at in by_kind[Kind.WHOLE]:
            self.results[at] = whole.run(self.configs[at], plan.schema)
        for at in by_kind[Kind.COMPOUND]:
            self.results[at], self.rows[at] = window.on_compounds(self.configs[at])

    def _on_parts(
        self, window: WindowChecks, by_kind: Mapping[Kind, Sequence[int]], checks: PartChecks, found: Sequence[Found]
    ) -> None:
        """What was found in the parts, together."""
        known = {name: ColumnFacts.together([one.facts[name] for one in found]) for name in checks.facts}
        for at in by_kind[Kind.FACTS]:
            self.results[at] = window.on_facts(self.configs[at], known)
        for at in by_kind[Kind.REPEATED]:
            missing = [one.missing[self.configs[at]["kwargs"]["column"]] for one in found]
            self.results[at], self.rows[at] = window.on_repeated(self.configs[at], missing)
        for position, at in enumerate(by_kind[Kind.ROWS]):
            counts = Counts.together([one.counts[position] for one in found])
            self.results[at], self.rows[at] = on_counts(self.configs[at], counts, window.library), counts.rows

    def _checks(self, by_kind: Mapping[Kind, Sequence[int]], plan: Plan) -> PartChecks:
        def columns(kind: Kind) -> list[str]:
            kwargs = [self.configs[at]["kwargs"] for at in by_kind[kind]]
            return sorted({one["column"] for one in kwargs if "column" in one})

        rows = rowwise.RowChecks([self.configs[at] for at in by_kind[Kind.ROWS]], plan.nullable)
        return PartChecks(rows, columns(Kind.FACTS), columns(Kind.REPEATED))

    def _worth_a_fork(self, those: Sequence[int]) -> bool:
        return sum(self.parts[at].height for at in those) > _WORTH_A_FORK

    def _groups(self, those: Sequence[int]) -> list[list[int]]:
        """Small parts together, so that a run of the library is paid for once in some hundred thousand rows."""
        groups: list[list[int]] = []
        room = 0
        for at in those:
            if not groups or self.parts[at].height > room:
                groups.append([])
                room = rowwise.ROWS
            groups[-1].append(at)
            room -= self.parts[at].height
        return groups


def _new(found: Mapping[int, Found | None]) -> list[int]:
    """The parts of which nothing is known."""
    return [at for at, one in found.items() if one is None]
