"""Parts of charts as SVG: drawn with the page's own colours, light or dark, by the classes of pages.css.

Each value is drawn in a shape of its own too, so that nobody needs the colours. The numbers stand in tables beside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from markupsafe import Markup

from evergreen.ui.words import number

TICKS = 4
LONGEST_NAME = 22  # characters


class Scale:
    """Values of [low, high] to places of [start, end]."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self._start, self._end = low, high, start, end

    def __call__(self, value: float) -> float:
        """The place of a value."""
        part = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self._start + part * (self._end - self._start), 1)


def round_numbers(low: float, high: float, wanted: int = TICKS) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from one at or below `low` to one at or above `high`."""
    if low == high:
        low, high = (low - abs(low) * 0.1, high + abs(high) * 0.1) if low else (0.0, 1.0)
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [at * step for at in range(first, last + 1)]


def beside_an_axis(value: float, told: Callable[[float], str] = number) -> str:
    """A round number without what floating point adds to it."""
    found = float(f"{value:.6g}")
    return told(int(found) if found.is_integer() else found)


def shortened(name: str) -> str:
    """A name that has room beside a bar."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def picture(label: str, width: float, height: float, inside: Iterable[Markup]) -> Markup:
    """The whole; `label` is what a screen reader says."""
    head = Markup('<svg class="plot" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{label}">')
    return head.format(w=width, h=height, label=label) + Markup("").join(inside) + Markup("</svg>")


def text(x: float, y: float, words: str, anchor: str, look: str = "") -> Markup:
    """`anchor`: start, middle or end."""
    made = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')
    return made.format(look, round(x, 1), round(y, 1), anchor, words)


def line(look: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A straight one."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(look, x1, y1, x2, y2)


def bar(look: str, x: float, y: float, width: float, height: float, told: str) -> Markup:
    """`told` is shown where the pointer rests on it."""
    made = Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>')
    return made.format(look, round(x, 1), round(y, 1), round(width, 1), round(height, 1), told)


def circle(look: str, x: float, y: float, radius: float, told: str) -> Markup:
    """A dot."""
    made = Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
    return made.format(look, x, y, round(radius, 1), told)


def square(look: str, x: float, y: float, told: str) -> Markup:
    """A dot with corners."""
    made = Markup('<rect class="dot {}" x="{}" y="{}" width="6" height="6"><title>{}</title></rect>')
    return made.format(look, round(x - 3, 1), round(y - 3, 1), told)


def diamond(look: str, x: float, y: float, told: str) -> Markup:
    """A dot on its corner."""
    corners = " ".join(f"{round(a, 1)},{round(b, 1)}" for a, b in ((x, y - 4), (x + 4, y), (x, y + 4), (x - 4, y)))
    return Markup('<polygon class="dot {}" points="{}"><title>{}</title></polygon>').format(look, corners, told)
