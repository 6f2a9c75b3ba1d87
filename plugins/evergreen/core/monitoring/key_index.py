"""Which parts of a day's answers may hold which request keys, so that a label is joined without reading all of them.

    monitor/<model>/<day>.keys    the sha256 of what follows; then an npz: `header` (JSON), and of each answer with a
                                  key `hashes` and `numbers`: the key's hash, and which of the header's parts it is in

A hash names a part to be read, never a row: what is joined is the key itself. `salt` says what made the hashes.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evergreen.core.monitoring.day import DIGEST, FOLDER

if TYPE_CHECKING:
    from datetime import date

    import numpy as np
    import numpy.typing as npt

    Hashes = npt.NDArray[np.uint64]


def key_of(model: str, day: date) -> str:
    """Where the index of a day lies in the store."""
    return f"{FOLDER}{model}/{day}.keys"


@dataclass
class KeyIndex:
    """Of a day: its parts in the order in which they were read, and two arrays of the same length."""

    hashes: Hashes
    numbers: npt.NDArray[np.uint32]
    parts: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls) -> KeyIndex:
        """Of no part."""
        import numpy as np

        return cls(np.empty(0, np.uint64), np.empty(0, np.uint32))

    def add(self, part: str, hashes: Hashes) -> None:
        """Add a part with the hashes of its keys, each once or more often."""
        import numpy as np

        found = np.unique(hashes)
        self.hashes = np.concatenate([self.hashes, found])
        self.numbers = np.concatenate([self.numbers, np.full(len(found), len(self.parts), np.uint32)])
        self.parts.append(part)

    def parts_of(self, hashes: Hashes) -> list[str]:
        """The parts that may hold one of these, in order."""
        import numpy as np

        return [self.parts[number] for number in np.unique(self.numbers[np.isin(self.hashes, hashes)])]


def to_bytes(index: KeyIndex, salt: str) -> bytes:
    """The file."""
    import numpy as np

    header = json.dumps({"salt": salt, "parts": index.parts}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, header=np.frombuffer(header, np.uint8), hashes=index.hashes, numbers=index.numbers)
    return hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue()


def from_bytes(data: bytes, salt: str) -> KeyIndex:
    """The opposite. Raises ValueError for what is damaged, or has hashes that were made otherwise."""
    import numpy as np

    if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
        raise ValueError("an index of request keys is damaged: its hash is another")
    with np.load(io.BytesIO(data[DIGEST:]), allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        if header["salt"] != salt:
            raise ValueError("an index of request keys with other hashes")
        return KeyIndex(file["hashes"], file["numbers"], header["parts"])
