"""The rehearsal as real processes: what it refuses, and that nothing is left of it however it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import xgboost as xgb
from tests.bundles import ROW, answer_of, booster, frame, make_bundle, offline, put
from tests.records import make_candidate, make_spec
from tests.serving_process import Serving, serving, wait_for

from evergreen import wiring
from evergreen.adapters.child_slots import ChildSlots
from evergreen.adapters.slot_readiness import wait_until_ready
from evergreen.core import bundle as bundles
from evergreen.core.errors import RehearsalFailed, ServingFailed
from evergreen.core.records import Candidate, GateResult, GateState
from evergreen.steps.rehearse import golden_rows_pass, rehearse

MODEL = "flight-delay"


@dataclass
class Rig:
    """A home with a store, and what is wired to them."""

    home: Path

    def __post_init__(self) -> None:
        self.settings = wiring.Settings(self.home, self.home, "none", str(self.home / "store"), "none")
        self.store, self.client = wiring.store(self.settings), wiring.serving_client()

    def stored(self, version: int, made: tuple[str, dict[str, bytes]]) -> Candidate:
        put(self.store, *made)
        return make_candidate(MODEL, version, bundle=made[0])

    def golden_rows(self, candidate: Candidate) -> GateResult:
        return golden_rows_pass(wiring.slots(self.settings), self.client, self.store, candidate)

    def slots(self, command: Sequence[str], timeout: float = 20, memory_limit_mb: float = 2000) -> ChildSlots:
        """Slots of another program."""
        return ChildSlots(
            self.home,
            self.home,
            self.settings.store_url,
            wait_until_ready,
            command=command,
            timeout=timeout,
            memory_limit_mb=memory_limit_mb,
        )

    def refused(self, slots: ChildSlots, candidate: Candidate) -> str:
        """Why the candidate could not be started."""
        with (
            pytest.raises(RehearsalFailed) as failed,
            slots.start(candidate.model, candidate.version, candidate.bundle),
        ):
            pass
        return str(failed.value)

    def left(self) -> list[str]:
        """The folders that are there."""
        return [path.name for path in (self.home / "rehearsals").iterdir() if path.is_dir()]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def lives(pid: int) -> bool:
    """Whether the process runs; one that ended and that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def slow_bundle(times: int) -> tuple[str, dict[str, bytes]]:
    """A real booster with the same trees over and over: as many times slower."""
    whole = json.loads(bytes(booster(0).save_raw("json")))
    model = whole["learner"]["gradient_booster"]["model"]
    trees, count = model["trees"], len(model["trees"]) * times
    model["trees"] = [{**trees[at % len(trees)], "id": at} for at in range(count)]
    model["tree_info"], model["iteration_indptr"] = [0] * count, list(range(count + 1))
    model["gbtree_model_param"]["num_trees"] = str(count)
    slow = xgb.Booster(model_file=bytearray(json.dumps(whole).encode()))
    _, files = make_bundle(MODEL, 0, predictions=offline(slow, frame(0).head(12)))
    kept = {name: data for name, data in files.items() if name != bundles.MANIFEST}
    return bundles.seal({**kept, bundles.MODEL: bytes(slow.save_raw("ubj"))}, model=MODEL)


def test_a_good_candidate_passes_and_nothing_is_left(rig: Rig) -> None:
    gate = rig.golden_rows(rig.stored(1, make_bundle(MODEL, 1)))
    assert (gate.metric, gate.state, gate.rows) == ("rehearsal", GateState.PASSED, 12)
    assert rig.left() == []


def test_a_wrong_sha256_is_refused(rig: Rig) -> None:
    candidate = rig.stored(1, make_bundle(MODEL, 1))
    rig.store.put(bundles.key(candidate.bundle, bundles.MODEL), make_bundle(MODEL, 2)[1][bundles.MODEL])
    gate = rig.golden_rows(candidate)
    assert gate.state is GateState.FAILED
    assert "model.ubj: found sha256" in gate.note


def test_a_golden_row_off_by_a_ten_thousandth_is_refused(rig: Rig) -> None:
    recorded = json.loads(make_bundle(MODEL, 1)[1][bundles.GOLDEN])["predictions"]
    recorded[4] += 1e-4
    gate = rig.golden_rows(rig.stored(1, make_bundle(MODEL, 1, predictions=recorded)))
    assert gate.state is GateState.FAILED
    assert "golden row 4 answered" in gate.note


def test_a_model_ten_times_slower_than_the_champion_is_refused(rig: Rig) -> None:
    champion, candidate = rig.stored(1, make_bundle(MODEL, 0)), rig.stored(2, slow_bundle(1000))
    spec = make_spec(
        name=MODEL,
        gates=[
            {"metric": "auc", "min": 0.6},
            {"metric": "latency_p99_ms", "against": "champion", "max_ratio": 1.5},
            {"metric": "memory_mb", "max": 1000},
        ],
    )
    slots = wiring.slots(rig.settings)
    rehearsal, latency, memory = rehearse(spec, slots, rig.client, rig.store, candidate, champion)
    assert (rehearsal.state, latency.state, memory.state) == (GateState.PASSED, GateState.FAILED, GateState.PASSED)
    assert latency.candidate is not None
    assert latency.champion is not None
    assert latency.candidate > 1.5 * latency.champion
    assert memory.candidate is not None
    assert memory.champion is not None
    assert 30 < memory.champion < memory.candidate < 1000
    assert rig.left() == []


