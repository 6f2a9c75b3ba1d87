"""Serving: throwaway copies for rehearsals, the container slots, and how it is asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from evergreen.wiring.data import ledger

if TYPE_CHECKING:
    from evergreen.core.ports import EdgeProxy, RehearsalSlots, ServingClient, ServingCounters, SlotContainers
    from evergreen.wiring.settings import Settings


def slots(settings: Settings) -> RehearsalSlots:
    """The rehearsal container where EVERGREEN_SLOTS_URL is set, else throwaway processes on this machine."""
    from evergreen.adapters.slot_readiness import wait_until_ready

    if settings.slots_url:
        from evergreen.adapters.container_slots import ContainerSlots

        containers, leases = slot_containers(settings), ledger(settings).leases
        return ContainerSlots(containers, leases, settings.home / "rehearsal", wait_until_ready)
    from evergreen.adapters.child_slots import ChildSlots

    return ChildSlots(
        settings.root,
        settings.home,
        settings.store_url,
        wait_until_ready,
        memory_limit_mb=settings.rehearsal_memory_mb,
    )


def slot_containers(settings: Settings) -> SlotContainers:
    """The container slots, through docker-slots."""
    from evergreen.adapters.container_slots import DockerSlots

    return DockerSlots(settings.slots_url)


def edge(settings: Settings) -> EdgeProxy | None:
    """The edge before the slots, by its runtime API; none where EVERGREEN_EDGE_URL is not set."""
    from evergreen.adapters.edge_proxy import HAProxyEdge

    return HAProxyEdge(settings.edge_url) if settings.edge_url else None


def serving_client() -> ServingClient:
    """Serving over HTTP, with the platform's own token (EVERGREEN_SERVING_TOKEN) where one is set."""
    from evergreen.adapters.serving_client import HttpServingClient

    return HttpServingClient(token=os.environ.get("EVERGREEN_SERVING_TOKEN", ""))


def serving_counters() -> ServingCounters:
    """Serving's own counters, over HTTP."""
    from evergreen.adapters.serving_counters import HttpServingCounters

    return HttpServingCounters()
