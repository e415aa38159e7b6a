"""A logarithmic scale of times, on which percentiles can be told from counts."""

import math
from collections.abc import Mapping

#: Seconds; everything shorter is on the first step.
SHORTEST_S = 0.0001
#: Each step is this much longer than the one before: a percentile is right to a tenth.
GROWTH: float = 2**0.25
#: About a hundred seconds; everything longer is on the last step.
LAST = 80


def step(seconds: float) -> int:
    """The step of the scale, from 0 to :data:`LAST`, on which a time is."""
    if seconds <= SHORTEST_S:
        return 0
    return min(math.ceil(math.log(seconds / SHORTEST_S, GROWTH)), LAST)


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The time that this share of all stayed within.

    Args:
        counts: How many were on each step.
        share: From 0 to 1; 0.99 for the 99th percentile.

    Returns:
        Seconds, interpolated within the step; None when there were none at all.
    """
    total = sum(counts.values())
    if not total:
        return None
    wanted = share * total
    below = 0
    last = 0
    for last, count in sorted(counts.items()):
        if below + count >= wanted:
            return SHORTEST_S * math.pow(GROWTH, last - 1 + (wanted - below) / count)
        below += count
    return SHORTEST_S * math.pow(GROWTH, last)
