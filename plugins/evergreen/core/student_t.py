"""Student's t distribution with whole degrees of freedom, for the intervals of core.resample."""

from __future__ import annotations

import math


def below(t: float, degrees: int) -> float:
    """The chance of a value of at most `t`: the finite series 26.7.3 and 26.7.4 of Abramowitz and Stegun."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for at in range(2 + odd, degrees + 1, 2):  # at = the denominator's next factor
        total += term
        term *= square * (at - 1) / at
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(1.0, max(0.0, (1 + inside) / 2))


def quantile(chance: float, degrees: int) -> float:
    """The value that is not exceeded with this chance, by bisection to full precision."""
    low, high = -1.0, 1.0
    while below(low, degrees) > chance:
        low *= 2
    while below(high, degrees) < chance:
        high *= 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if below(middle, degrees) < chance else (low, middle)
    return high
