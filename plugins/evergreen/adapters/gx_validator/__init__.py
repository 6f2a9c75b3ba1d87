"""Expectation suites by Great Expectations on pandas, a window part by part.

`kinds` says how each expectation type is split, `found` what is found in a part, `rowwise` judges its rows, `window`
what is asked of all, `verdict` lets the library's own code decide on the merged counts, `judging` puts them together.
"""

from evergreen.adapters.gx_validator.validator import GxValidator

__all__ = ["GxValidator"]
