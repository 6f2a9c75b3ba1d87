"""Charts over time: lines with their intervals, and moments that are marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from evergreen.ui import svg
from evergreen.ui.svg import Scale
from evergreen.ui.words import number

WIDTH, HEIGHT = 540, 175
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 20, 24
DATES = 5
FEW = 3  # points whose intervals are drawn one by one: a band between so few is hardly seen


@dataclass(frozen=True)
class At:
    """A value at a time, and its interval where one is known."""

    time: datetime
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval; none where it is not known."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class Line:
    """A line of a chart. `look` is a, b or c: colour, dashes and dots."""

    name: str
    points: Sequence[At]
    look: str = "a"


@dataclass(frozen=True)
class Mark:
    """A moment that a chart shows, such as a release."""

    time: datetime
    name: str


def over_time(
    title: str, lines: Sequence[Line], marks: Sequence[Mark], *, share: bool = False, from_zero: bool = False
) -> Markup:
    """The chart; an empty text where no line has a point. `share`: values are percentages; `from_zero`: 0 is on the
    axis."""
    points = [point for line in lines for point in line.points]
    if not points:
        return Markup("")
    x = _times([*(point.time for point in points), *(mark.time for mark in marks)])
    ends = [end for one in points for end in (one.value, *(one.ends or ())) if math.isfinite(end)]
    ends += [0.0] if from_zero else []
    ticks = svg.round_numbers(min(ends), max(ends))
    y = Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    inside: list[Markup] = [*_y_axis(ticks, y, _share if share else number), *_x_axis(x), *_marks(marks, x)]
    for line in lines:
        inside += _line(line, x, y)
    return svg.picture(f"{title}: chart; the same numbers are in a table", WIDTH, HEIGHT, inside)


def _times(times: Iterable[datetime]) -> Scale:
    seconds = [time.timestamp() for time in times]
    low, high = min(seconds), max(seconds)
    room = max((high - low) * 0.03, 1800.0)
    return Scale(low - room, high + room, LEFT, WIDTH - RIGHT)


def _share(value: float) -> str:
    return f"{100 * value:.4g} %"


def _y_axis(ticks: Sequence[float], y: Scale, told: Callable[[float], str]) -> Iterator[Markup]:
    for tick in ticks:
        yield svg.line("grid", LEFT, y(tick), WIDTH - RIGHT, y(tick))
        yield svg.text(LEFT - 6, y(tick) + 4, svg.beside_an_axis(tick, told), "end")


def _x_axis(x: Scale) -> Iterator[Markup]:
    span = x.high - x.low
    form = "%d %b" if span > DATES * 86_400 else "%d %b %H:%M"
    for at in range(DATES):
        time = x.low + span * (at + 0.5) / DATES
        yield svg.text(x(time), HEIGHT - 6, f"{datetime.fromtimestamp(time, UTC):{form}}".lstrip("0"), "middle")


def _marks(marks: Sequence[Mark], x: Scale) -> Iterator[Markup]:
    last = -math.inf
    for mark in sorted(marks, key=lambda one: one.time):
        at = x(mark.time.timestamp())
        yield svg.line("mark", at, TOP - 4, at, HEIGHT - BOTTOM)
        if at - last > 10 + 7 * len(mark.name):  # names that would lie on one another are left out
            yield svg.text(at, TOP - 8, mark.name, "middle")
            last = at


def _line(line: Line, x: Scale, y: Scale) -> Iterator[Markup]:
    band = [(x(one.time.timestamp()), *one.ends) for one in line.points if one.ends]
    if len(band) < FEW:
        yield from (svg.line(f"whisker {line.look}", at, y(low), at, y(high)) for at, low, high in band)
    else:
        around = [*((at, high) for at, _, high in band), *((at, low) for at, low, _ in reversed(band))]
        yield Markup('<polygon class="band {}" points="{}"/>').format(line.look, _joined(around, y))
    places = [(x(one.time.timestamp()), one) for one in line.points]
    joined = _joined([(at, one.value) for at, one in places], y)
    yield Markup('<polyline class="line {}" points="{}"/>').format(line.look, joined)
    for at, one in places:
        told = f"{line.name}: {number(one.value)}, {one.time:%Y-%m-%d %H:%M}"
        yield _dot(line.look, at, y(one.value), told)


def _joined(points: Iterable[tuple[float, float]], y: Scale) -> str:
    return " ".join(f"{at},{y(value)}" for at, value in points)


def _dot(look: str, x: float, y: float, told: str) -> Markup:
    if look == "a":
        return svg.circle(look, x, y, 3, told)
    return (svg.square if look == "b" else svg.diamond)(look, x, y, told)
