"""Text order is time order, in every form that is let in."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest

from evergreen.core.text_time import TextTime

START = datetime(2013, 1, 31, 23, 59, 59, tzinfo=UTC)
TIMES = [START + timedelta(microseconds=us) for us in (0, 1, 10, 250_000, 500_000, 999_999, 1_000_000, 1_500_000)]


def _texts(time: datetime, separator: str, suffix: str) -> list[str]:
    """Every way to write the fraction of this time in one form."""
    base, fraction = f"{time:%Y-%m-%d{separator}%H:%M:%S}", f"{time.microsecond:06d}"
    short = fraction.rstrip("0")
    fractions = [fraction] if suffix == "Z" else [fraction[:n] for n in range(len(short), 7)]
    return [f"{base}.{f}{suffix}" if f else base + suffix for f in fractions]


@pytest.mark.parametrize(("separator", "suffix"), list(itertools.product(" T", ("", "+00:00", "Z"))))
def test_bounds_agree_with_time_for_every_spelling(separator: str, suffix: str) -> None:
    form = TextTime.of(_texts(TIMES[0], separator, suffix))
    for bound, time in itertools.product(TIMES, TIMES):
        for text in _texts(time, separator, suffix):
            assert (text <= form.upper(bound)) == (time <= bound), (text, form.upper(bound))
            assert (text >= form.lower(bound)) == (time >= bound), (text, form.lower(bound))
            assert re.search(form.pattern, text)
            assert form.parse(text) == time


def test_whole_seconds_before_z() -> None:
    form = TextTime.of(["2013-01-31T05:00:00Z", "2013-02-01T05:00:00Z"])
    assert form.upper(datetime(2013, 1, 31, 5, tzinfo=UTC)) == "2013-01-31T05:00:00Z"
    assert form.lower(datetime(2013, 1, 31, 5, tzinfo=UTC)) == "2013-01-31T05:00:00"
    assert not re.search(form.pattern, "2013-01-31T05:00:00.5Z")


@pytest.mark.parametrize(
    ("samples", "named"),
    [
        (["31/01/2013 05:00"], "31/01/2013"),
        (["2013-01-31"], "2013-01-31"),
        (["2013-01-31 05:00:00+02:00"], r"\+02:00"),
        (["2013-02-31 05:00:00"], "2013-02-31"),
        ([1357016400], "1357016400"),
        (["2013-01-31 05:00:00", "2013-01-31T05:00:00"], "31T05"),
        (["2013-01-31T05:00:00Z", "2013-01-31T05:00:00.5Z"], "00.5Z"),
    ],
)
def test_other_forms_are_refused_by_name(samples: list[object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        TextTime.of(samples)
