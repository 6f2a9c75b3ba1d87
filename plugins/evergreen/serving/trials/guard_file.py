"""What a replica counts of a trial in one stage: a mapped file, `<pool>/guard/<release id>.<stage>`.

    cell 0       MAGIC
    cell 1       the flag: 0, or which TripKind (from 1) took the release off trial here
    cells 2, 3   the boot: a random number by which these counts are told from those of another file
    cell 64 on   a slot of 64 cells for each worker: of the champion, then of the challenger: requests, faults,
                 latency by bin, predictions by bin

Cells are of 8 bytes. A slot is written by its worker alone and read by all, so there are no locks; the flag is looked
at for every request. Counts outlive workers and supervisors: a file's boot stays, and so its counts are sent to the
ledger in place of those before, never twice.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path
from uuid import UUID, uuid4

from evergreen.core.guarding import Counted
from evergreen.core.records import CHALLENGER, CHAMPION, LATENCY_BOUNDS, PREDICTION_BINS, TripKind
from evergreen.serving.state import replace

GUARD = "guard"
ARMS = {CHAMPION: 0, CHALLENGER: 1}
REQUESTS, FAULTS, LATENCY = 0, 1, 2
PREDICTIONS = LATENCY + len(LATENCY_BOUNDS) + 1
ARM = PREDICTIONS + PREDICTION_BINS  # cells of an arm
_MAGIC, _CELL, _SLOTS_FROM, _SLOT = 0x65766772_67756431, 8, 64, 2 * ARM
_KINDS = tuple(TripKind)


class GuardFile:
    """The mapped file; made by who comes first.

    Raises OSError where the disk has no room for it, ValueError for a file that is something else.
    """

    def __init__(self, folder: Path, release_id: str, stage: str) -> None:
        self.path = folder / GUARD / f"{release_id}.{stage}"
        self.release_id, self.stage = release_id, stage
        self._file = -1
        self._file = os.open(_made(self.path), os.O_RDWR | os.O_CLOEXEC)
        self._map()
        if self.cells[0] != _MAGIC:
            raise ValueError(f"{self.path}: found another kind of file; allowed: a guard's counts. Remove it.")
        self.boot = UUID(bytes=self.cells[2:4].tobytes()).hex

    def slot(self, number: int) -> int:
        """The first cell of a worker's slot; there is room for it from now on.

        Room on the disk too: to write into a hole of a mapped file on a full disk kills the process.
        """
        end = (_SLOTS_FROM + (number + 1) * _SLOT) * _CELL
        os.posix_fallocate(self._file, 0, end)  # never makes it shorter
        self.refresh()
        return _SLOTS_FROM + number * _SLOT

    def refresh(self) -> None:
        """Map what other workers have added."""
        if os.fstat(self._file).st_size > len(self.cells) * _CELL:
            self._map()  # who still holds the mapping before writes to the same pages

    @property
    def tripped(self) -> TripKind | None:
        """What took the release off trial here."""
        flag = self.cells[1]
        return _KINDS[flag - 1] if flag else None

    def trip(self, kind: TripKind) -> None:
        """All workers of this replica see it at their next request."""
        self.cells[1] = _KINDS.index(kind) + 1

    def counted(self, arm: str) -> Counted:
        """The sum over all workers."""
        self.refresh()
        first = _SLOTS_FROM + ARMS[arm] * ARM
        slots = [self.cells[start : start + ARM].tolist() for start in range(first, len(self.cells) - ARM + 1, _SLOT)]
        summed = [sum(column) for column in zip(*slots, strict=True)] or [0] * ARM
        return Counted(
            summed[REQUESTS], summed[FAULTS], tuple(summed[LATENCY:PREDICTIONS]), tuple(summed[PREDICTIONS:])
        )

    def __del__(self) -> None:
        """With the last who counts: a request under way may outlive its stage."""
        if self._file >= 0:
            os.close(self._file)

    def _map(self) -> None:
        self.cells = memoryview(mmap.mmap(self._file, 0)).cast("q")


def files_of(folder: Path) -> list[tuple[str, str]]:
    """Release id and stage of every guard file."""
    names = [path.name for path in (folder / GUARD).glob("[!.]*.*")]
    return sorted((name.rpartition(".")[0], name.rpartition(".")[2]) for name in names)


def _made(path: Path) -> Path:
    """Whole from the first look on: made aside and linked, so that of two that make it one wins."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    header = _MAGIC.to_bytes(_CELL, "little") + bytes(_CELL) + uuid4().bytes
    replace(temporary, header.ljust(_SLOTS_FROM * _CELL, b"\0"), durable=True)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path
