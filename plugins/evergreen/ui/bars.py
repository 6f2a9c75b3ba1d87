"""Charts of shares, of counts by bin, and of what was said against what came true."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evergreen.ui import svg
from evergreen.ui.svg import Scale
from evergreen.ui.words import number, percent

ROW, NAME = 30, 150  # the height of a pair, the room for its name
PAIRS_WIDTH, AFTER_A_BAR = 440, 56
WIDE, HIGH, SIDE, TOP, BOTTOM = 480, 175, 14, 20, 24
SQUARE, LEFT, BELOW = 320, 62, 40


@dataclass(frozen=True)
class Pair:
    """A row of a bar chart: what it was, and what it is."""

    name: str
    before: float
    after: float


def pairs(title: str, rows: Sequence[Pair]) -> Markup:
    """Shares as bars, one pair a row: before above after."""
    most = max([0.0, *(max(one.before, one.after) for one in rows)]) or 1.0
    room = PAIRS_WIDTH - NAME - AFTER_A_BAR
    inside: list[Markup] = []
    for at, one in enumerate(rows):
        top = 4 + at * ROW
        inside.append(svg.text(NAME - 8, top + 15, svg.shortened(one.name), "end"))
        for value, look, down in ((one.before, "before", 2), (one.after, "after", 13)):
            long = room * value / most
            inside.append(svg.bar(look, NAME, top + down, max(long, 0.5), 8, f"{one.name}, {look}: {percent(value)}"))
            inside.append(svg.text(NAME + long + 5, top + down + 8, percent(value), "start", "small"))
    label = f"{title}: bars; training above, the window below"
    return svg.picture(label, PAIRS_WIDTH, 8 + len(rows) * ROW, inside)


def histogram(title: str, edges: Sequence[float], counts: Sequence[float]) -> Markup:
    """Rows by equal bins; the middle is marked."""
    foot = HIGH - BOTTOM
    x, y = Scale(edges[0], edges[-1], SIDE, WIDE - SIDE), Scale(0, max([*counts, 1]), foot, TOP)
    inside = []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        told = f"{number(low)} to {number(high)}: {count:,.0f} rows"
        inside.append(svg.bar("after", x(low), y(count), x(high) - x(low) - 1, foot - y(count), told))
    for share, anchor in ((0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end")):
        value = float(f"{edges[0] + share * (edges[-1] - edges[0]):.4g}")
        inside.append(svg.text(x(value), HIGH - 6, svg.beside_an_axis(value), anchor))
    inside.append(svg.line("mark", WIDE / 2, TOP, WIDE / 2, foot))
    return svg.picture(f"{title}: bars; the same numbers are in a table", WIDE, HIGH, inside)


def against(title: str, points: Sequence[tuple[float, float, float]], names: tuple[str, str]) -> Markup:
    """Points (said, seen, rows), at least one, beside the line on which both are equal; larger ones have more rows."""
    most = max(rows for *_, rows in points)
    ticks = svg.round_numbers(min(min(one[:2]) for one in points), max(max(one[:2]) for one in points))
    low, high = ticks[0], ticks[-1]
    x, y = Scale(low, high, LEFT, SQUARE - SIDE), Scale(low, high, SQUARE - BELOW, TOP)
    inside = [svg.line("mark", x(low), y(low), x(high), y(high))]
    for tick in ticks:
        told = svg.beside_an_axis(tick)
        inside.append(svg.line("grid", LEFT, y(tick), SQUARE - SIDE, y(tick)))
        inside.append(svg.text(LEFT - 6, y(tick) + 4, told, "end"))
        inside.append(svg.text(x(tick), SQUARE - 24, told, "middle"))
    for said, seen, rows in points:
        told = f"{names[0]} {number(said)}, {names[1]} {number(seen)}, {rows:,.0f} rows"
        inside.append(svg.circle("a", x(said), y(seen), 3 + 5 * math.sqrt(rows / most), told))
    inside += [svg.text(SQUARE / 2 + 20, SQUARE - 6, names[0], "middle"), svg.text(LEFT, TOP - 8, names[1], "start")]
    return svg.picture(f"{title}: points; the same numbers are in a table", SQUARE, SQUARE, inside)
