"""The bundle: a content-addressed set of files that serving answers from.

    manifest.json   {"format": 1, "model": …, "files": {name: sha256}, "train_key": …, "snapshot": …,
                     "label": the label's column}
    model.ubj       the booster
    schema.json     {"task", "features": [{"name", "kind": "number" | "category", "categories": […]}],
                     "unknown_category": "missing" | "refuse", "classes": n for multiclass}
    golden.json     {"rows": [{feature: value or null}], "predictions": [number or list]}
    reference.json  what training saw, and what the monitor measures against (core.monitoring.reference)
    loss.ubj        of a regression: a booster that tells by how much it will be off

Serving answers from the first four; older bundles have no others.
The bundle's id is the sha256 of manifest.json, which names the sha256 of every other file: one hash vouches for
all. It lies in the store under `bundles/<id>/`. Nothing in it is a pickle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evergreen.core.errors import BundleRefused

MANIFEST, MODEL, SCHEMA, GOLDEN = "manifest.json", "model.ubj", "schema.json", "golden.json"


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """The same bytes for the same value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def seal(files: Mapping[str, bytes], **facts: str) -> tuple[str, dict[str, bytes]]:
    """Add the manifest to a bundle's files; returns the bundle's id and all its files."""
    manifest = canonical_json({"format": 1, "files": {n: sha256(d) for n, d in files.items()}, **facts})
    return sha256(manifest), {**files, MANIFEST: manifest}


def key(bundle: str, name: str) -> str:
    """Where a bundle's file lies in the store."""
    return f"bundles/{bundle}/{name}"


def file_names(bundle: str, manifest: bytes) -> dict[str, str]:
    """Name → sha256 of every file, once the manifest is known to be the bundle's. Raises BundleRefused."""
    _agree(bundle, MANIFEST, bundle, manifest)
    files: dict[str, str] = json.loads(manifest)["files"]
    return files


def gather(bundle: str, read: Callable[[str], bytes]) -> dict[str, bytes]:
    """All files of a bundle, verified. Raises BundleRefused, or what `read` raises for a file that is not there."""
    files = {MANIFEST: read(MANIFEST)}
    for name in file_names(bundle, files[MANIFEST]):
        _check_name(bundle, name)
        files[name] = read(name)
    verify(bundle, files)
    return files


def one_file(bundle: str, name: str, read: Callable[[str], bytes]) -> bytes:
    """One file of a bundle, verified. Raises BundleRefused, KeyError for a name that the manifest has not."""
    digest = file_names(bundle, read(MANIFEST))[name]
    data = read(name)
    _agree(bundle, name, digest, data)
    return data


def verify(bundle: str, files: Mapping[str, bytes]) -> None:
    """Raise BundleRefused unless every file is, byte for byte, what the bundle's id vouches for."""
    for name, digest in file_names(bundle, files[MANIFEST]).items():
        _agree(bundle, name, digest, files[name])


def _check_name(bundle: str, name: str) -> None:
    if Path(name).name != name or name.startswith("."):
        raise BundleRefused(
            f"bundle {bundle[:12]}, {MANIFEST}",
            found=f"the file name {name!r}",
            allowed="plain file names",
            do="Retrain; this bundle was not written by Evergreen.",
        )


def _agree(bundle: str, name: str, digest: str, data: bytes) -> None:
    if sha256(data) != digest:
        raise BundleRefused(
            f"bundle {bundle[:12]}, {name}",
            found=f"sha256 {sha256(data)[:12]}…",
            allowed=f"{digest[:12]}…",
            do="The file was changed or damaged after it was registered: restore it from the MLflow version, "
            "or retrain. The version that was live goes on answering.",
        )
