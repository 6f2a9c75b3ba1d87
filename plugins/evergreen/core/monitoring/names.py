"""The names of the monitor's metrics: what rules may watch.

A name ends in what it is about: a feature, a quality metric, or `max` for the worst feature. A feature that is called
`max` itself counts among the others, and has no names of its own.

    volume.rows                    answers in the window
    requests.error_rate            fraction of requests that failed; requests.latency_p99_ms
    missing.<feature>              fraction of missing values; missing.max: the largest rise above training
    out_of_range.<feature>         fraction outside of what training saw (numbers), .max
    unseen.<feature>               fraction of categories that training never saw, .max
    drift.psi.<feature>            population stability index against training, .max
    drift.wasserstein.<feature>    distance to training in its standard deviations (numbers), .max
    drift.prediction.psi           of the predictions against those on the rows held back at training
    quality.realised.<metric>      on answers whose label is known
    quality.estimated.<metric>     before labels are known
    quality.realised_loss.<metric>, quality.estimated_loss.<metric>
                                   how much worse than on the rows held back at training; below 0: better
    labels.fraction                of the answers; labels.delay_hours: the median of those that came
    age.champion_hours, age.data_hours
    user.<name>                    posted by users: the mean of the window's values
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from evergreen.core.metrics import METRICS_BY_TASK, Task

MAX = "max"
VOLUME, ERROR_RATE, LATENCY = "volume.rows", "requests.error_rate", "requests.latency_p99_ms"
MISSING, OUT_OF_RANGE, UNSEEN = "missing", "out_of_range", "unseen"
PSI, WASSERSTEIN, PREDICTION_PSI = "drift.psi", "drift.wasserstein", "drift.prediction.psi"
REALISED, ESTIMATED = "quality.realised", "quality.estimated"
REALISED_LOSS, ESTIMATED_LOSS = "quality.realised_loss", "quality.estimated_loss"
LABELLED, LABEL_DELAY = "labels.fraction", "labels.delay_hours"
CHAMPION_AGE, DATA_AGE = "age.champion_hours", "age.data_hours"
USER = "user."
ESTIMATES = {
    Task.BINARY: ("auc", "logloss", "brier", "average_precision", "accuracy"),
    Task.MULTICLASS: ("accuracy",),
    Task.REGRESSION: ("mae", "rmse"),
}
_ALONE = (VOLUME, ERROR_RATE, LATENCY, PREDICTION_PSI, LABELLED, LABEL_DELAY, CHAMPION_AGE, DATA_AGE)
_USERS = re.compile(r"user\.[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}")
NOT_BY_SLICE = frozenset({ERROR_RATE, LATENCY, LABEL_DELAY, CHAMPION_AGE, DATA_AGE})
_NOT_OF_ROWS = frozenset({ERROR_RATE, LATENCY, CHAMPION_AGE, DATA_AGE})
_BY_FEATURE = (MISSING, PSI, UNSEEN, OUT_OF_RANGE, WASSERSTEIN)


def known(task: Task, features: Sequence[str], categorical: Collection[str]) -> Iterator[str]:
    """All names that a model of this task and these features has, but for those of users."""
    yield from _ALONE
    numbers = [name for name in features if name not in categorical]
    by_feature = {MISSING: features, PSI: features, UNSEEN: categorical, OUT_OF_RANGE: numbers, WASSERSTEIN: numbers}
    for family, names in by_feature.items():
        if names:
            yield f"{family}.{MAX}"
        yield from (f"{family}.{name}" for name in names if name != MAX)
    for family in (REALISED, REALISED_LOSS):
        yield from (f"{family}.{metric}" for metric in METRICS_BY_TASK[task])
    for family in (ESTIMATED, ESTIMATED_LOSS):
        yield from (f"{family}.{metric}" for metric in ESTIMATES[task])


def is_users(name: str) -> bool:
    """Whether this is the name of a metric that users post."""
    return _USERS.fullmatch(name) is not None


def forms(known: Iterable[str]) -> list[str]:
    """The same names shorter: those of all features as one, 'drift.psi.max or .<feature>'."""
    return list(dict.fromkeys(map(_form, known)))


def _form(name: str) -> str:
    family = next((one for one in _BY_FEATURE if name.startswith(f"{one}.")), None)
    return f"{family}.{MAX} or .<feature>" if family else name


def of_rows(name: str) -> bool:
    """Whether the metric is counted from logged rows."""
    return name not in _NOT_OF_ROWS and not name.startswith(USER)


def of_labels(name: str) -> bool:
    """Whether the metric is known only of answers whose label has come, or tells how many those are."""
    return name in (LABELLED, LABEL_DELAY) or name.rpartition(".")[0] in (REALISED, REALISED_LOSS)


def of_version(name: str) -> bool:
    """Whether the metric says something of the version that answers: of another one it begins anew."""
    return name != DATA_AGE and not name.startswith(USER)


def by_slice(name: str) -> bool:
    """Whether the metric is known of slices too."""
    return name not in NOT_BY_SLICE and not name.startswith(USER)
