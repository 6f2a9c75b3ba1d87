"""The spec's `source`: where the rows come from."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_core import InitErrorDetails

from evergreen.core.spec_fields import Column, Duration, Strict, refusal, refuse, refuse_one, shown

KINDS = ("table", "query", "files")
FORMATS = (".parquet", ".csv")


class RowsFrom(Strict):
    """Where rows come from: a table or a query over a connection, or files."""

    connection: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="Of table and query: Airflow connection id, or the URL in EVERGREEN_CONN_<NAME>: "
        "letters, digits and _",
    )
    table: str | None = Field(default=None, min_length=1, description="Table to read; one of table, query and files")
    query: str | None = Field(default=None, min_length=1, description="SELECT to read; one of table, query and files")
    files: str | None = Field(
        default=None,
        min_length=1,
        description="Parquet or CSV files to read, as a URL (s3://bucket/flights/*.parquet) or a path from the "
        "project's folder, with * where it names several; one of table, query and files",
    )

    @model_validator(mode="after")
    def _reads_one_thing(self) -> RowsFrom:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(f"'{kind}'" for kind in given) or "none of 'table', 'query' and 'files'"
            do = "Write what to read once, as a table, a query or files."
            refuse_one(self, found=found, allowed="one of table, query and files", do=do)
        refuse([*self._connection_problem(), *self._query_problem(), *self._files_problem(), *self._column_problem()])
        return self

    def _connection_problem(self) -> list[InitErrorDetails]:
        if self.files is None and self.connection is None:
            allowed, do = "an Airflow connection id, or the name in EVERGREEN_CONN_<NAME>", "Add 'connection'."
            return [refusal(("connection",), None, found="nothing", allowed=allowed, do=do)]
        if self.files is not None and self.connection is not None:
            found, allowed = f"'{self.connection}' beside 'files'", "no connection: files are read by their URL"
            do = "Remove it; credentials of the storage stand in the environment (AWS_ACCESS_KEY_ID, …)."
            return [refusal(("connection",), self.connection, found=found, allowed=allowed, do=do)]
        return []

    def _query_problem(self) -> list[InitErrorDetails]:
        words = (self.query or "").split()
        if self.query is None or (words and words[0].lower() in ("select", "with") and not words[-1].endswith(";")):
            return []
        allowed, do = "one SELECT (or WITH … SELECT), without ';' at its end", "It is read as a subquery: write it so."
        return [refusal(("query",), self.query, found=f"'{' '.join(words)[:50]}'", allowed=allowed, do=do)]

    def _files_problem(self) -> list[InitErrorDetails]:
        if self.files is None:
            return []
        if urlsplit(self.files).password is not None:
            found, allowed = "a URL with a password in it", "a URL without user and password"
            do = "Take them out: the storage's credentials stand in the environment."
            return [refusal(("files",), None, found=found, allowed=allowed, do=do)]
        if not self.files.lower().endswith(FORMATS):
            allowed, do = f"files that end in {' or '.join(FORMATS)}", "Name them so: 'data/flights/*.parquet'."
            return [refusal(("files",), self.files, found=shown(self.files), allowed=allowed, do=do)]
        return []

    def _column_problem(self) -> list[InitErrorDetails]:
        """What is wrong with the columns that are read, where a kind of source names some."""
        return []

    @property
    def place(self) -> str:
        """Where it is kept, in a word: the connection, or 'files'."""
        return self.connection or "files"

    @property
    def words(self) -> str:
        """What is read, for people: 'table `flights` over connection `warehouse`'."""
        if self.files is not None:
            return f"files `{self.files}`"
        return f"{f'table `{self.table}`' if self.table else 'a query'} over connection `{self.connection}`"


class Source(RowsFrom):
    """Where the rows come from: a table or a query over a connection, or files."""

    event_time: Column = Field(description="Column with the time of the event, UTC")
    key: Column = Field(description="Column that is unique among the labelled rows of a window")
    lateness: Duration = Field(
        default=timedelta(days=7),
        description="How long after its event time a row may still come or change, counted in event times of the "
        "source: a day that was read when it was older is not read again by triggers, only by a person's run "
        "(evergreen retrain)",
    )

    def _column_problem(self) -> list[InitErrorDetails]:
        if self.key != self.event_time:
            return []
        allowed, do = "two different columns", "Name the column that is different for every row."
        return [refusal(("key",), self.key, found=f"'{self.key}', the event time too", allowed=allowed, do=do)]

    @property
    def id(self) -> str:
        """Names what is read, whoever reads it: models of one source share their watcher by this."""
        if self.files is not None:
            return f"files/{self.files}/{self.event_time}"
        query = self.query and f"query:{_short_hash(self.query)}"
        return f"{self.connection}/{self.table or query}/{self.event_time}"

    @property
    def short_id(self) -> str:
        """The same as a name of letters, digits, '-', '/' and '.' where it is a query or files; still its own."""
        if self.files is not None:
            readable = re.sub(r"[^A-Za-z0-9]+", "-", self.files).strip("-")[-40:].strip("-")
            return f"files/{readable}-{_short_hash(self.id)}/{self.event_time}"
        if self.query is not None:
            return f"{self.connection}/query-{_short_hash(self.id)}/{self.event_time}"
        return self.id


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
