"""What a frame must be to be scored by a bundle. Asks the frame about itself, so it needs no library here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evergreen.core.errors import NotComparable
from evergreen.core.trainable import CATEGORY_TYPES

if TYPE_CHECKING:
    import polars as pl


def refuse_unscorable(features: Sequence[Mapping[str, Any]], frame: pl.DataFrame) -> None:
    """Raise NotComparable unless the frame has every feature of a bundle's schema, in a type that it was fitted on."""
    if gone := [feature["name"] for feature in features if feature["name"] not in frame.columns]:
        raise NotComparable(
            f"columns {', '.join(gone)}: not in these rows, which hold {', '.join(frame.columns)}; "
            "the model was fitted on them"
        )
    for feature in features:
        _refuse_values(frame[feature["name"]], category=feature["kind"] == "category")


def _refuse_values(values: pl.Series, *, category: bool) -> None:
    if values.null_count() == len(values):
        return
    kind = str(values.dtype)
    fits = kind.startswith(CATEGORY_TYPES) if category else values.dtype.is_numeric() or kind == "Boolean"
    if not fits:
        raise NotComparable(
            f"column '{values.name}': found type {kind}, for example {values.drop_nulls().head(1).to_list()}; "
            f"the model was fitted on {'categories (text, whole numbers or true/false)' if category else 'numbers'}"
        )
    if not category and values.dtype.is_float() and (infinite := int(values.is_infinite().sum())):
        raise NotComparable(
            f"column '{values.name}': found {infinite:,} infinite values; finite numbers, or no value, can be scored: "
            "write them as null in the source"
        )
