"""Whether a worker answers as released, and why not.

Ready means: every released bundle is here and verified; pinned models and those asked last are loaded, their golden
rows passed; no other is known to be refused. Trouble with the ledger or the store alone is told and does not block:
the models that are here go on answering, and taking every replica out of a load balancer for it would turn a stale
version into an outage.
"""

from __future__ import annotations

import time

from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.reasons import awaited, summed_up
from evergreen.serving.state import Reason

SILENT_SECONDS = 15  # the ledger is asked every second


def ready(table: ModelTable) -> tuple[bool, list[Reason]]:
    """Whether the worker is ready, and all reasons, blocking or not."""
    reasons = all_reasons(table)
    return not any(reason.blocks for reason in reasons), reasons


def all_reasons(table: ModelTable) -> list[Reason]:
    """The worker's own reasons, then the supervisor's."""
    status = table.reports.status()
    reasons = [*table.own_reasons(), *summed_up([awaited(name) for name in status.awaited]), *status.reasons]
    silent, unwritten = time.time() - status.heard_at, time.time() - status.written_at
    if status.written_at and unwritten > SILENT_SECONDS:
        text = f"The serving supervisor has not written how it fares for {unwritten:.0f} s; its log says why."
        reasons.append(Reason(text))
    elif silent > SILENT_SECONDS and not any(reason.model is None for reason in status.reasons):
        since = f"for {silent:.0f} s" if status.heard_at else "since the start"
        reasons.append(Reason(f"The control ledger has not answered {since}."))
    return reasons
