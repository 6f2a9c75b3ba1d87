"""The templates of all pages, and the words that they use."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evergreen.core.lineage_inference import value_told
from evergreen.core.status import outcome
from evergreen.core.triggers import cause_told
from evergreen.ui import words

HERE = Path(__file__).parent


def environment() -> Environment:
    """Everything is escaped, and a name that nobody gave is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        age=words.age,
        cause=cause_told,
        exact=value_told,
        interval=words.interval,
        number=words.number,
        percent=words.percent,
        outcome=outcome,
        sign=words.sign,
        when=words.when,
    )
    return made
