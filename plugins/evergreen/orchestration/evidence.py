"""What a person reads before approving: Markdown, to be decided from in a minute."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from evergreen.core import evidence
from evergreen.core.champion import features_of, reign_of
from evergreen.core.recalling import fitted, recalled
from evergreen.core.refitting import refit_of
from evergreen.core.spec_fields import format_duration
from evergreen.core.triggers import readable_time
from evergreen.core.verdict_table import plain, table

if TYPE_CHECKING:
    from evergreen.core.approvers import Approvers
    from evergreen.core.ports import Ledger, Store
    from evergreen.core.records import Candidate, Snapshot, Verdict
    from evergreen.core.spec import ModelSpec

NONE = "–"


@dataclass(frozen=True)
class Asked:
    """A question about a candidate: why it is put, why an approval needs a reason, and where to look things up."""

    spec: ModelSpec
    candidate: Candidate
    verdict: Verdict
    ledger: Ledger
    store: Store
    mlflow_url: str
    why: str
    explain: str
    approvers: Approvers
    overrides: str = ""  # the gates that failed, and that an approval sets aside
    wanted: str = ""  # of an override: who asked for it, and why


def subject(spec: ModelSpec) -> str:
    """The headline before a candidate is known."""
    return f"Release a new {spec.name}?"


def headline(asked: Asked) -> str:
    """Of a question about a candidate; an override says what it sets aside."""
    override = f" Overrides {asked.overrides}." if asked.overrides else ""
    return f"Release {asked.spec.name} version {asked.candidate.version}?{override}"


def body(asked: Asked) -> str:
    """Why, what changed, the verdict, one picture, where to see more, and what happens without an answer.

    Nothing in it depends on the clock: the same question has the same text.
    """
    lines = [
        f"**Why you are asked:** {plain(asked.why)}.",
        "",
        *_override(asked),
        *_what_changed(asked),
        "",
        f"**Verdict** on {asked.verdict.rows:,} rows that {_unseen(asked)}: {plain(asked.verdict.reason)}.",
        "",
        *table(asked.verdict.gates),
        "",
        *_links(asked),
        "",
        *_rules(asked),
    ]
    return "\n".join(lines)


def _unseen(asked: Asked) -> str:
    of = refit_of(asked.candidate)
    if of is None:
        return "no version was fitted on"
    return (
        f"version {of} was not fitted on, by its answers; version {asked.candidate.version} is that, fitted on them too"
    )


def _override(asked: Asked) -> list[str]:
    if not asked.overrides:
        return []
    told = f"**An approval overrides gates that failed:** {plain(asked.overrides)}."
    return [told, *([f"Asked for by {plain(asked.wanted)}."] if asked.wanted else []), ""]


def _what_changed(asked: Asked) -> list[str]:
    champion = reign_of(asked.ledger, asked.spec.name).candidate
    shown = [asked.candidate, *([champion] if champion else [])]
    known = [_known(asked.store, one) for one in shown]
    roles = zip(("candidate", "champion"), shown, strict=False)
    heads = [f"{role}: version {one.version}{_again(one)}" for role, one in roles]
    rows = {
        "fitted on": [_fitted(one, facts) for one, facts in zip(shown, known, strict=True)],
        "snapshot": [_snapshot(asked.ledger, fitted(asked.ledger.models, one)) for one in shown],
        "features": _features(asked.store, shown),
    }
    if champion:
        rows["spec"] = [_spec_change(*known), NONE]
    return [
        *([] if champion else ["There is no champion yet: this would be the first release.", ""]),
        f"| | {' | '.join(heads)} |",
        "|---" * (1 + len(shown)) + "|",
        *(f"| {name} | {' | '.join(values)} |" for name, values in rows.items()),
    ]


def _again(candidate: Candidate) -> str:
    if version := recalled(candidate):
        return f" (version {version} again)"
    of = refit_of(candidate)
    return f" (version {of} fitted again)" if of else ""


def _known(store: Store, candidate: Candidate) -> dict[str, Any]:
    """What the evidence of a version says that it was made from; nothing where there is none."""
    try:
        changed: dict[str, Any] = json.loads(store.get(evidence.key(candidate.model, candidate.version)))["changed"]
    except KeyError:
        return {}
    return changed


def _fitted(candidate: Candidate, known: dict[str, Any]) -> str:
    span = known.get("fitted")
    rows = f"{span['rows']:,} rows, " if span else ""
    since = f"{span['from'][:10]} to " if span and span["from"] else "up to "
    if refit_of(candidate) is None:
        return f"{rows}{since}{readable_time(candidate.data_end)}"
    until = readable_time(datetime.fromisoformat(span["until"])) if span and span["until"] else NONE
    return f"{rows}{since}{until}, judged so; then again on all rows to {readable_time(candidate.data_end)}"


def _spec_change(candidate: dict[str, Any], champion: dict[str, Any]) -> str:
    """'window: train 120d, holdout 14d (was train 90d, holdout 14d)'."""
    now, before = candidate.get("spec"), champion.get("spec")
    if not now or not before:
        return "not known"
    changes = [
        f"{name}: {value} (was {before.get(name, NONE)})" for name, value in now.items() if value != before.get(name)
    ]
    return plain("; ".join(changes)) or "the same"


def _snapshot(ledger: Ledger, candidate: Candidate) -> str:
    try:
        found: Snapshot = ledger.models.snapshot(candidate.model, candidate.snapshot_id)
    except KeyError:
        return "no longer known"
    aside = f", {found.quarantined:,} set aside" if found.quarantined else ""
    return f"{found.rows:,} rows, {found.start:%Y-%m-%d} to {found.as_of:%Y-%m-%d}{aside}"


def _features(store: Store, shown: list[Candidate]) -> list[str]:
    """How many, and for the candidate which were added and removed."""
    found = [features_of(store, one) for one in shown]
    counted = [NONE if names is None else str(len(names)) for names in found]
    if len(found) == 2 and found[0] is not None and found[1] is not None:
        added = [f"added {_code(name)}" for name in found[0] if name not in found[1]]
        gone = [f"removed {_code(name)}" for name in found[1] if name not in found[0]]
        counted[0] += f" ({', '.join([*added, *gone]) or 'the same'})"
    return counted


def _code(name: str) -> str:
    """In a code span, where only a backtick has a meaning."""
    one_line = " ".join(name.replace("|", "/").replace("`", "'").split())
    return f"`{one_line}`"


def _links(asked: Asked) -> list[str]:
    name, version = quote(asked.spec.name), asked.candidate.version
    page = f"/evergreen/models/{name}/versions/{version}"
    mlflow = f"{asked.mlflow_url}/#/models/{name}/versions/{version}"
    more = f" · [version {version} in MLflow]({mlflow})" if asked.mlflow_url.startswith("http") else ""
    return [
        f"![The metric by period, for candidate and champion]({page}/by_period.svg)",
        "",
        f"[All evidence: slices, calibration, feature shifts, where the two disagree]({page}){more}",
    ]


def _rules(asked: Asked) -> list[str]:
    approval = (
        f"an approval needs one too ({plain(asked.explain)})" if asked.explain else "an approval may come without one"
    )
    return [
        f"- A rejection needs a reason, and blocks this candidate; {approval}. An answer that lacks it is void.",
        f"- Without an answer within {format_duration(asked.spec.approval.timeout)} this ends as expired: "
        "the champion stays, and nothing is blocked.",
        f"- {plain(asked.approvers.told())}",
        f"- Owner: {plain(asked.spec.owner)}.",
    ]
