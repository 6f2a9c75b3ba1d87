"""What judge tells people: the evidence with its charts, in the store and in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from evergreen.core import evidence as ev

if TYPE_CHECKING:
    from evergreen.core.judgement import Judgement
    from evergreen.core.ports import Registry, Store

FOLDER = "judge"


def report(
    judgement: Judgement, registry: Registry, store: Store, draw: Callable[[ev.Evidence], Mapping[str, bytes]]
) -> None:
    """Write the evidence of a judgement, again at each one. `draw` makes the charts: SVG by file name.

    evidence.json comes last, and names the charts: what it names is there.
    """
    made = ev.evidence_of(judgement)
    charts = draw(made)
    made["charts"] = sorted(charts)
    files = {**charts, ev.EVIDENCE: ev.as_json(made)}
    for name, data in files.items():
        store.put(ev.key(made["model"], made["version"], name), data)
    for name, data in files.items():
        registry.log_file(judgement.candidate.mlflow_run, f"{FOLDER}/{name}", data)
