"""Where an answer came from: the logged row of an inference id, on to its release and all that it was made from."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from evergreen.core import logged_parts as parts
from evergreen.core.errors import FoundProblem
from evergreen.core.lineage import EVERY, Node, PageOf, not_recorded, nowhere, of_release, of_version
from evergreen.core.triggers import readable_time

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, LoggedRow, Predictions

FORM = "an inference id as an answer has it: 8-4-4-4-12 hexadecimal digits, a UUID of version 7"
SHIPPED_WITHIN = timedelta(minutes=1)
_LIKE = re.compile(r"(?=(?:.*-){3})[0-9a-fA-F-]{20,}")


class NotLogged(FoundProblem):
    """Raised for an inference id that is none, or whose row the log does not have."""


def looks_like_one(what: str) -> bool:
    """Whether this is meant as an inference id: no model, release or snapshot is called so."""
    return _LIKE.fullmatch(what) is not None


def of_inference(
    ledger: Ledger,
    predictions: Predictions,
    inference_id: str,
    now: datetime,
    page_of: PageOf = nowhere,
    *,
    look_back: int = EVERY,
) -> Node:
    """The answer with its features and prediction, and below it the release. Raises NotLogged, saying why not."""
    at = parts.answered_at(inference_id)
    if at is None:
        do = "Copy it whole from the answer, or from the log's column inference_id."
        raise NotLogged(f"inference id '{inference_id}'", found="another form", allowed=FORM, do=do)
    row = predictions.find(inference_id)
    if row is None:
        raise _not_logged(ledger, predictions, inference_id, at, now)
    return _as_node(row, _made_by(ledger, row, page_of, look_back))


def _not_logged(ledger: Ledger, predictions: Predictions, inference_id: str, at: datetime, now: datetime) -> NotLogged:
    where, allowed = f"inference id {inference_id}", "an answer that the log has"
    told = f"no row of it, which was answered at {readable_time(at)}"
    if at > now + SHIPPED_WITHIN:
        return NotLogged(where, found="a time to come in it", allowed=allowed, do="It was not made by this server.")
    if at > now - SHIPPED_WITHIN:
        do = "Serving brings rows to the store some 10 s after the answer: ask again in a minute."
        return NotLogged(where, found=told, allowed=allowed, do=do)
    if not any(at.date() in predictions.days(model) for model in predictions.models()):
        do = "Rows older than retention.keep are removed; `evergreen status` says which models are served."
        return NotLogged(where, found=f"no row at all of {at.date()}", allowed=allowed, do=do)
    sampled = [f"{model} logs {share:.3g} of its requests (serving.log_sample)" for model, share in _sampled(ledger)]
    why = "; ".join(sampled) or "Every model logs all requests"
    do = (
        f"{why}. It may also have been dropped (evergreen_log_dropped_rows_total in /metrics says how many were), "
        "forgotten (`evergreen forget`), wait on a replica that is not running, or be of another server."
    )
    return NotLogged(where, found=told, allowed=allowed, do=do)


def _sampled(ledger: Ledger) -> list[tuple[str, float]]:
    pools = {release.pool for release in ledger.releases.history()}
    settings = [one for pool in sorted(pools) for one in ledger.settings.of(pool).values()]
    return [(one.model, one.log_sample) for one in settings if one.log_sample < 1]


def _as_node(row: LoggedRow, made_by: Node) -> Node:
    facts = row.facts
    version, release, arm = int(facts[parts.VERSION]), str(facts[parts.RELEASE]), str(facts[parts.ARM])
    told = {
        "id": facts[parts.ID], "model": row.model, "at": facts[parts.AT], "version": version, "release": release,
        "arm": arm, "key": facts[parts.KEY], "prediction": facts[parts.PREDICTION], "features": row.features,
        "unseen": facts[parts.UNSEEN],
    }  # fmt: skip
    when, predicted = readable_time(facts[parts.AT]), value_told(facts[parts.PREDICTION])
    says = f"answer {facts[parts.ID]} of {row.model} version {version} ({arm}) at {when}: {predicted}"
    return Node("inference", says, told, (*_details(row), made_by))


def _details(row: LoggedRow) -> list[Node]:
    sent = ", ".join(f"{name} {value_told(value)}" for name, value in row.features.items())
    nodes = [Node("features", f"features: {sent or 'none is logged (features.not_logged)'}")]
    if unseen := row.facts[parts.UNSEEN]:
        nodes.append(Node("unseen", f"categories that training did not see, answered as missing: {unseen}"))
    if key := row.facts[parts.KEY]:
        nodes.append(Node("key", f"request key {key}"))
    return nodes


def _made_by(ledger: Ledger, row: LoggedRow, page_of: PageOf, look_back: int) -> Node:
    version, release = int(row.facts[parts.VERSION]), str(row.facts[parts.RELEASE])
    with suppress(KeyError):
        return of_release(ledger, release, page_of, look_back=look_back)
    with suppress(KeyError):
        return of_version(ledger, row.model, version, page_of, look_back=look_back)
    return not_recorded("release", f"the ledger has neither release {release} nor version {version} of {row.model}")


def value_told(value: Any) -> str:
    """A number as it was computed, in few digits; 'missing' for none."""
    if value is None:
        return "missing"
    if isinstance(value, list):
        return f"[{', '.join(map(value_told, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
