"""What was found in one part, and what is looked for there."""

from __future__ import annotations

import json
from array import array
from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, field

from evergreen.adapters.gx_validator import frames, kinds
from evergreen.adapters.gx_validator.counts import Counts
from evergreen.adapters.gx_validator.facts import ColumnFacts
from evergreen.adapters.gx_validator.rowwise import RowChecks
from evergreen.core.bundle import sha256
from evergreen.core.ports import PartRows


def sealed(body: bytes) -> bytes:
    """With a hash of itself before it."""
    return sha256(body).encode() + b"\n" + body


def unsealed(data: bytes) -> bytes:
    """What was sealed. ValueError where it is damaged."""
    digest, _, body = data.partition(b"\n")
    if digest.decode("ascii", "replace") != sha256(body):
        raise ValueError("not what its hash says")
    return body


def _written(rows: array[int]) -> str:
    return b64encode(rows.tobytes()).decode()


@dataclass(frozen=True)
class Found:
    """`asked` says what was looked for. `counts` of each expectation on rows; `facts` of columns, and of those whose
    values are to be unique how many are `missing`.
    """

    asked: str
    counts: list[Counts] = field(default_factory=list)
    facts: dict[str, ColumnFacts] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)

    def packed(self) -> bytes:
        """With a hash of itself. ValueError where something could not be judged."""
        if any(one.error for one in self.counts):
            raise ValueError("errors are not kept")
        counts = [[one.elements, one.missing, _written(one.rows), one.values] for one in self.counts]
        facts = {name: astuple(one) for name, one in self.facts.items()}
        return sealed(json.dumps([self.asked, counts, facts, self.missing]).encode())

    @classmethod
    def unpacked(cls, data: bytes) -> Found:
        """What was packed. ValueError where it is damaged."""
        asked, counts, facts, missing = json.loads(unsealed(data))
        return cls(
            asked,
            [Counts(*numbers, array("q", b64decode(rows)), values) for *numbers, rows, values in counts],
            {name: ColumnFacts(*one) for name, one in facts.items()},
            missing,
        )


@dataclass(frozen=True)
class PartChecks:
    """What a suite asks of each part: expectations on its rows, facts of columns, and values that are to be unique."""

    rows: RowChecks
    facts: Collection[str]
    unique: Collection[str]

    @property
    def columns(self) -> list[str]:
        """What is looked at, each column once; nothing is read for none."""
        by_rows = [name for one in self.rows.configs for name in kinds.columns_of(one["kwargs"])]
        return list(dict.fromkeys([*by_rows, *self.facts, *self.unique]))

    @property
    def asked(self) -> str:
        """A hash: the same suite asks otherwise of a window with other types, or with missing values elsewhere."""
        of_rows = [[one["type"], one["kwargs"]] for one in self.rows.configs]
        told = [sorted(self.rows.nullable), of_rows, [*self.facts], [*self.unique]]
        return sha256(json.dumps(told, sort_keys=True, default=str).encode())

    def judge(self, parts: Sequence[PartRows]) -> list[Found]:
        """For each part; the rows of all of them are in memory."""
        columns, asked = self.columns, self.asked
        if not columns:
            return [Found(asked) for _ in parts]
        read = [frames.plain(part.read().select(columns)) for part in parts]
        for name in self.unique:
            for part in parts:
                part.hashes(name)  # they are kept from now on, to be compared with those of other parts
        found = []
        for frame, counts in zip(read, self.rows.judge(read), strict=True):
            facts = {name: ColumnFacts.of(frame[name]) for name in self.facts}
            missing = {name: int(frames.is_missing(frame[name]).sum()) for name in self.unique}
            found.append(Found(asked, counts, facts, missing))
        return found
