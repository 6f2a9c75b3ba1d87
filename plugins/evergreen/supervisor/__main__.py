"""The keeper's process: `python -m evergreen.supervisor <home>`, started by `up`."""

from __future__ import annotations

import sys
from pathlib import Path

from evergreen.supervisor.keeper import keep

if __name__ == "__main__":
    keep(Path(sys.argv[1]))
