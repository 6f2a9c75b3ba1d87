"""Batch scoring: Parquet in, Parquet out, by the bundle and the rules that serving answers with.

Above serving, because a row must mean the same in a file as in a request: the schema, the words of a refusal and the
check of golden rows are serving's own. Not in serving, because its image holds no pyarrow. The command `score` and the
operator of DAGs are both above.
"""

from __future__ import annotations

from evergreen.scoring.score import Order, Scored, score

__all__ = ["Order", "Scored", "score"]
