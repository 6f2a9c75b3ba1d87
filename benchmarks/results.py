"""RESULTS.md: a section for each benchmark, and what it was measured on."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

FILE = Path(__file__).resolve().parent / "RESULTS.md"


def write(title: str, text: str) -> None:
    """Replace the section of this title, or add it."""
    heading = f"## {title}"
    before, _, rest = FILE.read_text().partition(f"{heading}\n")
    after = rest[at:] if (at := rest.find("\n## ")) >= 0 else ""
    FILE.write_text(f"{before.rstrip()}\n\n{heading}\n\n{text}\n{after}")


def measured() -> str:
    """The command of this process, and the machine."""
    flags = [flag for flag in sys.argv[1:] if flag != "--write"]
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *flags])
    return f"`{command}` on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    head = f"| {' | '.join(header)} |"
    return "\n".join([head, re.sub(r"[^|]+", "---", head), *(f"| {' | '.join(cells)} |" for cells in lines)])
