"""Who is told what people must know (an approval waits, a slot was restarted): what EVERGREEN_NOTIFIERS names.

None of them can fail the task.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

Notifier = Callable[["Context"], Any]


def notifiers() -> list[Notifier]:
    """The notifiers of EVERGREEN_NOTIFIERS: import paths with commas, such as 'ops_mail.tell,ops_chat.Notice'.

    Each is a function of the task's context, or a class without arguments whose instances are, as Airflow's are.
    """
    named = (path.strip() for path in os.environ.get("EVERGREEN_NOTIFIERS", "").split(","))
    return [_careful(path) for path in named if path]


def _careful(path: str) -> Notifier:
    def notify(context: Context) -> None:
        try:
            module, _, name = path.rpartition(".")
            found = getattr(importlib.import_module(module), name)
            (found() if isinstance(found, type) else found)(context)
        except Exception:
            log.exception("Notifier %s failed; the task goes on all the same", path)

    return notify
