"""The page that Prometheus reads, with every family on it, as `promtool check metrics` wants it."""

from __future__ import annotations

import asyncio
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import httpx
from tests.bundles import ROW, make_bundle, put

from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.store import InMemoryStore
from evergreen.serving.metrics import FAMILIES, Metrics
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.replica.local_bundles import LocalBundles
from evergreen.serving.replica.platform_gauges import PlatformGauges
from evergreen.serving.state import STATE, WORKERS, PoolState, Released, write
from evergreen.serving.web.app import ServingApp


def page_of(folder: Path) -> str:
    """The page of a worker that has answered and refused; what it has not met yet is counted by hand."""
    (folder / WORKERS).mkdir(parents=True)
    store, (bundle, files) = InMemoryStore(), make_bundle(seed=1)
    put(store, bundle, files)
    LocalBundles(folder / "bundles").fetch(bundle, store)
    write(folder / STATE, PoolState(1, {"flight-delay": Released(1, "release-1", bundle, 1)}))
    PlatformGauges("default", folder, in_memory_ledger).read(datetime.now(UTC))
    table = ModelTable(folder, "0", Metrics())

    async def asked() -> str:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(ServingApp(table)), base_url="http://serving"
        ) as client:
            while not table.models:
                await table.follow_once(False)
            for row in (ROW, {**ROW, "carrier": "ZZ"}, {}):
                await client.post("/models/flight-delay/predict", json={"records": [row]})
            await client.post("/models/nobody/predict", json={})
            met = (await client.get("/metrics")).text
            assert 'evergreen_heartbeat_timestamp_seconds{part="reconciler"} 0' in met
            for family, (kind, _) in FAMILIES.items():
                if f"# TYPE {family} " not in met:
                    assert kind != "histogram", family
                    table.metrics.add(family, 3, model="flight-delay", reason='a "quoted"\n\\reason')
            return (await client.get("/metrics")).text

    return asyncio.run(asked())


def test_promtool_finds_nothing_to_say(tmp_path: Path) -> None:
    page = page_of(tmp_path / "default")
    for family in FAMILIES:
        assert page.count(f"# TYPE {family} ") == 1
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_promtool_is_asked_a_question_that_it_can_answer_otherwise() -> None:
    page = "# HELP evergreen_requests Requests\n# TYPE evergreen_requests counter\nevergreen_requests 1\n"
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
    assert "_total" in checked.stdout + checked.stderr
