"""The rehearsal: what it asks of a candidate, what it compares with the champion, and whom it blames."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.records import make_candidate, make_spec

from evergreen.core import bundle as bundles
from evergreen.core.errors import ServiceFailed, ServingFailed
from evergreen.core.ports import Answer, ServingConnection
from evergreen.core.records import Candidate, GateResult, GateState
from evergreen.fakes.serving_client import InMemoryServingClient, Serve
from evergreen.fakes.slots import InMemorySlots
from evergreen.fakes.store import InMemoryStore
from evergreen.steps.rehearse import golden_rows_pass, rehearse
from evergreen.wiring import Settings

LATENCY = {"metric": "latency_p99_ms", "against": "champion", "max_ratio": 1.5}
MEMORY = {"metric": "memory_mb", "max": 300}
QUALITY = {"metric": "auc", "min": 0.6}
GOLDEN = {"rows": [{"x": 1.0}, {"x": None}], "predictions": [0.25, 0.75]}
Change = Callable[[Answer], Answer]


@dataclass
class Altered:
    """A client whose answers a test changes; it lists the versions and row counts that were asked."""

    network: dict[str, Serve]
    change: Change = lambda answer: answer
    asked: list[tuple[int, int]] = field(default_factory=list)

    @contextmanager
    def connect(self, url: str) -> Iterator[ServingConnection]:
        with InMemoryServingClient(self.network).connect(url) as inner:
            yield _AlteredConnection(self, inner)


@dataclass
class _AlteredConnection:
    client: Altered
    inner: ServingConnection

    def predict(self, model: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
        answer = self.inner.predict(model, rows)
        self.client.asked.append((answer.version, len(rows)))
        return self.client.change(answer)


class Rig:
    """A store with a candidate of version 2 and a champion of version 1, and slots for them."""

    def __init__(self, golden: dict[str, Any] = GOLDEN, **told: Any) -> None:
        self.store, network = InMemoryStore(), dict[str, Serve]()
        self.slots, self.client = InMemorySlots(self.store, network, **told), Altered(network)
        self.champion, self.candidate = self.stored(1, golden), self.stored(2, golden)

    def stored(self, version: int, golden: dict[str, Any]) -> Candidate:
        content = {bundles.MODEL: b"booster", bundles.GOLDEN: json.dumps(golden).encode()}
        bundle, files = bundles.seal(content, model="m", train_key=str(version))
        for name, data in files.items():
            self.store.put(bundles.key(bundle, name), data)
        return make_candidate("m", version, bundle=bundle)

    def rehearse(self, *gates: dict[str, Any], champion: bool = True) -> tuple[GateResult, ...]:
        spec = make_spec(gates=[QUALITY, *gates])
        return rehearse(spec, self.slots, self.client, self.store, self.candidate, self.champion if champion else None)


def test_a_spec_without_gates_on_it_is_rehearsed_all_the_same_and_nothing_is_measured() -> None:
    rig = Rig()
    (gate,) = rig.rehearse()
    assert (gate.metric, gate.state, gate.rows) == ("rehearsal", GateState.PASSED, 2)
    assert rig.slots.started == [2]
    assert rig.client.asked == [(2, 2)]


def test_the_champion_is_started_only_where_a_gate_compares_with_it() -> None:
    rig = Rig()
    rehearsal, memory = rig.rehearse(MEMORY)
    assert rig.slots.started == [2]
    assert (rehearsal.passed, memory.passed, memory.candidate, memory.champion) == (True, True, 100.0, None)
    rig.rehearse(LATENCY)
    assert rig.slots.started == [2, 2, 1]
    assert rig.rehearse(LATENCY, champion=False)[1].state is GateState.NO_CHAMPION


def test_latency_and_memory_are_those_of_candidate_and_champion() -> None:
    rig = Rig(milliseconds={1: 2.0, 2: 20.0}, memory_mb={1: 90.0, 2: 400.0})
    rehearsal, latency, memory = rig.rehearse(LATENCY, {**MEMORY, "against": "champion", "max_ratio": 2})[:3]
    assert rehearsal.passed
    assert (latency.state, latency.candidate, latency.champion) == (GateState.FAILED, 20.0, 2.0)
    assert (memory.state, memory.candidate, memory.champion) == (GateState.FAILED, 400.0, 90.0)


def test_noise_in_some_rounds_does_not_count_and_both_are_asked_in_turns() -> None:
    rig, requests = Rig(), {1: 0, 2: 0}

    def noisy(answer: Answer) -> Answer:
        requests[answer.version] += 1
        first_round = 41 <= requests[answer.version] <= 241
        return replace(answer, milliseconds=90.0 if first_round and requests[answer.version] % 7 == 0 else 3.0)

    rig.client.change = noisy
    latency = rig.rehearse(LATENCY)[1]
    assert (latency.candidate, latency.champion) == (3.0, 3.0)
    turns = [version for version, rows in rig.client.asked if rows == 1][80:]
    assert turns[:60] == [2] * 20 + [1] * 20 + [2] * 20
    assert turns.count(1) == turns.count(2) == 600


def test_where_there_is_one_slot_each_has_two_turns_in_it_and_is_asked_as_much() -> None:
    rig = Rig(beside=False)
    rig.rehearse(LATENCY)
    assert rig.slots.started == [2, 1, 2, 1]
    assert rig.slots.most_at_once == 1
    assert [version for version, rows in rig.client.asked if rows == 1] == ([2] * 640 + [1] * 640) * 2
    rig.slots.started.clear()
    rig.rehearse({**MEMORY, "against": "champion", "max_ratio": 2})
    assert rig.slots.started == [2, 1]


@pytest.mark.parametrize(("noisy", "turns"), [({1}, 2), ({2}, 2), ({1, 3}, 3), ({1, 3, 5}, 4)])
def test_noise_over_whole_turns_costs_more_turns_and_not_the_verdict(noisy: set[int], turns: int) -> None:
    rig = Rig(beside=False, milliseconds={1: 3.0, 2: 4.0})
    rig.client.change = lambda answer: replace(
        answer, milliseconds=answer.milliseconds * (3 if len(rig.slots.started) in noisy else 1)
    )
    latency = rig.rehearse(LATENCY)[1]
    assert (latency.state, latency.candidate, latency.champion) == (GateState.PASSED, 4.0, 3.0)
    assert rig.slots.started == [2, 1] * turns


def test_noise_over_the_champions_turn_does_not_flatter_a_candidate_that_is_slower() -> None:
    rig = Rig(beside=False, milliseconds={1: 2.0, 2: 4.0})
    rig.client.change = lambda answer: replace(
        answer, milliseconds=answer.milliseconds * (4 if len(rig.slots.started) == 2 else 1)
    )
    latency = rig.rehearse(LATENCY)[1]
    assert (latency.state, latency.candidate, latency.champion) == (GateState.FAILED, 4.0, 2.0)
    assert rig.slots.started == [2, 1] * 4


def test_a_candidate_over_a_limit_of_its_own_has_one_turn() -> None:
    rig = Rig(beside=False, milliseconds={1: 2.0, 2: 40.0})
    assert rig.rehearse({**LATENCY, "max": 20})[1].state is GateState.FAILED
    assert rig.slots.started == [2, 1]


def test_a_missed_limit_is_given_more_rounds_and_a_slow_model_stays_slow() -> None:
    rig, requests = Rig(), [0]

    def noisy_at_first(answer: Answer) -> Answer:
        requests[0] += 1
        return replace(answer, milliseconds=90.0 if requests[0] < 900 else 3.0)

    rig.client.change = noisy_at_first
    limit = {"metric": "latency_p99_ms", "max": 20}
    assert rig.rehearse(limit)[1].candidate == 3.0
    assert requests[0] == 1 + 40 + 6 * 200
    rig.client.change = lambda answer: replace(answer, milliseconds=90.0)
    assert rig.rehearse(limit)[1].state is GateState.FAILED


def test_a_slow_request_in_fifty_counts() -> None:
    rig, requests = Rig(), [0]

    def often_slow(answer: Answer) -> Answer:
        requests[0] += 1
        return replace(answer, milliseconds=40.0 if requests[0] % 50 == 0 else 1.0)

    rig.client.change = often_slow
    assert rig.rehearse({"metric": "latency_p99_ms", "max": 20})[1].candidate == 40.0


@pytest.mark.parametrize(
    ("golden", "off", "passes"),
    [(0.25, 1e-4, False), (0.25, 2e-6, False), (0.25, 1e-7, True), (8000.0, 5e-3, True), (8000.0, 2e-2, False)],
)
def test_golden_rows_are_compared_relatively_and_absolutely(golden: float, off: float, passes: bool) -> None:
    rig = Rig({"rows": [{"x": 1.0}, {"x": 2.0}], "predictions": [0.5, golden]})
    rig.client.change = lambda answer: replace(answer, predictions=[0.5, golden + off])
    (gate,) = rig.rehearse()
    assert gate.passed is passes
    assert ("golden row 1 answered" in gate.note) is not passes
    assert golden_rows_pass(rig.slots, rig.client, rig.store, rig.candidate) == gate


@pytest.mark.parametrize("answered", [[[0.2, 0.8], [0.4, 0.5999]], [[0.2, 0.8], [0.4]], [[0.2, 0.8], None], [[0.2]]])
def test_classes_are_compared_one_by_one(answered: list[Any]) -> None:
    rig = Rig({"rows": [{"x": 1.0}, {"x": 2.0}], "predictions": [[0.2, 0.8], [0.4, 0.6]]})
    assert rig.rehearse()[0].passed
    rig.client.change = lambda answer: replace(answer, predictions=answered)
    assert rig.rehearse()[0].state is GateState.FAILED


def test_an_answer_of_another_version_is_refused() -> None:
    rig = Rig()
    rig.client.change = lambda answer: replace(answer, version=1)
    assert "version 1 answered in place of version 2" in rig.rehearse()[0].note


def test_many_columns_are_asked_a_few_rows_at_a_time() -> None:
    row = {f"c{at}": 1.0 for at in range(900)}
    rig = Rig({"rows": [row] * 5, "predictions": [0.5] * 5})
    assert rig.rehearse()[0].rows == 5
    assert rig.client.asked == [(2, 2), (2, 2), (2, 1)]


def test_a_candidate_that_fails_leaves_its_other_gates_not_judged() -> None:
    rig = Rig()
    rig.store.put(bundles.key(rig.candidate.bundle, bundles.MODEL), b"another")
    rehearsal, latency, memory = rig.rehearse(LATENCY, MEMORY)
    assert rehearsal.state is GateState.FAILED
    assert "model.ubj: found sha256" in rehearsal.note
    assert {latency.state, memory.state} == {GateState.NOT_JUDGED}
    assert "failed its rehearsal" in memory.note
    assert rig.slots.started == []


@pytest.mark.parametrize(
    "golden", [b"{}", b"not JSON", b'{"rows": [], "predictions": []}', b'{"rows": [{"x": 1}], "predictions": []}']
)
def test_golden_rows_that_say_nothing_are_no_pass(golden: bytes) -> None:
    rig = Rig()
    bundle, files = bundles.seal({bundles.MODEL: b"booster", bundles.GOLDEN: golden}, model="m")
    for name, data in files.items():
        rig.store.put(bundles.key(bundle, name), data)
    gate = golden_rows_pass(rig.slots, rig.client, rig.store, replace(rig.candidate, bundle=bundle))
    assert (gate.state, "golden.json: found" in gate.note) == (GateState.FAILED, True)


def test_a_champion_that_cannot_be_started_is_no_fault_of_the_candidate() -> None:
    rig = Rig()
    rig.store.put(bundles.key(rig.champion.bundle, bundles.GOLDEN), b"{}")
    rehearsal, latency = rig.rehearse(LATENCY)
    assert rehearsal.passed
    assert (latency.state, latency.candidate, latency.champion) == (GateState.NOT_COMPARABLE, 1.0, None)
    assert "champion version 1" in latency.note
    assert "sha256" in latency.note


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(("broken", "passed"), [(1, True), (2, False)])
def test_who_breaks_off_while_it_is_measured_is_named(broken: int, passed: bool, beside: bool) -> None:
    rig, asked = Rig(beside=beside), {1: 0, 2: 0}

    def breaks_off(answer: Answer) -> Answer:
        asked[answer.version] += 1
        if answer.version == broken and asked[broken] > 200:
            raise ServingFailed("connection reset")
        return answer

    rig.client.change = breaks_off
    rehearsal, latency = rig.rehearse(LATENCY)
    assert rehearsal.passed is passed
    assert f"version {broken}, while it was measured: connection reset" in (latency.note if passed else rehearsal.note)
    assert latency.state is (GateState.NOT_COMPARABLE if passed else GateState.NOT_JUDGED)


def test_how_much_memory_a_slot_may_hold_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().rehearsal_memory_mb == 2000
    monkeypatch.setenv("EVERGREEN_REHEARSAL_MEMORY_MB", "6000")
    assert Settings.load().rehearsal_memory_mb == 6000
    monkeypatch.setenv("EVERGREEN_REHEARSAL_MEMORY_MB", "6 GB")
    with pytest.raises(ServiceFailed, match="EVERGREEN_REHEARSAL_MEMORY_MB: found '6 GB'"):
        Settings.load()


def test_a_store_that_is_down_fails_the_step_and_not_the_candidate() -> None:
    class Down(InMemoryStore):
        def get(self, key: str) -> bytes:
            raise ConnectionError(key)

    rig = Rig()
    rig.store = Down()
    with pytest.raises(ConnectionError):
        rig.rehearse()
