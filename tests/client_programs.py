"""Clients that others wrote, in a venv of their own: they would clash with our locked versions.

The venv is .venv-clients in the project's root, made from tests/load/clients.txt and kept until that file changes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_LOCK, _VENV = ROOT / "tests/load/clients.txt", ROOT / ".venv-clients"


def venv() -> Path:
    """The folder of the venv's programs."""
    stamp, wanted = _VENV / "made-from", sha256(_LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, _VENV], check=True)
        install = [uv, "pip", "install", "-q", "--require-hashes", "-p", _VENV / "bin/python", "-r", _LOCK]
        subprocess.run(install, check=True)
        stamp.write_text(wanted)
    return _VENV / "bin"


def run(program: str, *arguments: str) -> Any:
    """What a program of tests/load prints, as JSON. Fails with what it wrote to stderr."""
    command = [venv() / "python", ROOT / "tests/load" / program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
