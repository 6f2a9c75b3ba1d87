"""How far the labels of a spec's own source were read, and which were joined of late.

monitor/<model>/labels.state   the sha256 of what follows; then an npz: `header` (JSON: which source, read until
                               when), `hashes` and `times` of the rows that are joined and within the overlap
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core.monitoring.day import DIGEST, FOLDER

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Hashes = npt.NDArray[np.uint64]
    Times = npt.NDArray[np.int64]


def key_of(model: str) -> str:
    """Where it lies in the store."""
    return f"{FOLDER}{model}/labels.state"


@dataclass
class LabelState:
    """`until`: the newest told_at that was read. Of the rows that were joined `hashes`, and `times` (Unix ms)."""

    until: datetime | None
    hashes: Hashes
    times: Times

    @classmethod
    def empty(cls) -> LabelState:
        """Nothing was read."""
        import numpy as np

        return cls(None, np.empty(0, np.uint64), np.empty(0, np.int64))

    def remember(self, newest: datetime, hashes: Hashes, times: Times, overlap: timedelta) -> None:
        """Note that was read up to `newest`, and the rows that were joined, as far as the overlap reaches back."""
        import numpy as np

        self.until = max(newest, self.until or newest)
        since = int((self.until - overlap).timestamp() * 1000)
        hashes, times = np.concatenate([self.hashes, hashes]), np.concatenate([self.times, times])
        self.hashes, self.times = hashes[times >= since], times[times >= since]


def to_bytes(state: LabelState, source: str) -> bytes:
    """The file. `source` says what was read."""
    import numpy as np

    header = json.dumps({"source": source, "until": state.until.isoformat() if state.until else None}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, header=np.frombuffer(header, np.uint8), hashes=state.hashes, times=state.times)
    return hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue()


def from_bytes(data: bytes, source: str) -> LabelState:
    """The opposite. Raises ValueError for what is damaged, or of another source."""
    import numpy as np

    if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
        raise ValueError("the state of labels is damaged: its hash is another")
    with np.load(io.BytesIO(data[DIGEST:]), allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        if header["source"] != source:
            raise ValueError("the state of labels of another source")
        until = datetime.fromisoformat(header["until"]) if header["until"] else None
        return LabelState(until, file["hashes"], file["times"])
