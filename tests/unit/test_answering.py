"""What is told of a replica that does not answer with the version yet."""

from __future__ import annotations

from evergreen.core.answering import Wait, wait_until_answering
from evergreen.core.records import Replica
from evergreen.fakes.ledger import in_memory_ledger
from ledgers import passed, release
from records import NOW


def test_a_replica_that_is_behind_says_why() -> None:
    ledger = in_memory_ledger()
    released = release(ledger, passed(ledger, 2, seen=0))
    told = ("m version 2 cannot be kept here: No space left on device.",)
    ledger.replicas.beat(Replica("default", "blue", "http://blue", {"m": 1}, reasons=told), NOW)
    ledger.replicas.beat(Replica("default", "green", "http://green", {}), NOW)
    ledger.replicas.beat(Replica("default", "red", "http://red", {"m": 2}, reasons=told), NOW)
    found = wait_until_answering(ledger, released, Wait(0, clock=lambda: NOW))
    assert found.behind == (
        "blue reports version 1 (m version 2 cannot be kept here: No space left on device.)",
        "green reports no version that all its workers answer with",
    )
