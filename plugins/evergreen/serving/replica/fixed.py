"""What `--only` serves: one fixed release, in the ledger's place."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from evergreen.core.records import Release, Replica, ServingSettings

FORM = "<model>:<version>:<bundle>"
_ONLY = re.compile(r"([a-z0-9-]+):([0-9]{1,9}):([0-9a-f]{64})")


def parse_only(text: str) -> Release:
    """The release that the option names. Raises ValueError for another form."""
    found = _ONLY.fullmatch(text)
    if not found:
        raise ValueError(f"found {text!r}; allowed: {FORM}, the bundle as its 64 hexadecimal digits")
    model, version, bundle = found.groups()
    return Release(
        id=f"only-{version}-{bundle[:12]}",
        model=model,
        version=int(version),
        bundle=bundle,
        pool="",
        generation=1,
        request_id="",
        released_by="",
        reason="",
        watermark=None,
        released_at=datetime.now(UTC),
    )


class FixedLedger:
    """As much of a ledger as a replica follows: it lists one release for ever, and forgets heartbeats."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self.releases = self.replicas = self.settings = self

    def live(self, pool: str) -> list[Release]:
        """The release, whatever the pool."""
        return [self._release]

    def of(self, pool: str) -> dict[str, ServingSettings]:
        """The defaults."""
        return {}

    def beat(self, replica: Replica, now: datetime) -> None:
        """Nobody waits for this replica."""
