"""Keeps callers.json equal to the ledger's valid tokens. Part of the serving supervisor."""

from __future__ import annotations

import logging
from pathlib import Path

from evergreen.core.ports import Tokens
from evergreen.serving import state as files
from evergreen.serving.replica.local_bundles import DiskRefused
from evergreen.serving.state import Callers

_log = logging.getLogger(__name__)


class CallerList:
    """The local list of callers; the last good one stays while the ledger does not answer."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / files.CALLERS
        self._written = _last(self._path)

    def follow(self, tokens: Tokens) -> str:
        """Write the list anew if it has changed; what is to be told, or nothing.

        Raises DiskRefused where the list cannot be written, and what the ledger raises.
        """
        names = {token.sha256: token.caller for token in tokens.active()}
        if self._written is not None and names == self._written.names:
            return ""
        if not names and self._written and self._written.names and not tokens.all():
            return "The control ledger knows no token, not even a revoked one; going on with the callers known here."
        listed = Callers(names)
        try:
            files.write(self._path, listed, durable=True)
        except OSError as error:
            raise DiskRefused(self._path.parent, error) from error
        self._written = listed
        _log.info(
            "%d tokens are valid, of the callers: %s", len(names), ", ".join(sorted(set(names.values()))) or "none"
        )
        return ""


def _last(path: Path) -> Callers | None:
    try:
        return files.read(path, Callers)
    except ValueError as error:
        _log.error("%s. It is written anew from the ledger", error)
        return None
