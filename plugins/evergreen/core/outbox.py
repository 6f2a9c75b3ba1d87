"""Notices on their way: when one that did not go out is tried again, over which ways, and what is kept of an error.

The error of a notice has a line for each way that failed: its name, a colon, and why. A way that worked is not used
again for the same notice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen.core.records import Notice

_DUE_AFTER = (0, 60, 300, 1800, 7200)  # seconds since it was written, of each try: an outage of an hour loses none
TRIES = len(_DUE_AFTER)
_LONGEST = 300
_PATH = re.compile(r"/[^\s'\"()<>]+")


def due(notice: Notice, now: datetime) -> bool:
    """Whether it is to be tried now."""
    wait = timedelta(seconds=_DUE_AFTER[min(notice.tries, TRIES - 1)])
    return now >= notice.created_at + wait


def failed_ways(notice: Notice) -> frozenset[str]:
    """The names of the ways that failed at its last try; none before the first."""
    return frozenset(line.partition(": ")[0] for line in notice.error.splitlines())


def error_text(errors: Mapping[str, str]) -> str:
    """What is kept of the errors by way."""
    return "\n".join(f"{way}: {why}" for way, why in errors.items())


def without_secrets(error: BaseException) -> str:
    """The error in a line, without what may be a path: that of a webhook is its token."""
    text = _PATH.sub("/…", " ".join(f"{type(error).__name__}: {error}".split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
