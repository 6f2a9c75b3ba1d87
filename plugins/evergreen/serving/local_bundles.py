"""Verified bundles on the replica's own disk."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from evergreen.core import bundle as bundles
from evergreen.core.errors import BundleRefused
from evergreen.core.ports import Store
from evergreen.serving.state import replace, sync_folder

_log = logging.getLogger(__name__)


class LocalBundles:
    """The folder `bundles/`: one folder a bundle, written whole or not used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, bundle: str, store: Store) -> None:
        """Have the bundle here, verified. Raises BundleRefused, or KeyError for a file the store has not."""
        if self.is_intact(bundle):
            return
        files = bundles.gather(bundle, lambda name: store.get(bundles.key(bundle, name)))
        folder = self._folder / bundle
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            replace(folder / name, data, durable=True)
        sync_folder(self._folder)

    def is_intact(self, bundle: str) -> bool:
        """Whether every file of the bundle is here and as its hashes say."""
        folder = self._folder / bundle
        try:
            bundles.gather(bundle, lambda name: (folder / name).read_bytes())
        except (FileNotFoundError, BundleRefused):
            return False
        return True

    def keep_only(self, needed: set[str]) -> None:
        """Remove the folders of all other bundles."""
        if not self._folder.is_dir():
            return
        for folder in self._folder.iterdir():
            if folder.name not in needed:
                _log.info("bundle %s is no longer needed here: removed", folder.name[:12])
                shutil.rmtree(folder, ignore_errors=True)
