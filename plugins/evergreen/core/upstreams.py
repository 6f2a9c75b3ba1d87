"""Models that are retrained when another one was released: each must be there, and none may wait for itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from evergreen.core.problems import Problem
from evergreen.core.spec_fields import did_you_mean

if TYPE_CHECKING:
    from evergreen.core.layers import Layer
    from evergreen.core.spec import ModelSpec


def upstream_problems(
    specs: Mapping[str, ModelSpec], layer_of: Callable[[str], Layer], known: Collection[str]
) -> dict[str, list[Problem]]:
    """What is wrong with the upstream models of these specs, by model; only models with problems are in it.

    `known` are all models that have a spec, also a broken one: that is told where it is broken. `layer_of` gives the
    layer of one of `specs`.
    """
    found = {name: list(_problems(spec, layer_of, specs, known)) for name, spec in specs.items() if spec.upstream}
    return {name: problems for name, problems in found.items() if problems}


def _problems(
    spec: ModelSpec, layer_of: Callable[[str], Layer], specs: Mapping[str, ModelSpec], known: Collection[str]
) -> Iterator[Problem]:
    layer, others = layer_of(spec.name), sorted(set(known) - {spec.name})
    for at, trigger in enumerate(spec.triggers):
        name = trigger.upstream
        if name is None:
            continue
        place, field = layer.place(("triggers", at, "upstream")), f"triggers[{at}].upstream"
        allowed = ", ".join(others) or "a model of this project"
        if name not in known:
            do = did_you_mean(name, others) or "Name a folder of models/, or remove the trigger."
            yield Problem(*place, field, f"no model '{name}'", allowed, do)
        elif circle := _way(name, spec.name, specs):
            found = f"a circle: {' → '.join([spec.name, *circle])}"
            do = "Remove one of its triggers: each release would start the next retrain, for ever."
            yield Problem(*place, field, found, "models that do not wait for this one", do)


def _way(start: str, end: str, specs: Mapping[str, ModelSpec]) -> list[str]:
    """The models from one to the other, from each to its upstream ones; empty where there is no way."""
    ways = [[start]]
    seen = {start}
    while ways:
        way = ways.pop(0)
        if way[-1] == end:
            return way
        further = [name for name in (specs[way[-1]].upstream if way[-1] in specs else []) if name not in seen]
        seen.update(further)
        ways += [[*way, name] for name in further]
    return []
