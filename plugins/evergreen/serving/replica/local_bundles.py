"""Verified bundles on the replica's own disk."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from evergreen.core import bundle as bundles
from evergreen.core.errors import BundleRefused, EvergreenError
from evergreen.core.ports import Store
from evergreen.serving.state import replace, sync_folder

_STAGING = ".fetching-"
_log = logging.getLogger(__name__)


class DiskRefused(EvergreenError):
    """Raised when this replica's own disk does not take a file; the message says where, why and what to do."""

    def __init__(self, folder: Path, error: OSError, size: int = 0) -> None:
        super().__init__(
            f"{folder} cannot be written: {error.strerror or error}{_room(folder, size)}. It is tried again by itself."
        )


class LocalBundles:
    """The folder `bundles/`: one folder a bundle, which appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, bundle: str, store: Store) -> None:
        """Have the bundle here, verified.

        Raises BundleRefused, KeyError for a file the store has not, DiskRefused where it cannot be written here; no
        part of it is left then.
        """
        if self.is_intact(bundle):
            return
        files = bundles.gather(bundle, lambda name: store.get(bundles.key(bundle, name)))
        try:
            self._write(bundle, files)
        except OSError as error:
            shutil.rmtree(self._folder / f"{_STAGING}{bundle}", ignore_errors=True)
            raise DiskRefused(self._folder, error, sum(map(len, files.values()))) from error

    def _write(self, bundle: str, files: Mapping[str, bytes]) -> None:
        folder, staging = self._folder / bundle, self._folder / f"{_STAGING}{bundle}"
        for useless in (folder, staging):  # a damaged copy, and what a killed fetch has left
            shutil.rmtree(useless, ignore_errors=True)
        staging.mkdir(parents=True)
        for name, data in files.items():
            replace(staging / name, data, durable=True)
        staging.rename(folder)
        sync_folder(self._folder)

    def is_intact(self, bundle: str) -> bool:
        """Whether every file of the bundle is here and as its hashes say."""
        folder = self._folder / bundle
        try:
            bundles.gather(bundle, lambda name: (folder / name).read_bytes())
        except (OSError, BundleRefused):  # not there, damaged, or on a part of the disk that is
            return False
        return True

    def keep_only(self, needed: set[str]) -> None:
        """Remove the folders of all other bundles, and what a killed fetch has left of them."""
        if not self._folder.is_dir():
            return
        for folder in self._folder.iterdir():
            if folder.name.removeprefix(_STAGING) not in needed:
                _log.info("bundle %s is no longer needed here: removed", folder.name[:12])
                shutil.rmtree(folder, ignore_errors=True)


def _room(folder: Path, size: int) -> str:
    """What is needed, and what is free where that is less.

    The room on a disk that is not full changes from one look to the next, and a reason whose text changes would be told
    again at each.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not size:
        return ""
    short = f", {free / 1e6:.1f} MB are free" if free < size else ""
    return f" ({size / 1e6:.1f} MB are needed{short})"
