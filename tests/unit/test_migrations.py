"""The revisions lead to exactly the tables that the code uses, keep rows, and may be run by many at once."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Connection, bindparam, inspect, text

from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.ledger.engine import Database, LedgerRefused
from evergreen.adapters.ledger.tables import HEAD, VERSION_TABLE, UtcTime, metadata
from evergreen.adapters.ledger.upgrade import MIGRATIONS, run_alembic
from evergreen.core.records import (
    CandidateState,
    GateResult,
    GateState,
    Hold,
    ReleaseKind,
    RolloutPlan,
    RolloutState,
    TripKind,
    Verdict,
)
from evergreen.core.verdict_json import digest, to_json
from ledgers import KINDS, LATER, passed, release, roll_back, url_of
from records import AS_OF, NOW, WATERMARK, make_candidate, make_request_args, make_snapshot, make_verdict

SQL = [kind for kind in KINDS if kind != "memory"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"


@pytest.mark.parametrize("kind", SQL)
def test_the_revisions_lead_to_the_tables_of_the_code(kind: str, tmp_path: Path) -> None:
    url = url_of(kind, tmp_path)
    open_ledger(url)
    with Database(url).read() as connection:
        # Alembic cannot compare the default of a JSON column on Postgres.
        options = {"version_table": VERSION_TABLE, "compare_server_default": kind == "sqlite"}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, VERSION_TABLE}
        version = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    assert version == HEAD


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_upgrading_again_keeps_rows(url: str) -> None:
    made = open_ledger(url).requests.open(**make_request_args())
    with Database(url).write() as connection:
        run_alembic(connection, "head")
    assert open_ledger(url).requests.get(made.id) == made


# What issue 2 wrote: two candidates, of which the first was released, and one that is not judged yet.
VERDICTS_OF_0001 = {
    1: {
        "judged": True,
        "passed": True,
        "rows": 2000,
        "reason": "auc 0.7 keeps ≥ 0.6",
        "gates": [{"metric": "auc", "limit": "≥ 0.6", "value": 0.7, "passed": True, "note": ""}],
    },
    2: {
        "judged": True,
        "passed": False,
        "rows": 900,
        "reason": "auc 0.5 is below 0.6",
        "gates": [
            {"metric": "auc", "limit": "≥ 0.6", "value": 0.1 + 0.2, "passed": False, "note": ""},
            {"metric": "auc", "limit": "≤ 0.9", "value": None, "passed": False, "note": "not judged: one class"},
        ],
    },
    3: None,
}
STATES_OF_0001 = {1: CandidateState.RELEASED, 2: CandidateState.REJECTED, 3: CandidateState.TRAINED}


def _insert(connection: Connection, table: str, **row: object) -> None:
    """Into a table as the revision made it, whatever the code knows."""
    types = {datetime: UtcTime(), dict: JSON(), list: JSON()}
    bound = [bindparam(name, type_=types[type(value)]) for name, value in row.items() if type(value) in types]
    columns, values = ", ".join(f'"{name}"' for name in row), ", ".join(f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})").bindparams(*bound), row)


def _fill_0001(connection: Connection) -> None:
    """A row or more in every table of revision 0001."""
    times = {"watermark": WATERMARK, "as_of": AS_OF, "requested_at": NOW, "closed_at": NOW}
    told = {"state": "served", "step": "roll_out", "reason": "released version 1", "detail": {"rows": 5}}
    names = {"model": "m", "source": "warehouse/rows/at", "cause": "new_data", "dedupe_key": "k", "run_id": "run-1"}
    _insert(connection, "trigger_request", id="request-1", **names, **times, **told)
    _insert(connection, "lease", model="m", holder="request-1", fence=3, expires_at=NOW)
    snapshot = make_snapshot()
    row = {name: value for name, value in vars(snapshot).items() if name != "suite"}
    parts = [{**vars(part), "day": part.day.isoformat()} for part in snapshot.parts]
    _insert(connection, "snapshot", **{**row, "parts": parts})
    for version, verdict in VERDICTS_OF_0001.items():
        row = vars(make_candidate(version=version, generation_seen=version - 1))
        del row["made_with"]
        _insert(connection, "candidate", **{**row, "state": STATES_OF_0001[version].value, "verdict": verdict})
    told = {"pool": "default", "generation": 1, "request_id": "request-1", "released_by": "ada", "reason": "gates"}
    bundle = {"model": "m", "version": 1, "bundle": f"{1:064x}", "watermark": WATERMARK, "released_at": NOW}
    _insert(connection, "release", id="release-1", **bundle, **told)
    _insert(connection, "release_event", release_id="release-1", state="live", actor="ada", reason="gates", at=NOW)
    _insert(connection, "champion", model="m", release_id="release-1", generation=1)
    live = {"url": "http://127.0.0.1:1", "versions": {"m": 1}, "heartbeat": NOW}
    _insert(connection, "replica", pool="default", replica="r1", **live)


def _fill_0002(connection: Connection) -> None:
    """A row or more in every table that revision 0002 added, and in `release` of all that it can tell since.

    Model m goes from version 1 to 4, and back to 1 by a rollback; n from 1 to 2; only o is where it began.
    """
    passed = {"state": "released", "verdict": to_json(make_verdict())}
    for model, version in (("m", 4), ("n", 1), ("n", 2), ("o", 1)):
        row = vars(make_candidate(model=model, version=version))
        del row["made_with"]
        _insert(connection, "candidate", **{**row, **passed})
    for model, version, generation, more in (
        ("m", 4, 2, {"released_by": "ben"}),
        ("n", 1, 1, {}),
        ("m", 1, 3, {"kind": "rollback", "act": "run-9", "reason": "wrong fares", "released_at": LATER}),
        ("o", 1, 1, {}),
        ("n", 2, 2, {}),
    ):
        _release(connection, model, version, generation, **more)
    for model, generation in (("m", 3), ("n", 2), ("o", 1)):
        made = {"model": model, "release": f"{model}-{generation}", "generation": generation}
        if model != "m":
            connection.execute(text("INSERT INTO champion VALUES (:model, :release, :generation)"), made)
    connection.execute(text("UPDATE champion SET release_id = 'm-3', generation = 3 WHERE model = 'm'"))
    held = {"model": "m", "number": 1, "held": True, "by": "ada", "reason": "wrong fares", "at": LATER}
    _insert(connection, "hold_event", **held)
    asked = {"model": "m", "version": 4, "request_id": "request-4", "run_id": "run-4", "bundle": f"{4:064x}"}
    told = {"generation_seen": 1, "evidence": digest(make_verdict()), "asked_at": NOW, "expires_at": LATER}
    answer = {"state": "approved", "answered_by": "ben", "reason": "looks well", "answered_at": NOW}
    _insert(connection, "approval", id="approval-1", **asked, **told, **answer)
    _insert(connection, "approval", id="approval-2", **{**asked, "version": 2}, **told, state="open", reason="")


def _release(connection: Connection, model: str, version: int, generation: int, **more: object) -> None:
    """A release as 0002 and 0003 keep it, with its event."""
    made = {"id": f"{model}-{generation}", "model": model, "version": version, "generation": generation}
    told = {"pool": "default", "request_id": f"request-{version}", "released_by": "ada", "reason": "gates"}
    row = {**made, **told, "bundle": f"{version:064x}", "watermark": WATERMARK, "released_at": NOW, **more}
    _insert(connection, "release", **row)
    event = {"actor": row["released_by"], "reason": row["reason"], "at": row["released_at"]}
    _insert(connection, "release_event", release_id=row["id"], state="live", **event)


def _fill_0003(connection: Connection) -> None:
    """A row in every table that revision 0003 added."""
    token = {"id": "token-1", "caller": "shop", "sha256": f"{7:064x}", "reason": "", "created_by": "ada"}
    _insert(connection, "caller_token", created_at=NOW, **token)
    event = {"slot": "serving-blue", "key": "died-1", "what": "died", "detail": "exit status 137", "at": NOW}
    _insert(connection, "slot_event", **event)
    connection.execute(text("UPDATE replica SET reasons = '[\"no space left\"]'"))


def _fill_0004(connection: Connection) -> None:
    """A row in every table that revision 0004 added, and a release of m that is prepared."""
    row = {"model": "m", "key": "k", "at": NOW}
    _insert(connection, "event", what="alias moved", detail="champion to 4", by="ada", **row)
    _insert(connection, "heartbeat", name="reconciler", detail="1 pass", at=NOW)
    told = {"kind": "reminder", "title": "t", "text": "t", "link": "", "tries": 0, "error": "", "created_at": NOW}
    _insert(connection, "notice", id="notice-1", model="m", key="k", **told)
    candidate = vars(make_candidate(version=5, generation_seen=3))
    _insert(connection, "candidate", **{**candidate, "state": "passed", "verdict": to_json(make_verdict())})
    prepared = {"id": "m-prepared", "model": "m", "version": 5, "bundle": f"{5:064x}", "generation": -1, "seen": 3}
    told = {"pool": "default", "request_id": "request-5", "released_by": "auto", "reason": "gates"}
    _insert(connection, "release", **prepared, **told, state="prepared", watermark=WATERMARK, released_at=NOW)
    event = {"state": "prepared", "actor": "auto", "reason": "gates", "at": NOW}
    _insert(connection, "release_event", release_id="m-prepared", **event)


# As revision 0005 wrote it: lengths in seconds.
PLAN_OF_0005 = {
    "shadow": 300.0,
    "canary": [5, 25],
    "step": 90.0,
    "bake": 600.0,
    "min_requests": 200,
    "error_rate": 0.01,
    "latency_p99_ms": None,
    "prediction_psi": 0.3,
}


def _fill_0005(connection: Connection) -> None:
    """A row in every table that revision 0005 added, and a release of n that is on trial."""
    row = vars(make_candidate(model="n", version=3))
    _insert(connection, "candidate", **{**row, "state": "passed", "verdict": to_json(make_verdict())})
    trial = {"id": "n-trial", "model": "n", "version": 3, "bundle": f"{3:064x}", "generation": -1, "seen": 2}
    told = {"pool": "default", "request_id": "request-3", "released_by": "auto", "reason": "gates"}
    stage = {"state": "canary", "weight": 5, "stage_since": NOW, "plan": PLAN_OF_0005}
    _insert(connection, "release", **trial, **told, **stage, watermark=WATERMARK, released_at=NOW)
    _insert(connection, "trip", release_id="gone", replica="r1", kind="faults", reason="5 faults", at=NOW)
    arm = {"release_id": "n-trial", "stage": "canary-5", "arm": "challenger", "replica": "r1", "boot": "boot-1"}
    _insert(connection, "arm_count", **arm, requests=10, faults=1, latency=[4, 6], predictions=[3, 7])
    served = {"model": "n", "pool": "default", "pinned": True, "log_sample": 0.5, "not_logged": ["name"]}
    _insert(connection, "serving_settings", **served, max_concurrent=9)
    step = {"pool": "default", "active": "blue", "change": "started", "by": "ops", "reason": "image abc", "at": NOW}
    _insert(connection, "pool_event", **step)


def _fill_0006(connection: Connection) -> None:
    """A row in every table that revision 0006 added."""
    point = {"model": "m", "version": 4, "name": "drift.psi.max", "slice": "", "start": NOW, "end": LATER}
    _insert(connection, "metric_point", counts=True, **point, value=0.3, rows=500, computed_at=LATER)
    state = {"model": "m", "rule": "drift.psi.max > 0.2", "alert_id": "alert-1", "changes": ["x"]}
    _insert(connection, "rule_state", breaches=3, fine=0, **state, seen_at=NOW)
    alert = {"id": "alert-1", "model": "m", "rule": "drift.psi.max > 0.2", "metric": "drift.psi.max", "slice": ""}
    told = {"severity": "warning", "version": 4, "value": 0.3, "direction": "above", "rows": 500, "worst": 0.3}
    limits = {"limit": 0.2, "window": "1d", "opened_at": NOW, "request_id": "request-1", "closed_why": ""}
    _insert(connection, "alert", **alert, **told, **limits)
    _insert(connection, "alert_request", request_id="request-1", alert_id="alert-1")


FILLED = {
    "0001": _fill_0001,
    "0002": _fill_0002,
    "0003": _fill_0003,
    "0004": _fill_0004,
    "0005": _fill_0005,
    "0006": _fill_0006,
}


def _ledger_of(revision: str, url: str) -> None:
    """A ledger as the program of this revision left it, with rows of all revisions until then."""
    with Database(url).write() as connection:
        for older, fill in FILLED.items():
            if older <= revision:
                run_alembic(connection, older)
                fill(connection)


def _counts(url: str) -> dict[str, int]:
    """Rows by table."""
    with Database(url).read() as connection:
        tables = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
        return {table: int(connection.scalar(text(f"SELECT count(*) FROM {table}"))) for table in tables}


def test_every_revision_but_the_newest_is_upgraded_from() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert sorted([*FILLED, HEAD]) == sorted(revisions)


@pytest.mark.parametrize("kind", SQL)
@pytest.mark.parametrize("revision", FILLED)
def test_a_ledger_of_any_revision_opens_with_all_that_it_holds(revision: str, kind: str, tmp_path: Path) -> None:
    url = url_of(kind, tmp_path)
    _ledger_of(revision, url)
    before = _counts(url)
    assert all(before.values())
    open_ledger(url)
    after = _counts(url)
    kept = set(before) - {"release_event"}  # 0004 adds what became of releases
    assert {table: after[table] for table in kept} == {table: before[table] for table in kept}
    assert after["release_event"] >= before["release_event"]


@pytest.mark.parametrize("kind", SQL)
@pytest.mark.parametrize("revision", FILLED)
def test_a_ledger_of_any_revision_works_on(revision: str, kind: str, tmp_path: Path) -> None:
    url = url_of(kind, tmp_path)
    _ledger_of(revision, url)
    ledger = open_ledger(url)
    before = ledger.releases.champion("m")
    for waiting in ledger.releases.prepared():
        ledger.releases.abort(waiting.id, by="ada", reason="wrong fares", now=LATER)
    live = release(ledger, passed(ledger, 9, seen=before.generation))
    assert (live.seen, live.generation) == (before.generation, before.generation + 1)
    assert ledger.releases.get(str(before.release_id)).state is RolloutState.REPLACED
    assert [made.state for made in ledger.releases.history("m")].count(RolloutState.LIVE) == 1
    back = roll_back(ledger, ledger.models.candidate("m", 1), seen=live.generation, act="run-10")
    assert (back.version, back.request_id, back.watermark) == (1, "request-1", WATERMARK)
    assert ledger.releases.get(live.id).state is RolloutState.ROLLED_BACK
    waits = ledger.requests.open(**make_request_args(run_id=None))
    assert ledger.requests.unfinished() == [waits]


@pytest.mark.parametrize("kind", SQL)
@pytest.mark.parametrize("revision", ["0002", "0003"])
def test_releases_of_before_get_the_state_that_the_next_one_tells(revision: str, kind: str, tmp_path: Path) -> None:
    url = url_of(kind, tmp_path)
    _ledger_of(revision, url)
    ledger = open_ledger(url)
    told = [(r.model, r.version, r.state.value, r.seen, r.generation) for r in ledger.releases.history()]
    assert sorted(told) == [
        ("m", 1, "live", 2, 3),
        ("m", 1, "replaced", 0, 1),
        ("m", 4, "rolled_back", 1, 2),
        ("n", 1, "replaced", 0, 1),
        ("n", 2, "live", 1, 2),
        ("o", 1, "live", 0, 1),
    ]
    assert [(r.model, r.state.value) for r in ledger.releases.live("default")] == [
        ("m", "live"),
        ("n", "live"),
        ("o", "live"),
    ]
    assert ledger.releases.prepared() == []
    assert {r.approval_id for r in ledger.releases.history()} == {""}
    ended = [e for e in ledger.releases.events() if e.state is not RolloutState.LIVE]
    assert [(e.release_id, e.version, e.state.value, e.by, e.reason, e.at) for e in ended] == [
        ("release-1", 1, "replaced", "ben", "gates", NOW),
        ("m-2", 4, "rolled_back", "ada", "wrong fares", LATER),
        ("n-1", 1, "replaced", "ada", "gates", NOW),
    ]


@pytest.mark.parametrize("kind", SQL)
def test_rows_of_revision_0003_mean_the_same_in_the_newest(kind: str, tmp_path: Path) -> None:
    url = url_of(kind, tmp_path)
    _ledger_of("0003", url)
    ledger = open_ledger(url)
    request = ledger.requests.get("request-1")
    assert (request.run_id, request.first_run, request.attempt, request.due_at) == ("run-1", "run-1", 0, None)
    assert (request.queued, ledger.requests.for_run("m", "run-1")) == (False, request)
    assert ledger.models.snapshot("m", "snap-1") == make_snapshot()
    assert ledger.models.candidate("m", 4).made_with == {}
    assert ledger.models.candidate("m", 4).verdict == make_verdict()
    assert ledger.holds.applying("m") == Hold("m", "ada", "wrong fares", LATER)
    approved, asked = ledger.approvals.history()
    assert (approved.id, approved.answered_by, approved.overrides) == ("approval-1", "ben", "")
    assert approved.evidence == digest(make_verdict())
    assert ledger.approvals.open_ones() == [asked]
    assert [token.caller for token in ledger.tokens.active()] == ["shop"]
    assert [event.what for event in ledger.slot_events.latest(9)] == ["died"]
    assert ledger.replicas.alive("default", NOW)[0].reasons == ("no space left",)
    assert (ledger.events.history(), ledger.notices.latest(9)) == ([], [])
    assert ledger.heartbeats.last("reconciler") is None


@pytest.mark.parametrize("kind", SQL)
def test_a_release_that_revision_0004_prepared_has_no_plan_and_goes_live(kind: str, tmp_path: Path) -> None:
    url = url_of(kind, tmp_path)
    _ledger_of("0004", url)
    ledger = open_ledger(url)
    [prepared] = ledger.releases.prepared()
    assert (prepared.id, prepared.seen, prepared.generation) == ("m-prepared", 3, 0)
    assert (prepared.plan, prepared.weight, prepared.stage_since) == (None, 0, None)
    assert ledger.releases.on_trial() == []
    assert (ledger.trials.trips(["m-prepared"]), ledger.settings.of("default")) == ({}, {})
    assert ledger.releases.go_live(prepared.id, LATER).generation == 4
    assert [notice.id for notice in ledger.notices.latest(9)] == ["notice-1"]


@pytest.mark.parametrize("kind", SQL)
def test_a_trial_that_revision_0005_began_goes_on(kind: str, tmp_path: Path) -> None:
    url = url_of(kind, tmp_path)
    _ledger_of("0005", url)
    ledger = open_ledger(url)
    [trial] = ledger.releases.on_trial()
    assert (trial.id, trial.stage, trial.stage_since, trial.seen) == ("n-trial", "canary-5", NOW, 2)
    assert trial.plan == RolloutPlan(
        shadow=timedelta(minutes=5),
        canary=(5, 25),
        step=timedelta(seconds=90),
        bake=timedelta(minutes=10),
        min_requests=200,
        error_rate=0.01,
        prediction_psi=0.3,
    )
    assert [one.latency for one in ledger.trials.counts("n-trial")] == [(4, 6)]
    assert ledger.trials.trips(["gone"])["gone"].kind is TripKind.FAULTS
    assert ledger.settings.of("default")["n"].not_logged == ("name",)
    assert [step.active for step in ledger.pools.history("default")] == ["blue"]
    assert ledger.releases.go_live(trial.id, LATER).generation == 3
    assert (ledger.points.latest("n"), ledger.alerts.states(), ledger.alerts.history()) == ([], {}, [])


@pytest.mark.parametrize("kind", SQL)
def test_rows_of_issue_2_mean_the_same_in_the_newest(kind: str, tmp_path: Path) -> None:
    url = url_of(kind, tmp_path)
    _ledger_of("0001", url)
    ledger = open_ledger(url)
    request = ledger.requests.get("request-1")
    assert (request.watermark, request.as_of, request.closed_at, request.detail) == (WATERMARK, AS_OF, NOW, {"rows": 5})
    assert (ledger.leases.get("m").fence, ledger.models.snapshot("m", "snap-1")) == (3, make_snapshot())
    released = ledger.releases.get("release-1")
    assert (released.kind, released.act, released.released_by, released.released_at) == (
        ReleaseKind.PROMOTION,
        "",
        "ada",
        NOW,
    )
    assert ledger.releases.live("default") == [released]
    assert ledger.replicas.alive("default", NOW)[0].versions == {"m": 1}
    assert (ledger.holds.history(), ledger.approvals.history()) == ([], [])


def test_verdicts_of_issue_2_come_back_in_the_new_shape(url: str) -> None:
    _ledger_of("0001", url)
    kept = {candidate.version: candidate for candidate in open_ledger(url).models.candidates("m")}
    assert {version: candidate.state for version, candidate in kept.items()} == STATES_OF_0001
    assert kept[1].verdict == Verdict(
        judged=True,
        passed=True,
        rows=2000,
        gates=(GateResult("auc", "≥ 0.6", GateState.PASSED, candidate=0.7, rows=2000),),
        reason="auc 0.7 keeps ≥ 0.6",
    )
    assert kept[2].verdict.gates == (
        GateResult("auc", "≥ 0.6", GateState.FAILED, candidate=0.1 + 0.2, rows=900),
        GateResult("auc", "≤ 0.9", GateState.NOT_JUDGED, rows=900, note="not judged: one class"),
    )
    assert kept[3].verdict is None
    assert kept[3] == make_candidate(version=3, generation_seen=2)


def _open(url: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    open_ledger(url)


def test_many_processes_may_open_an_empty_ledger_at_once(url: str) -> None:
    server = multiprocessing.get_context("forkserver")  # a clean parent: this one may hold threads
    server.set_forkserver_preload(["evergreen.adapters.ledger"])
    barrier = server.Barrier(6)
    openers = [server.Process(target=_open, args=(url, barrier)) for _ in range(6)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join(30)
    assert [opener.exitcode for opener in openers] == [0] * 6
    assert open_ledger(url).releases.history() == []


def test_threads_may_open_different_ledgers_at_once(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / name}.db" for name in "abcdef"]
    with ThreadPoolExecutor(6) as pool:
        ledgers = list(pool.map(open_ledger, urls))
    for ledger in ledgers:
        assert ledger.releases.history() == []


def test_opening_a_ledger_at_head_imports_no_alembic(url: str) -> None:
    open_ledger(url)
    code = (
        "import sys; from evergreen.adapters.ledger import open_ledger; open_ledger(sys.argv[1]); "
        "sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)


def test_an_upgrade_that_fails_leaves_nothing_behind(url: str) -> None:
    database = Database(url)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE replica (x INTEGER)"))
    with pytest.raises(Exception, match="table replica already exists"):
        open_ledger(url)
    with database.read() as connection:
        assert inspect(connection).get_table_names() == ["replica"]


def test_only_the_owner_can_read_the_file(url: str, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        open_ledger(url).requests.open(**make_request_args())
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ("ledger.db", "no database URL"),
        ("mysql+pymysql://host/db", "a mysql URL"),
        ("sqlite://", "an SQLite URL without a file"),
    ],
)
def test_a_url_that_cannot_be_a_ledger_is_refused(bad: str, found: str) -> None:
    with pytest.raises(LedgerRefused, match=f"EVERGREEN_LEDGER_URL: found {found}; allowed: sqlite"):
        open_ledger(bad)
