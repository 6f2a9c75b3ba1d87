"""Keeps in the ledger what replicas must know of the specs: how to serve, and which metrics their page shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evergreen.core.records import ServingSettings

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.spec import ModelSpec


def publish_settings(ledger: Ledger, specs: Mapping[str, ModelSpec]) -> list[str]:
    """Write the settings that differ from what the ledger has; whose, in sentences.

    One read for each pool. The settings of a model whose spec is gone or has an error stay as they are: it is served
    as before.
    """
    wanted = [settings_of(spec) for spec in specs.values()]
    kept = {model: one for pool in {one.pool for one in wanted} for model, one in ledger.settings.of(pool).items()}
    differ = [one for one in wanted if kept.get(one.model) != one]
    return [f"{one.model}: serving has its new settings" for one in differ if ledger.settings.put(one)]


def settings_of(spec: ModelSpec) -> ServingSettings:
    """What the spec says of them."""
    serving, fresh = spec.serving, spec.monitoring.fresh_within
    return ServingSettings(
        model=spec.name,
        pool=serving.pool,
        pinned=serving.pinned,
        log_sample=serving.log_sample,
        not_logged=tuple(spec.features.not_logged),
        max_concurrent=serving.max_concurrent,
        fresh_within=fresh.total_seconds() if fresh else None,
        rule_metrics=tuple(sorted({rule.name for rule in spec.rules})),
    )
