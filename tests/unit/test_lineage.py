"""Where a version, a release or a snapshot came from, as the ledger tells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from evergreen.core import lineage, verdict_json
from evergreen.core.lineage import Node, nowhere
from evergreen.core.lineage_find import NotFound, models_known, trace
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    ApprovalState,
    Candidate,
    CandidateState,
    Cause,
    GateResult,
    GateState,
    RequestState,
    RolloutState,
)
from evergreen.core.requested import again
from evergreen.fakes.ledger import in_memory_ledger
from ledgers import prepare, release, roll_back
from records import NOW, make_candidate, make_request_args, make_snapshot, make_verdict

MADE_WITH = {
    "code_revision": "c0ffee",
    "image": "evergreen:1.2",
    "lock_hash": "10c4",
    "folder_hash": "f01d",
    "spec_sha256": "5bec",
}
HOUR = timedelta(hours=1)


@pytest.fixture
def ledger() -> Ledger:
    return in_memory_ledger()


def make(ledger: Ledger, version: int, *, seen: int, model: str = "m", **changes: Any) -> Candidate:
    """A version with all that it came from: request, snapshot with suite, verdict, provenance."""
    request = ledger.requests.open(
        **make_request_args(model=model, dedupe_key=f"key-{version}", run_id=f"run-{version}", now=NOW - HOUR)
    )
    ledger.models.add_snapshot(make_snapshot(model, f"5a{version}{model}" * 8, suite="flights@abc123"))
    made = make_candidate(
        model=model,
        version=version,
        request_id=request.id,
        snapshot_id=f"5a{version}{model}" * 8,
        **{"made_with": MADE_WITH, **changes},
    )
    ledger.models.add_candidate(made)
    gates = (
        GateResult("auc", "≥ 0.6", GateState.PASSED, candidate=0.7, champion=0.69, rows=2000),
        GateResult("auc", "drop ≤ 0.03", GateState.NOT_JUDGED, rows=9, slice="carrier", note="9 rows"),
    )
    verdict = make_verdict(gates=gates, champion_version=version - 1 or None)
    return ledger.models.judge(model, version, verdict=verdict, state=CandidateState.PASSED, generation_seen=seen)


def approved(ledger: Ledger, candidate: Candidate) -> str:
    asked = ledger.approvals.ask(
        candidate, request_id=candidate.request_id, run_id="run-a", expires_at=NOW + HOUR, now=NOW
    )
    ledger.approvals.answer(asked.id, state=ApprovalState.APPROVED, by="ada", reason="looks well", now=NOW)
    return asked.id


def all_of(node: Node) -> Iterator[Node]:
    yield node
    for below in node.below:
        yield from all_of(below)


def kinds(node: Node) -> list[str]:
    return [below.kind for below in node.below]


def one(node: Node, kind: str) -> Node:
    (found,) = [below for below in all_of(node) if below.kind == kind]
    return found


# ---------------------------------------------------------------- the chain


def test_a_version_tells_the_whole_chain(ledger: Ledger) -> None:
    candidate = make(ledger, 1, seen=0)
    live = release(ledger, candidate, approval_id=approved(ledger, candidate), released_by="ada")
    ledger.requests.mark(candidate.request_id, now=NOW, state=RequestState.SERVED, reason="released version 1")
    tree = lineage.of_version(ledger, "m", 1, lambda model, run: f"http://airflow/{model}/{run}")
    told = " / ".join(node.says for node in all_of(tree))
    for part in (
        "version 1 of m: released",
        f"bundle, sha256 {candidate.bundle}",
        "train key m-key-1",
        f"release {live.id}: version 1, live since 2025-03-01 12:00 UTC, generation 1, by ada",
        "approved at 2025-03-01 12:00 UTC by ada: looks well",
        "verdict: passed, 1 of 2 gates kept on 2,000 fresh rows",
        "✓ auc ≥ 0.6: 0.7, champion 0.69",
        "– auc by carrier drop ≤ 0.03: not judged, 9 rows",
        "run run-1, which made it; served: released version 1",
        "new data, up to 2013-03-01 23:00 UTC",
        "(content hash): 30 rows in 2 parts, 2013-02-27 00:00 UTC to 2013-02-28 23:00 UTC, 1 without a label left out",
        "suite flights, sha256 abc123",
        "code revision c0ffee",
        "image evergreen:1.2",
        "libraries (requirements.txt), sha256 10c4",
        "model folder, sha256 f01d",
        "spec, sha256 5bec",
    ):
        assert part in told, part
    assert "not recorded" not in told
    assert one(tree, "run").facts["url"] == "http://airflow/m/run-1"
    assert kinds(one(tree, "release")) == ["event", "event", "approval"]


def test_a_release_tells_its_own_approval_and_the_version_below_it(ledger: Ledger) -> None:
    first, second = make(ledger, 1, seen=0), make(ledger, 2, seen=1)
    release(ledger, first)
    mine = release(ledger, second, approval_id=approved(ledger, second))
    tree = lineage.of_release(ledger, mine.id)
    assert kinds(tree) == ["event", "event", "approval", "verdict", "version"]
    assert kinds(one(tree, "version"))[:4] == ["bundle", "train_key", "run", "snapshot"]
    assert one(tree, "verdict").facts["champion_version"] == 1
    assert one(tree, "approval").facts["same_verdict"] is True


def test_a_snapshot_tells_its_suite_and_the_versions_made_from_it(ledger: Ledger) -> None:
    make(ledger, 1, seen=0)
    shared = make(ledger, 2, seen=0).snapshot_id
    ledger.models.add_candidate(make_candidate(version=3, snapshot_id=shared, request_id="gone"))
    tree = lineage.of_snapshot(ledger, "m", shared)
    assert tree.says.endswith("made from it: versions 2, 3")
    assert kinds(tree) == ["suite", "version", "version"]
    assert [node.facts["version"] for node in tree.below[1:]] == [2, 3]
    assert not [node for node in tree.below[1:] if "snapshot" in kinds(node)]
    assert tree.facts["rows"] == 30


@pytest.mark.parametrize("approval", [True, False])
def test_who_let_it_through_is_told_or_why_nobody_was_asked(ledger: Ledger, approval: bool) -> None:
    candidate = make(ledger, 1, seen=0)
    if approval:
        release(ledger, candidate, approval_id=approved(ledger, candidate), released_by="ada")
        assert one(lineage.of_version(ledger, "m", 1), "approval").facts["by"] == "ada"
    else:
        release(ledger, candidate, reason="gates passed, approval.mode is auto")
        found = one(lineage.of_version(ledger, "m", 1), "approval")
        assert found.says == "approval: auto: gates passed, approval.mode is auto"
        assert found.facts["asked"] is False


def test_an_approval_that_a_release_does_not_name_is_not_guessed(ledger: Ledger) -> None:
    candidate = make(ledger, 1, seen=0)
    release(ledger, candidate, released_by="ada")
    found = one(lineage.of_version(ledger, "m", 1), "approval")
    assert found.facts == {"recorded": False}
    assert "released by ada before releases named their approval" in found.says


def test_rollbacks_replacements_and_aborts_stand_in_the_tree(ledger: Ledger) -> None:
    first = make(ledger, 1, seen=0)
    release(ledger, first)
    release(ledger, make(ledger, 2, seen=1))
    roll_back(ledger, first)
    tree = lineage.of_version(ledger, "m", 1)
    releases = [node for node in tree.below if node.kind == "release"]
    assert [node.facts["state"] for node in releases] == [RolloutState.REPLACED, RolloutState.LIVE]
    assert "a rollback to version 1" in releases[1].says
    assert one(releases[1], "approval").says == "approval: nobody was asked: a rollback is the act of ada"
    undone = lineage.of_version(ledger, "m", 2)
    assert "rolled back by ada: wrong fares" in " ".join(node.says for node in all_of(one(undone, "release")))
    prepared = prepare(ledger, make(ledger, 3, seen=3))
    ledger.releases.abort(prepared.id, by="ben", reason="the wrong month", now=NOW)
    assert one(lineage.of_version(ledger, "m", 3), "release").facts["state"] is RolloutState.ABORTED
    assert one(lineage.of_release(ledger, prepared.id), "version").facts["version"] == 3


def test_a_version_judged_again_tells_every_run(ledger: Ledger) -> None:
    candidate = make(ledger, 1, seen=0)
    request = ledger.requests.get(candidate.request_id)
    ledger.requests.open(**again(request, 1, generation=1, because="the champion changed"), now=NOW)
    ledger.requests.open(**again(request, 9, generation=1, because="another version"), now=NOW)
    ledger.requests.open(
        **make_request_args(
            cause=Cause.PERSON, dedupe_key="o", run_id="run-o", detail={"override": 1, "requested_by": "ada"}, now=NOW
        )
    )
    runs = [node for node in all_of(lineage.of_version(ledger, "m", 1)) if node.kind == "run"]
    assert [node.facts["what"] for node in runs] == [
        "made it",
        "judged it again (the champion changed)",
        "was to override its gates",
    ]
    assert runs[2].facts["by"] == "ada"


def test_an_approval_of_an_earlier_verdict_is_told(ledger: Ledger) -> None:
    candidate = make(ledger, 1, seen=0)
    approved(ledger, candidate)
    ledger.models.judge("m", 1, verdict=make_verdict(reason="another"), state=CandidateState.PASSED, generation_seen=0)
    found = one(lineage.of_version(ledger, "m", 1), "approval")
    assert found.facts["same_verdict"] is False
    assert "of an earlier verdict" in found.says


def test_an_override_is_told_with_the_gates_that_it_sets_aside(ledger: Ledger) -> None:
    made = make(ledger, 1, seen=0)
    candidate = ledger.models.judge(
        "m",
        1,
        verdict=made.verdict,
        state=CandidateState.TO_OVERRIDE,
        generation_seen=0,  # type: ignore[arg-type]
    )
    ledger.approvals.ask(
        candidate, request_id="r", run_id="r", expires_at=NOW + HOUR, now=NOW, overrides="auc by carrier"
    )
    found = one(lineage.of_version(ledger, "m", 1), "approval")
    assert found.facts["overrides"] == "auc by carrier"
    assert "open until" in found.says
    assert "overrides auc by carrier" in found.says


def test_what_an_earlier_evergreen_did_not_keep_is_told_as_not_recorded(ledger: Ledger) -> None:
    ledger.models.add_snapshot(make_snapshot())
    ledger.models.add_candidate(make_candidate(request_id="gone"))
    ledger.models.add_candidate(make_candidate(version=2, snapshot_id="lost", made_with={"lock_hash": "1"}))
    tree = lineage.of_version(ledger, "m", 1)
    missing = [node.kind for node in all_of(tree) if node.facts.get("recorded") is False]
    assert missing == ["run", "suite", "spec", "code", "folder", "image", "libraries"]
    assert one(tree, "verdict").says == "verdict: none yet, the version was not judged"
    other = lineage.of_version(ledger, "m", 2)
    assert one(other, "snapshot").says == "snapshot not recorded: the ledger has no snapshot lost"
    assert "no image was named" in one(other, "image").says


def test_how_it_was_trained_is_told_with_the_parameters_of_a_tuning(ledger: Ledger) -> None:
    make(ledger, 1, seen=0, made_with={**MADE_WITH, "engine": "local"})
    tuned = '{"learning_rate": 0.0512345, "grow_policy": "lossguide", "max_depth": 7}'
    make(ledger, 2, seen=0, made_with={**MADE_WITH, "engine": "external_memory", "tuned": tuned})
    plain = one(lineage.of_version(ledger, "m", 1), "training")
    assert (plain.says, plain.facts["tuned"]) == ("trained by engine local; parameters of the spec", {})
    found = one(lineage.of_version(ledger, "m", 2), "training")
    assert found.says == (
        "trained by engine external_memory; parameters of a tuning: "
        "grow_policy lossguide, learning_rate 0.05123, max_depth 7"
    )
    assert found.facts["tuned"]["learning_rate"] == 0.0512345


def test_the_tree_as_json_holds_plain_values_under_its_own_names(ledger: Ledger) -> None:
    import json

    candidate = make(ledger, 1, seen=0)
    release(ledger, candidate, approval_id=approved(ledger, candidate))
    told = json.loads(json.dumps(lineage.of_version(ledger, "m", 1).as_dict()))
    assert (told["kind"], told["version"], told["state"]) == ("version", 1, "released")
    by_kind = {node["kind"]: node for node in told["below"]}
    assert by_kind["verdict"]["gates"][0]["candidate"] == 0.7
    assert by_kind["verdict"]["evidence"] == verdict_json.digest(candidate.verdict)
    assert by_kind["snapshot"]["parts"][0] == {
        "day": "2013-02-27", "key": "snapshots/m/27.parquet", "rows": 15, "sha256": "part-27"
    }  # fmt: skip
    assert by_kind["release"]["events"][1]["state"] == "live"
    assert by_kind["release"]["at"] == NOW.isoformat()
    assert by_kind["code"]["code_revision"] == "c0ffee"


# ---------------------------------------------------------------- what is meant


def find(ledger: Ledger, what: str, version: int | None = None) -> Node:
    return trace(ledger, models_known(ledger, ["m", "flight-delay"]), what, version, nowhere)


def test_a_model_means_its_champion(ledger: Ledger) -> None:
    release(ledger, make(ledger, 1, seen=0))
    make(ledger, 2, seen=1)
    assert find(ledger, "m").facts["version"] == 1
    assert find(ledger, "m", 2).facts["version"] == 2


def test_the_beginning_of_an_id_means_a_release_or_a_snapshot(ledger: Ledger) -> None:
    candidate = make(ledger, 1, seen=0)
    mine = release(ledger, candidate)
    assert find(ledger, mine.id[:6]).facts["id"] == mine.id
    assert find(ledger, candidate.snapshot_id[:6]).kind == "snapshot"
    ledger.models.add_snapshot(make_snapshot(id="never-trained-on"))
    assert find(ledger, "never-trained-on").says.endswith("no version was made from it")


def test_a_model_without_a_spec_is_traced_too(ledger: Ledger) -> None:
    release(ledger, make(ledger, 1, seen=0, model="old"))
    assert "old" in models_known(ledger, [])
    assert find(ledger, "old").facts["model"] == "old"
    make(ledger, 1, seen=0, model="never-released")
    assert find(ledger, "never-released", 1).facts["version"] == 1


@pytest.mark.parametrize(
    ("what", "version", "found", "do"),
    [
        ("m", None, "nothing released yet", "`evergreen trace m 2`"),
        ("m", 7, "no such version; allowed: versions 2, 1", "`evergreen history m`"),
        ("flight-dely", None, "no such model, release or snapshot", "Did you mean 'flight-delay'?"),
        ("flight-dely", 3, "no such model", "Did you mean 'flight-delay'?"),
        ("abc", None, "too short for an id", "evergreen history"),
        ("abcdef123", None, "no such model, release or snapshot", "`evergreen trace <model>`"),
        ("5amm5a", None, "snapshot 5amm5a1; snapshot 5amm5a2", "Give more characters"),
    ],
)
def test_what_cannot_be_meant_says_what_was_found_and_what_to_do(
    ledger: Ledger, what: str, version: int | None, found: str, do: str
) -> None:
    for number in (1, 2):
        made = replace(make_candidate(version=number), snapshot_id=f"5amm5a{number}")
        ledger.models.add_candidate(made)
    with pytest.raises(NotFound) as refused:
        find(ledger, what, version)
    assert all(part in str(refused.value) for part in found.split("; snapshot"))
    assert do in str(refused.value)