def test_a_candidate_that_needs_two_gigabytes_is_stopped_on_the_way(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hungry = "import sys, time\nif 'evergreen.serving.worker' in sys.orig_argv:\n    held = []\n"
    hungry += "    for _ in range(40):\n        held.append(b'x' * 50_000_000)\n        time.sleep(0.05)\n"
    (tmp_path / "sitecustomize.py").write_text(hungry)  # each interpreter runs it at its start
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    candidate = rig.stored(3, make_bundle(MODEL, 1))
    slots = rig.slots((sys.executable, "-m", "evergreen.serving"), memory_limit_mb=500)
    gate = golden_rows_pass(slots, rig.client, rig.store, candidate)
    assert gate.state is GateState.FAILED
    assert "version 3 needed more than 500 MB of memory" in gate.note


def test_a_program_that_dies_is_refused_with_the_end_of_its_log(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in ("EVERGREEN_CONN_WAREHOUSE", "EVERGREEN_LEDGER_URL", "AIRFLOW__CORE__FERNET_KEY"):
        monkeypatch.setenv(secret, "secret")
    said = "import os; print(*[n for n in sorted(os.environ) if n[:3] in ('AIR', 'EVE')]); raise SystemExit(3)"
    text = rig.refused(rig.slots((sys.executable, "-c", said)), make_candidate(MODEL, 1))
    assert "ended with 3" in text
    assert text.endswith("EVERGREEN_HOME EVERGREEN_PROJECT EVERGREEN_STORE_URL")  # what it needs, and no secret


def test_a_program_that_never_listens_is_ended_with_all_its_session(rig: Rig, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = ("/bin/sh", "-c", f"sleep 60 & echo $! > {pid}; wait")
    text = rig.refused(rig.slots(program, timeout=2), make_candidate(MODEL, 1))
    assert "not ready within 2 s: it does not listen yet" in text
    assert not lives(int(pid.read_text()))
    assert rig.left() == []


def test_a_slot_ends_with_the_process_that_started_it_and_its_folder_goes_at_the_next_start(rig: Rig) -> None:
    made = make_bundle(MODEL, 1)
    candidate = rig.stored(1, made)
    program = "import sys, time\nfrom pathlib import Path\nfrom evergreen import wiring\nhome = Path(sys.argv[1])\n"
    program += "settings = wiring.Settings(home, home, 'none', str(home / 'store'), 'none')\n"
    program += f"with wiring.slots(settings).start('{MODEL}', 1, '{made[0]}') as slot:\n"
    program += "    print(slot.url, flush=True)\n    time.sleep(60)\n"
    starter = subprocess.Popen([sys.executable, "-c", program, str(rig.home)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    url = starter.stdout.readline().strip()
    starter.kill()
    starter.wait()
    starter.stdout.close()

    def is_gone() -> bool:
        try:
            with rig.client.connect(url) as connection:
                connection.predict(MODEL, [ROW])
        except ServingFailed:
            return True
        return False

    wait_for(is_gone, 30)
    assert len(rig.left()) == 1
    with wiring.slots(rig.settings).start(MODEL, 1, candidate.bundle):
        assert len(rig.left()) == 1
    assert rig.left() == []


def test_a_container_is_told_by_a_file_what_to_serve_and_opens_no_ledger(rig: Rig) -> None:
    first, second = rig.stored(5, make_bundle(MODEL, 5)), rig.stored(6, make_bundle(MODEL, 6))
    told = rig.home / "arguments"
    with serving(rig.home, f"@{told}") as replica:
        restart(replica, told, first)
        assert replica.answer(ROW) == (5, pytest.approx(answer_of(5), abs=1e-6))
        assert replica.ask("GET", "/v2/health/ready") == (200, {"ready": True, "reasons": []})
        assert replica.ledger.replicas.alive("default", datetime(2013, 1, 1, tzinfo=UTC)) == []
        replica.stop()
        rig.store.put(bundles.key(second.bundle, bundles.SCHEMA), b"{}")
        restart(replica, told, second)
        assert replica.ask("GET", f"/v2/models/{MODEL}/ready")[1]["refused"]
        assert replica.ask("POST", f"/models/{MODEL}/predict", {"records": [ROW]})[0] == 503  # and not by version 5


def restart(replica: Serving, told: Path, candidate: Candidate) -> None:
    """Start serving for this candidate, and wait until it answers with it or refuses it."""
    told.write_text(f"--only\n{candidate.model}:{candidate.version}:{candidate.bundle}\n")
    replica.start()

    def is_decided() -> bool:
        status, told = replica.ask("GET", f"/v2/models/{MODEL}/ready")
        return status == 200 or told.get("refused", False)

    wait_for(is_decided, 30, replica.log)


def test_a_release_in_another_form_is_an_error_that_names_the_form() -> None:
    command = [sys.executable, "-m", "evergreen.serving", "--only", f"{MODEL}:1:../store"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "allowed: <model>:<version>:<bundle>" in ended.stderr
