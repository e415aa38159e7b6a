"""Figures from samples."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self


def alternated(names: Iterable[str], rounds: int) -> Iterator[tuple[int, str]]:
    """The number of each round with each name. The first place moves on from round to round."""
    order = [*names]
    for number in range(rounds):
        for place in range(len(order)):
            yield number, order[(number + place) % len(order)]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of samples in ascending order; ``percent`` is above 0, up to 100."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def ratios(above: Iterable[float], below: Iterable[float]) -> list[float]:
    """Ratios round by round, so that a disturbance of a whole round cancels out."""
    return [a / b for a, b in zip(above, below, strict=True)]


def medians(samples: Sequence[dict[str, float]], form: str) -> str:
    """The median of each key over all samples, as ``bot 0.21, postgresql 0.05``."""
    keys = samples[0]
    return ", ".join(f"{key} {statistics.median(each[key] for each in samples):{form}}" for key in keys)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, least and most of at least one sample."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Self:
        """The spread of at least one sample."""
        values = list(samples)
        return cls(statistics.median(values), min(values), max(values))

    def show(self, form: str, unit: str) -> str:
        """``2.61 (2.48–2.70) ms``; without the brackets when all samples are equal."""
        spread = "" if self.least == self.most else f" ({self.least:{form}}–{self.most:{form}})"
        return f"{self.median:{form}}{spread} {unit}".rstrip()
