"""The registry's aliases: set where the ledger has gone on, put back and reported where a hand has moved one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from evergreen.core.ports import Ledger
from evergreen.core.records import CandidateState, NoticeKind
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.steps.repair_aliases import repair_aliases
from judging import Killed, Mortal
from ledgers import opener_of, passed, release, roll_back
from records import NOW, make_candidate, make_verdict

MINUTE = timedelta(minutes=1)
Repair = Callable[..., list[str]]


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """Two versions were released, and a third one waits."""
    made = opener_of(request.param, tmp_path)()
    fill(made)
    return made


def fill(ledger: Ledger) -> None:
    for version in (1, 2):
        release(ledger, passed(ledger, version, seen=version - 1))
    passed(ledger, 3, seen=2)


def make_registry() -> FakeRegistry:
    registry = FakeRegistry()
    for version in range(1, 6):
        registry.register("m", registry.start_run("m", f"run-{version}", {}), {}, {"version": str(version)})
    return registry


@pytest.fixture
def registry() -> FakeRegistry:
    return make_registry()


def repair(ledger: Ledger, registry: FakeRegistry, now: datetime = NOW) -> list[str]:
    return repair_aliases(ledger, registry, ["m", "never-released"], now=now)


def right(ledger: Ledger, registry: FakeRegistry) -> dict[str, int]:
    """What the aliases are after a pass that finds nothing to report."""
    assert repair(ledger, registry) == []
    return registry.aliases("m")


def reports(ledger: Ledger) -> list[str]:
    """What people can read and are told of: both say the same."""
    events = [event.detail for event in ledger.events.history("m") if event.what == "alias moved"]
    notices = [n for n in reversed(ledger.notices.latest(9)) if n.kind is NoticeKind.REPORTED]
    assert [notice.text.rstrip(".") for notice in notices] == events
    return events


def test_what_the_ledger_says_is_set_without_a_word(ledger: Ledger, registry: FakeRegistry) -> None:
    assert right(ledger, registry) == {"champion": 2, "previous": 1, "challenger": 3}
    release(ledger, ledger.models.candidate("m", 3))
    assert right(ledger, registry) == {"champion": 3, "previous": 2, "challenger": 3}
    roll_back(ledger, ledger.models.candidate("m", 2), seen=3)
    assert right(ledger, registry) == {"champion": 2, "previous": 3, "challenger": 3}
    assert reports(ledger) == []


def test_a_hands_move_is_put_back_and_reported_once(ledger: Ledger, registry: FakeRegistry) -> None:
    right(ledger, registry)
    registry.set_alias("m", "champion", 1)
    told = "champion pointed at version 1 (moved by hand in MLflow); put back to version 2"
    assert repair(ledger, registry) == [f"m: {told}"]
    assert registry.aliases("m")["champion"] == 2
    assert repair(ledger, registry, NOW + MINUTE) == []
    assert reports(ledger) == [told]
    registry.set_alias("m", "champion", 1)  # again
    repair(ledger, registry, NOW + 2 * MINUTE)
    assert reports(ledger) == [told, told]


def test_an_alias_that_was_taken_away_comes_back(ledger: Ledger, registry: FakeRegistry) -> None:
    right(ledger, registry)
    del registry.pointers["m", "previous"]
    repair(ledger, registry)
    assert registry.aliases("m")["previous"] == 1
    assert reports(ledger) == ["previous was gone (taken away by hand in MLflow); put back to version 1"]


def test_aliases_of_other_names_are_peoples_own(ledger: Ledger, registry: FakeRegistry) -> None:
    right(ledger, registry)
    registry.set_alias("m", "of-march", 1)
    assert right(ledger, registry)["of-march"] == 1


def test_a_release_while_it_looks_is_no_hands_move(ledger: Ledger, registry: FakeRegistry) -> None:
    right(ledger, registry)

    class Slow(FakeRegistry):
        def aliases(self, model: str) -> dict[str, int]:
            if ledger.releases.champion("m").generation == 2:
                release(ledger, ledger.models.candidate("m", 3))
                registry.set_alias("m", "champion", 3)
            return registry.aliases(model)

        def set_alias(self, model: str, alias: str, version: int) -> None:
            registry.set_alias(model, alias, version)

    assert repair(ledger, Slow()) == []
    assert registry.aliases("m")["champion"] == 3
    assert right(ledger, registry) == {"champion": 3, "previous": 2, "challenger": 3}
    assert reports(ledger) == []


def test_a_training_at_work_is_no_hands_move(ledger: Ledger, registry: FakeRegistry) -> None:
    right(ledger, registry)
    registry.set_alias("m", "challenger", 4)  # as train does, before the ledger knows the version
    assert right(ledger, registry)["challenger"] == 4
    ledger.models.add_candidate(make_candidate(version=4))
    assert right(ledger, registry)["challenger"] == 4
    ledger.models.judge("m", 4, verdict=make_verdict(), state=CandidateState.REJECTED, generation_seen=2)
    assert right(ledger, registry)["challenger"] == 3  # which still waits
    registry.set_alias("m", "challenger", 1)
    repair(ledger, registry)
    assert reports(ledger) == ["challenger pointed at version 1 (moved by hand in MLflow); put back to version 3"]


def test_what_cannot_be_put_back_is_reported_once(ledger: Ledger, registry: FakeRegistry) -> None:
    right(ledger, registry)
    registry.set_alias("m", "champion", 1)
    gone = registry.versions.pop(("m", 2))
    for minute in range(3):
        with pytest.raises(KeyError):
            repair(ledger, registry, NOW + minute * MINUTE)
    assert len(reports(ledger)) == 1
    registry.versions["m", 2] = gone
    repair(ledger, registry, NOW + 3 * MINUTE)
    assert registry.aliases("m")["champion"] == 2
    assert len(reports(ledger)) == 1


@pytest.mark.parametrize("call", range(1, 30))
def test_killed_at_any_call_the_move_is_reported_and_put_back(call: int) -> None:
    ledger, registry = in_memory_ledger(), make_registry()
    fill(ledger)
    right(ledger, registry)
    registry.set_alias("m", "champion", 1)
    countdown = [call]
    with suppress(Killed):
        mortal = Ledger(**{name: Mortal(part, countdown) for name, part in vars(ledger).items()})
        repair_aliases(mortal, Mortal(registry, countdown), ["m"], now=NOW)
    repair(ledger, registry)
    assert registry.aliases("m")["champion"] == 2
    assert len(reports(ledger)) == 1
    registry.set_alias("m", "champion", 1)
    repair(ledger, registry, NOW + MINUTE)
    assert len(reports(ledger)) == 2
