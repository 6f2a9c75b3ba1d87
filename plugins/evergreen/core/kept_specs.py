"""Specs as they were read, kept in one file: a project of many is read by a new process every few seconds.

What is kept is a spec's text made into values and merged with `_defaults.yaml`, by the hash of all that it was made
from: both files, this code, the parser of YAML. The values are validated anew each time. Also kept is the hash of the
suite that was found right for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

log = logging.getLogger(__name__)


class KeptSpecs:
    """The file, read once. Without a path nothing is kept. Damaged or gone it is empty, and written anew."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._before = dict(_read(file)) if file else {}
        self._now: dict[str, tuple[str, Any]] = {}

    @property
    def keeps(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def find(self, made_from: str) -> tuple[str, Any] | None:
        """The suite's hash and the merged values; none where they are not kept."""
        return self._before.get(made_from) if self._file else None

    def keep(self, made_from: str, suite: str, value: Any) -> None:
        """Have it in the file after `write`; a value that JSON would change (a date, a number as a key) is left out."""
        if self._file and (made_from in self._before or _is_json(value)):
            self._now[made_from] = (suite, value)

    def write(self) -> None:
        """Put into the file what was kept since it was read, and nothing else, in one step; where that is not allowed
        all is read anew next time."""
        if self._file is None or self._now == self._before:
            return
        text = json.dumps(self._now)
        new = self._file.with_name(f"{self._file.name}.{os.getpid()}.new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(f"{_hash(text.encode())}\n{text}", encoding="utf-8")
            new.replace(self._file)
        except OSError as error:
            log.debug("Specs are not kept: %s", error)


def made_from(*texts: bytes) -> str:
    """The hash of these files and of the code that reads them."""
    return _hash(b"".join(map(_digest, (_code(), *texts))))


def suite_hash(file: Path) -> str:
    """Of a suite's bytes; empty where there is no such file."""
    try:
        return _hash(file.read_bytes())
    except OSError:
        return ""


def _read(file: Path) -> Iterator[tuple[str, tuple[str, Any]]]:
    try:
        written, _, text = file.read_text(encoding="utf-8").partition("\n")
        if written == _hash(text.encode()):
            yield from ((key, (suite, value)) for key, (suite, value) in json.loads(text).items())
    except (OSError, ValueError, TypeError, AttributeError):
        return


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


@cache
def _code() -> bytes:
    """All of core, and the version of the YAML library."""
    files = sorted(Path(__file__).parent.glob("*.[pj]*"))
    return yaml.__version__.encode() + b"".join(_digest(file.read_bytes()) for file in files if file.is_file())


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
