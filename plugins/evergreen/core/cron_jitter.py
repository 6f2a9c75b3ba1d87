"""`H` in a cron line: a value that the model's name picks, so that a thousand models do not all start at three.

As in Jenkins: `H 3 * * *` is a minute between 03:00 and 03:59 that is the model's own, `H(0-29) 3 * * *` one of the
first half, `H/15 * * * *` every 15 minutes from a minute of its own on. The same name gives the same line for ever:
croniter has an `H` too, whose values have changed with its versions, and whose days go to 31.
"""

from __future__ import annotations

import hashlib
import re

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 28), ("month", 1, 12), ("day of week", 0, 6))
ALLOWED = "H, H(a-b), H/n or H(a-b)/n as the whole of a field: " + ", ".join(
    f"{name} {first}-{last}" for name, first, last in FIELDS
)
_FORM = re.compile(r"H(?:\(([0-9]{1,2})-([0-9]{1,2})\))?(?:/([0-9]{1,2}))?")
_OTHERS = re.compile(r"(?<![A-Z])[HR](?![A-Z])", re.IGNORECASE)  # no letter of MAR, THU or FRI


class BadJitter(ValueError):
    """Raised for an `H` that cannot be resolved; says why."""


def resolve(line: str, name: str) -> str:
    """The cron line with a value, or a range with a step, in place of each H. Raises BadJitter."""
    if not _OTHERS.search(line):
        return line
    fields = line.split()
    if len(fields) != len(FIELDS):
        raise BadJitter("not five fields")
    return " ".join(_field(name, at, text) for at, text in enumerate(fields))


def _field(name: str, at: int, text: str) -> str:
    if not _OTHERS.search(text):
        return text
    word, first, last = FIELDS[at]
    if (match := _FORM.fullmatch(text)) is None:
        raise BadJitter(f"{word}: {text}")
    begin, end = (int(match[1]), int(match[2])) if match[1] else (first, last)
    if not first <= begin < end <= last:
        raise BadJitter(f"{word}: {text}, and only {first} to {last} can be chosen from, the smaller one first")
    size = end - begin + 1
    step = int(match[3]) if match[3] else 0
    if match[3] and not 1 <= step < size:
        raise BadJitter(f"{word}: {text}, and a step is from 1 to {size - 1}")
    start = begin + _number(name, word) % (step or size)
    return f"{start}-{end}/{step}" if step else str(start)


def _number(name: str, word: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{name}/{word}".encode()).digest()[:8])
