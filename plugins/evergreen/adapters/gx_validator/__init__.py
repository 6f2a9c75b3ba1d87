"""Expectation suites by Great Expectations on pandas, a window part by part.

`kinds` says how each expectation type is split, `rowwise` judges single rows, `window` what is asked of all rows,
`verdict` lets the library's own code decide on the merged counts, `validator` puts them together.
"""

from evergreen.adapters.gx_validator.validator import GxValidator

__all__ = ["GxValidator"]
