"""The library's own verdict on numbers that were counted elsewhere.

An expectation asks for metrics and decides on them; it is given those that were merged from the parts. So `mostly`,
limits, percentages and observed values are judged and told by the library's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

from evergreen.adapters.gx_validator.counts import Counts
from evergreen.adapters.gx_validator.library import FORMAT, Config, Library, Result, as_json, never_run

MOST_ROWS = 1_000  # named in the full result; `unexpected_count` says how many there were


def on_counts(config: Config, counts: Counts, library: Library) -> Result:
    """Of an expectation on rows. `library` holds a frame with the window's columns and types."""
    if counts.error:
        return never_run(config, counts.error)
    values = [tuple(one) if isinstance(one, list) else one for one in counts.values]
    judged = counts.elements - counts.missing
    by_suffix = {
        "unexpected_count": len(counts.rows),
        "unexpected_values": values,
        "unexpected_index_list": counts.rows[:MOST_ROWS].tolist(),
        "unexpected_index_query": None,
        "filtered_row_count": judged,
    }
    metrics = {"table.row_count": counts.elements, "column_values.nonnull.unexpected_count": counts.missing}
    return _decided(config, metrics, by_suffix, library)


def on_facts(config: Config, metrics: Mapping[str, Any], library: Library) -> Result:
    """Of an expectation on metrics that are known by their names."""
    return _decided(config, metrics, {}, library)


def _decided(config: Config, metrics: Mapping[str, Any], by_suffix: Mapping[str, Any], library: Library) -> Result:
    try:
        expectation = ExpectationConfiguration(**config).to_domain_obj()
        known = _Merged(expectation, metrics, by_suffix, library)
        decided = expectation.metrics_validate(known, {"result_format": FORMAT}, library.engine)
    except Exception as error:  # as where the library runs it: it cannot be judged, and the others can
        return never_run(config, str(error))
    found: Result = as_json(decided.to_json_dict())
    found["expectation_config"]["id"] = config.get("id")
    return found


class _Merged(dict[Any, Any]):
    """Values by the ids of metrics, which begin with their names; what was not counted is found out by the library."""

    def __init__(
        self, expectation: Any, metrics: Mapping[str, Any], by_suffix: Mapping[str, Any], library: Library
    ) -> None:
        super().__init__()
        self._expectation, self._metrics, self._by_suffix, self._library = expectation, metrics, by_suffix, library

    def __contains__(self, asked: object) -> bool:
        return True

    def __missing__(self, asked: tuple[str, ...]) -> Any:
        name, suffix = asked[0], asked[0].rpartition(".")[2]
        if name in self._metrics:
            return self._metrics[name]
        return self._by_suffix[suffix] if suffix in self._by_suffix else self._resolved[asked]

    @cached_property
    def _resolved(self) -> Mapping[Any, Any]:
        """Of the frame that has the window's columns and types."""
        every = self._expectation.get_validation_dependencies(self._library.engine, {"result_format": FORMAT})
        counted = {*self._metrics, *self._by_suffix}
        names = {one.id: one.metric_name for one in every.get_metric_configurations()}
        left = {at for at, name in names.items() if not counted & {name, name.rpartition(".")[2]}}
        asked = [one for one in every.get_metric_configurations() if one.id in left]
        resolved: Mapping[Any, Any] = self._library.engine.resolve_metrics(asked)
        return resolved
