"""Where the store has what serving logged, and what the columns of its Parquet parts are.

    log/predictions/<model>/<day>/<segment>.parquet    the answers of a day (UTC, that of the inference id)
    log/ground-truth/<model>/<day>/<segment>.parquet   what turned out to be true of answers of that day
    log/user-metrics/<model>/<day>/<segment>.parquet   values of users' metrics of that day
    log/forgotten/<…>.json                             whose rows were removed and stay away (core.forgotten)

A part's name is that of the segment it came from: shipping a segment twice replaces the parts of the first time. Where
a segment has answers with different columns, its second part is called <segment>-1.parquet, and so on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from evergreen.core.ports import StoredFile
    from evergreen.core.records import LoggedBy

LOG = "log/"
PREDICTIONS, TRUTH, FORGOTTEN = f"{LOG}predictions/", f"{LOG}ground-truth/", f"{LOG}forgotten/"
METRICS = f"{LOG}user-metrics/"
KINDS = (PREDICTIONS, TRUTH, METRICS)
# Columns of a part of predictions, beside one a feature. `unseen`: JSON, the category that came by feature; or null.
ID, AT, VERSION, RELEASE, ARM, KEY = "inference_id", "at", "version", "release_id", "arm", "key"
PREDICTION, UNSEEN = "prediction", "unseen"
OWN = (ID, AT, VERSION, RELEASE, ARM, KEY, PREDICTION, UNSEEN)
# ... and of ground truth: the label is a number or a text, the other one null. `at`: when it was told.
LABEL, LABEL_TEXT, CALLER = "label", "label_text", "caller"
# ... and of users' metrics, with the caller too. `at`: the time that a value is of.
NAME, VALUE = "name", "value"
_DAY_MS = 86_400_000


def column_of(feature: str) -> str:
    """The column that holds a feature: its name, unless that is one of ours."""
    return f"feature.{feature}" if feature in OWN else feature


def part_key(folder: str, model: str, day: date, segment: str, number: int = 0) -> str:
    """The key of a part; `number` counts those of one segment, model and day."""
    return f"{folder}{model}/{day}/{segment}{f'-{number}' if number else ''}.parquet"


def day_of_part(key: str) -> date | None:
    """The day that a part belongs to; none for another file."""
    try:
        return date.fromisoformat(key.split("/")[3])
    except (IndexError, ValueError):
        return None


def shape_of(by: LoggedBy, outputs: int) -> tuple[object, ...]:
    """What must agree for rows to lie in one part: the columns, and whether a prediction is a list."""
    return bool(outputs), *((feature.name, feature.categories is None) for feature in by.features)


# ---------------------------------------------------------------- inference ids


def milliseconds_of(inference_id: str) -> int | None:
    """When it was answered, in Unix ms; none for what is no UUID of version 7."""
    try:
        found = UUID(inference_id)
    except ValueError:
        return None
    return found.int >> 80 if found.version == 7 else None


def answered_at(inference_id: str) -> datetime | None:
    """When it was answered; none for what is no UUID of version 7."""
    told = milliseconds_of(inference_id)
    return None if told is None else datetime.fromtimestamp(told / 1000, UTC)


def day_of(milliseconds: int) -> date:
    """The day (UTC) of a time in Unix ms."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + milliseconds // _DAY_MS)


# ---------------------------------------------------------------- retention


def outdated(files: Iterable[StoredFile], before: datetime) -> list[StoredFile]:
    """Parts whose whole day was over before then. Their own age does not count: a part may be rewritten."""
    return [file for file in files if (day := day_of_part(file.key)) is not None and day < before.date()]


def models_in(keys: Iterable[str]) -> Collection[str]:
    """The models that a listing of the log has parts of."""
    return {key.split("/")[2] for key in keys if key.startswith(KINDS) and key.count("/") > 3}
