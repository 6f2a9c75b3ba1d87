"""How each expectation type is judged on a window that does not fit into memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

import polars as pl

from evergreen.adapters.gx_validator import frames

COLUMNS = ("column", "column_A", "column_B", "column_list", "column_set", "sum_columns")


class Kind(Enum):
    """SCHEMA asks for columns and types alone; ROWS for each row by itself; REPEATED whether a value has its like,
    COMPOUND whether the values of several columns have; DISTINCT for the set of values; FACTS for sums and counts;
    WHOLE is run on all rows in one frame.
    """

    SCHEMA = "schema"
    ROWS = "rows"
    REPEATED = "repeated"
    COMPOUND = "compound"
    DISTINCT = "distinct"
    FACTS = "facts"
    WHOLE = "whole"


BETWEEN = "expect_column_values_to_be_between"
NULLNESS = ("expect_column_values_to_be_null", "expect_column_values_to_not_be_null")
OF_TYPE = ("expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list")
OF_TEXT = (  # a whole number is another text once pandas has made it a float because a value is missing
    "expect_column_value_lengths_to_be_between",
    "expect_column_value_lengths_to_equal",
    "expect_column_values_to_be_dateutil_parseable",
    "expect_column_values_to_be_json_parseable",
    "expect_column_values_to_match_json_schema",
    "expect_column_values_to_match_like_pattern",
    "expect_column_values_to_match_like_pattern_list",
    "expect_column_values_to_match_regex",
    "expect_column_values_to_match_regex_list",
    "expect_column_values_to_match_strftime_format",
    "expect_column_values_to_not_match_like_pattern",
    "expect_column_values_to_not_match_like_pattern_list",
    "expect_column_values_to_not_match_regex",
    "expect_column_values_to_not_match_regex_list",
)
BY_VALUE = (  # equal values have the same answer
    BETWEEN,
    "expect_column_values_to_be_in_set",
    "expect_column_values_to_not_be_in_set",
    *NULLNESS,
    *OF_TYPE,
    *OF_TEXT,
)
BY_ROW = (
    "expect_column_pair_values_a_to_be_greater_than_b",
    "expect_column_pair_values_to_be_equal",
    "expect_column_pair_values_to_be_in_set",
    "expect_multicolumn_sum_to_equal",
    "expect_multicolumn_values_to_be_equal",
    "expect_select_column_values_to_be_unique_within_record",
)
_KINDS = {
    **dict.fromkeys((*BY_VALUE, *BY_ROW), Kind.ROWS),
    "expect_column_values_to_be_unique": Kind.REPEATED,
    "expect_compound_columns_to_be_unique": Kind.COMPOUND,
    **dict.fromkeys(
        (
            "expect_column_distinct_values_to_be_in_set",
            "expect_column_distinct_values_to_contain_set",
            "expect_column_distinct_values_to_equal_set",
            "expect_column_most_common_value_to_be_in_set",
        ),
        Kind.DISTINCT,
    ),
    **dict.fromkeys(
        (
            "expect_column_max_to_be_between",
            "expect_column_mean_to_be_between",
            "expect_column_min_to_be_between",
            "expect_column_proportion_of_non_null_values_to_be_between",
            "expect_column_proportion_of_unique_values_to_be_between",
            "expect_column_stdev_to_be_between",
            "expect_column_sum_to_be_between",
            "expect_column_unique_value_count_to_be_between",
            "expect_table_row_count_to_be_between",
            "expect_table_row_count_to_equal",
        ),
        Kind.FACTS,
    ),
    **dict.fromkeys(
        (
            "expect_column_to_exist",
            "expect_column_type_to_be",
            "expect_table_column_count_to_be_between",
            "expect_table_column_count_to_equal",
            "expect_table_columns_to_match_ordered_list",
            "expect_table_columns_to_match_set",
        ),
        Kind.SCHEMA,
    ),
}
_NUMBERS_ONLY = (
    "expect_column_mean_to_be_between",
    "expect_column_stdev_to_be_between",
    "expect_column_sum_to_be_between",
)


def kind_of(config: Mapping[str, Any], schema: Mapping[str, pl.DataType], nullable: Collection[str] = ()) -> Kind:
    """How it is judged on columns of these types. What names a column that is not there is answered by the schema.

    `nullable` names whole numbers and truth values of which some are missing: pandas has another dtype for them.
    """
    name, kwargs = config["type"], config["kwargs"]
    kind = _KINDS.get(name, Kind.WHOLE)
    if kind is Kind.SCHEMA or not schema.keys() >= {*columns_of(kwargs)}:
        return Kind.SCHEMA
    if kwargs.get("row_condition"):
        return Kind.WHOLE
    if name in _NUMBERS_ONLY and not schema[kwargs["column"]].is_numeric():
        return Kind.WHOLE  # pandas has an answer, or an error, of its own for the sum of texts
    if name in OF_TYPE and not _judges_each(config, _are_objects(kwargs["column"], schema, nullable)):
        return Kind.SCHEMA
    return kind


def columns_of(kwargs: Mapping[str, Any]) -> list[str]:
    """The columns that an expectation names, each once."""
    named = [kwargs[key] for key in COLUMNS if kwargs.get(key)]
    flat = [str(name) for item in named for name in (item if isinstance(item, list | tuple | set) else [item])]
    return list(dict.fromkeys(flat))


def looks_at_dtype(config: Mapping[str, Any]) -> bool:
    """Whether the answer for a value depends on the dtype that pandas has its column in."""
    return config["type"] in (*OF_TEXT, *OF_TYPE, "expect_column_type_to_be")


def _judges_each(config: Mapping[str, Any], are_objects: bool) -> bool:
    """Types of values are asked for one by one in a column of objects, unless objects are what is asked for."""
    kwargs = config["kwargs"]
    if config["type"] == OF_TYPE[0]:
        return are_objects and kwargs.get("type_") not in ("object", "object_", "O", None)
    return are_objects and kwargs.get("type_list") is not None


def _are_objects(column: str, schema: Mapping[str, pl.DataType], nullable: Collection[str]) -> bool:
    return isinstance(schema[column], frames.TEXT) or (schema[column] == pl.Boolean and column in nullable)
