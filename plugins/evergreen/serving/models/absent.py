"""The refusals of a request for a model that does not answer here, or not yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evergreen.serving.refusals import RequestRefused, did_you_mean, refuse, some
from evergreen.serving.state import Reason

_COMPARED = 200  # names looked at for a near miss: a look costs 10 us a name, and who asks for nonsense asks often


def absent(name: str, reasons: Sequence[Reason], served: Iterable[str]) -> RequestRefused:
    """503 for a model that is released, with why it does not answer; 404 for one that is not."""
    where = f"model '{name[:60]}'"
    if reasons:
        do = "Ask again when it is repaired."
        return refuse(503, where, found=reasons[0].text, allowed="a loaded version", do=do)
    names = tuple(sorted(served))
    alike = tuple(known for known in names if known[:1] == name[:1])[:_COMPARED]
    allowed = some(names) or "none: nothing is released yet"
    return refuse(
        404,
        where,
        found="no such model here",
        allowed=allowed,
        do=f"{did_you_mean(name, alike)}GET / lists what is served.",
    )
