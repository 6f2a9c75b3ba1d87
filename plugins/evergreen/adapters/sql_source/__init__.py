"""A source behind SQLAlchemy: a table, a view or a query, in SQLite or Postgres."""

from evergreen.adapters.sql_source.source import SqlSource

__all__ = ["SqlSource"]
