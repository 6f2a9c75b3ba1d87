"""A model's whole policy (triggers, gates, cooldown, label delay) over past data, by the steps that retraining runs.

In process and in simulated time: the ledger, the registry, the store and serving are in-memory twins; source, trainer
and Great Expectations are the real ones. Five things differ from the platform. The rehearsal is left out (latency and
memory of today's machine say nothing about the past), a release answers all callers at once (a trial takes minutes, a
period days), a person approves whatever passed its gates, a run takes no time, and the monitor makes one pass a day.
"""

from __future__ import annotations

from evergreen.replay.replay import Order, replay
from evergreen.replay.tools import Tools, real_tools

__all__ = ["Order", "Tools", "real_tools", "replay"]
