"""Who the champion is, what a bundle says of itself, and whether two models can be compared at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core import bundle
from evergreen.core.errors import BundleRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evergreen.core.ports import Ledger, Store
    from evergreen.core.records import Candidate


@dataclass(frozen=True)
class Reign:
    """The generation, and the version that answers for the model in it: none where nothing was released yet."""

    generation: int
    candidate: Candidate | None


@dataclass(frozen=True)
class BundleFacts:
    """What a bundle says of itself. `label` is none in a bundle that was sealed before the manifest named it."""

    task: str
    classes: int | None
    label: str | None


def reign_of(ledger: Ledger, model: str) -> Reign:
    """Who is champion now. A later generation means that this has changed."""
    champion = ledger.releases.champion(model)
    if champion.release_id is None:
        return Reign(champion.generation, None)
    version = ledger.releases.get(champion.release_id).version
    return Reign(champion.generation, ledger.models.candidate(model, version))


def load(store: Store, sealed: str) -> dict[str, bytes]:
    """All files of a bundle. Raises BundleRefused where one is gone, or is not what was registered."""
    return bundle.gather(sealed, _reader(store, sealed))


def facts_of(files: Mapping[str, bytes]) -> BundleFacts:
    """Read them from the schema and the manifest."""
    schema, manifest = json.loads(files[bundle.SCHEMA]), json.loads(files[bundle.MANIFEST])
    return BundleFacts(
        task=schema["task"],
        classes=schema.get("classes"),
        label=manifest.get("label"),
    )


def champion_features(ledger: Ledger, store: Store, model: str) -> tuple[str, ...]:
    """The features of the champion; none where there is no champion, or its bundle cannot be read: judge says so."""
    champion = reign_of(ledger, model).candidate
    return (features_of(store, champion) or ()) if champion else ()


def features_of(store: Store, candidate: Candidate) -> tuple[str, ...] | None:
    """The features that a version was fitted on; none where its bundle cannot be read."""
    try:
        schema = json.loads(bundle.one_file(candidate.bundle, bundle.SCHEMA, _reader(store, candidate.bundle)))
    except BundleRefused:
        return None
    return tuple(feature["name"] for feature in schema["features"])


def why_apart(candidate: BundleFacts, champion: BundleFacts) -> str:
    """Why answers of the two cannot be compared, whatever the rows; empty where they can."""
    if champion.task != candidate.task:
        return f"it answers another task ({champion.task}, now {candidate.task})"
    if champion.label not in (None, candidate.label):
        return f"it learned another label ('{champion.label}', now '{candidate.label}')"
    if champion.classes != candidate.classes:
        return f"it knows {champion.classes} classes, and the candidate {candidate.classes}"
    return ""


def _reader(store: Store, sealed: str) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        try:
            return store.get(bundle.key(sealed, name))
        except KeyError as error:
            raise BundleRefused(
                f"bundle {sealed[:12]}, {name}",
                found="no such file in the store",
                allowed="every file of a registered bundle",
                do="Restore it from the version's artifacts in MLflow (bundle/), or go on without this version: "
                "retrain on newer data, or roll back to another.",
            ) from error

    return read
