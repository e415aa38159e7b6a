"""Figures from samples."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self


def alternated(names: Iterable[str], rounds: int) -> Iterator[tuple[int, str]]:
    """The numbers of the rounds and whose turn it is in them; nobody is always the first."""
    order = [*names]
    for number in range(rounds):
        for place in range(len(order)):
            yield number, order[(number + place) % len(order)]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest sample that so many percent of all do not exceed (nearest rank).

    Args:
        ordered: The samples, the smallest first; at least one.
        percent: Above 0, up to 100.
    """
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds gave: the median, and how far they lie apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Self:
        """The spread of at least one sample."""
        values = list(samples)
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def of_ratios(cls, above: Iterable[float], below: Iterable[float]) -> Self:
        """The spread of the ratios round by round: what disturbed a whole round falls out of its ratio."""
        return cls.of(a / b for a, b in zip(above, below, strict=True))

    def show(self, form: str = ".2f", unit: str = "") -> str:
        """``2.61 (2.48–2.70)``, with a unit behind."""
        text = f"{self.median:{form}} ({self.least:{form}}–{self.most:{form}})"
        return f"{text} {unit}" if unit else text
