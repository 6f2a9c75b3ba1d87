"""What a word on the command line means: the champion of a model, a release or a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.errors import FoundProblem
from evergreen.core.lineage import Node, PageOf, of_release, of_snapshot, of_version, release_ids, snapshot_ids
from evergreen.core.spec_fields import did_you_mean

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

SHORTEST = 6  # characters of an id
_SHOWN = 5
_MEANT = "a model's name, or 6 or more characters that one release's or snapshot's id begins with"


class NotFound(FoundProblem):
    """Raised when nothing, or more than one thing, is meant."""


@dataclass(frozen=True)
class Found:
    """A release or a snapshot."""

    kind: str
    model: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id} of {self.model}"


def models_known(ledger: Ledger, declared: Iterable[str]) -> list[str]:
    """The models that have a spec, and those that the ledger has releases of or questions about."""
    released = (event.model for event in ledger.releases.events())
    asked = (one.model for one in ledger.approvals.history())
    return sorted({*declared, *released, *asked})


def trace(ledger: Ledger, models: Iterable[str], what: str, version: int | None, page_of: PageOf) -> Node:
    """The tree of a model's version (of its champion without a number), or of the release or snapshot of this id.

    Raises NotFound where nothing, or more than one thing, is meant.
    """
    names = list(models)
    if version is not None:
        return _version(ledger, names, what, version, page_of)
    if what in names or ledger.models.candidates(what):
        return _version(ledger, names, what, _champion(ledger, what), page_of)
    found = _one(ledger, names, what)
    if found.kind == "release":
        return of_release(ledger, found.id, page_of)
    return of_snapshot(ledger, found.model, found.id, page_of)


def _version(ledger: Ledger, names: list[str], model: str, version: int, page_of: PageOf) -> Node:
    try:
        return of_version(ledger, model, version, page_of)
    except KeyError:
        pass
    versions = [one.version for one in ledger.models.candidates(model)]
    if not versions and model not in names:
        do = did_you_mean(model, names) or "`evergreen status` lists the models."
        raise NotFound(f"model '{model}'", found="no such model", allowed=", ".join(names) or "none yet", do=do)
    do = f"`evergreen history {model}` says what happened to each."
    raise NotFound(f"{model} version {version}", found="no such version", allowed=_listed(versions), do=do)


def _champion(ledger: Ledger, model: str) -> int:
    champion = ledger.releases.champion(model)
    if champion.release_id is not None:
        return ledger.releases.get(champion.release_id).version
    versions = [one.version for one in ledger.models.candidates(model)]
    do = f"Name one: `evergreen trace {model} {versions[0]}`." if versions else f"`evergreen status {model}` says why."
    raise NotFound(f"champion of {model}", found="nothing released yet", allowed=_listed(versions), do=do)


def _one(ledger: Ledger, names: list[str], begins: str) -> Found:
    where = f"'{begins}'"
    if len(begins) < SHORTEST:
        do = did_you_mean(begins, names) or "`evergreen history` names releases' models and versions."
        raise NotFound(where, found="no such model, and too short for an id", allowed=_MEANT, do=do)
    found = _beginning_with(ledger, names, begins)
    if len(found) == 1:
        return found[0]
    if found:
        told = "; ".join(map(str, found[:_SHOWN])) + ("; …" if len(found) > _SHOWN else "")
        raise NotFound(where, found=told, allowed="one", do="Give more characters of the id.")
    do = did_you_mean(begins, names) or "`evergreen trace <model>` shows the ids of its champion."
    raise NotFound(where, found="no such model, release or snapshot", allowed=_MEANT, do=do)


def _beginning_with(ledger: Ledger, names: list[str], begins: str) -> list[Found]:
    kinds = (("release", release_ids), ("snapshot", snapshot_ids))
    ids = [Found(kind, model, id) for model in names for kind, ids_of in kinds for id in ids_of(ledger, model)]
    found = [one for one in ids if one.id.startswith(begins.lower())]
    return found or [Found("snapshot", model, begins) for model in names if _has_snapshot(ledger, model, begins)]


def _has_snapshot(ledger: Ledger, model: str, snapshot_id: str) -> bool:
    """Whether there is one of this whole id: no version may have been made from it."""
    try:
        ledger.models.snapshot(model, snapshot_id)
    except KeyError:
        return False
    return True


def _listed(versions: list[int]) -> str:
    more = ", …" if len(versions) > _SHOWN else ""
    return f"versions {', '.join(map(str, versions[:_SHOWN]))}{more}" if versions else "none"
