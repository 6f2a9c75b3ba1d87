"""What is kept of a fitted version beside the ledger: its bundle in the store, and how it was made in the registry."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from evergreen.core import bundle
from evergreen.core.train_key import spec_json

if TYPE_CHECKING:
    from evergreen.core.ports import Registry, Store, TrainedModel
    from evergreen.core.spec import ModelSpec
    from evergreen.core.train_key import Provenance


def keep_bundle(store: Store, sealed: str, files: Mapping[str, bytes]) -> None:
    """The manifest last: where it is, all is."""
    for name in sorted(files, key=lambda name: name == bundle.MANIFEST):
        store.put(bundle.key(sealed, name), files[name])


def log_training(
    spec: ModelSpec,
    registry: Registry,
    run: str,
    trained: TrainedModel,
    made_with: Provenance,
    fitted_on: Mapping[str, Any],
) -> None:
    """Parameters, metrics, pictures and where it came from, in this run. `spec`: as it was declared."""
    registry.log(
        run,
        params={
            **trained.params,
            "features": ", ".join(spec.features.columns),
            **fitted_on,
            "data_end": trained.data_end.isoformat(),
        },
        metrics=trained.metrics,
        tags={
            "evergreen.code_revision": made_with.code_revision,
            "evergreen.lock_hash": made_with.lock_hash,
            "evergreen.folder_hash": made_with.folder_hash,
            "evergreen.image": made_with.image,
            "evergreen.spec_sha256": made_with.spec_sha256,
        },
    )
    shares = sorted(trained.importances.items(), key=lambda item: -item[1])
    registry.log_file(run, "training/importances.csv", _csv(["feature", "share_of_gain"], shares))
    if trained.history:
        curve = zip(range(1, 1 + max(map(len, trained.history.values()))), *trained.history.values(), strict=False)
        registry.log_file(run, "training/history.csv", _csv(["round", *trained.history], curve))
    registry.log_file(run, "training/spec.json", spec_json(spec))
    for path, picture in trained.plots.items():
        registry.log_file(run, path, picture)


def _csv(header: list[str], rows: Iterable[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(chain([header], rows))
    return text.getvalue().encode()
