"""The charts' lines and bars as SVG coordinates: y is 0 at the top and :data:`HEIGHT` at the bottom."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.readers.analytics import HourViews

#: The size of the hourly chart in its own units; the browser stretches it.
WIDTH, HEIGHT = 240.0, 100.0
_HOUR = WIDTH / 24


@dataclass(frozen=True, slots=True)
class Curves:
    """The lines of two days, hour by hour, as points."""

    top: int  #: The value at the upper edge
    yesterday: str
    today: str  #: The hours that are over
    running: str  #: From the last of them to the current hour
    last: tuple[float, float]  #: The end of the line


def curves(hours: Sequence[HourViews]) -> Curves:
    """The lines of the hourly chart."""
    today = [hour.today for hour in hours if hour.today is not None]
    top = ceiling(max([*today, *(hour.yesterday for hour in hours)], default=0))

    def point(hour: int, views: int) -> tuple[float, float]:
        return round((hour + 0.5) * _HOUR, 1), round(HEIGHT * (1 - views / top), 1)

    then = [point(hour.hour, hour.yesterday) for hour in hours]
    now = [point(hour, views) for hour, views in enumerate(today)]
    return Curves(top, _points(then), _points(now[:-1]), _points(now[-2:]), now[-1] if now else (0.0, HEIGHT))


def ceiling(most: int) -> int:
    """The smallest round, even number that is not below ``most``, such as 2, 8, 20 or 400."""
    if most <= 10:
        return max(2, most + most % 2)
    step: int = 10 ** (len(str(most)) - 2)
    return next(
        round_ * step for round_ in (10, 12, 16, 20, 24, 30, 40, 50, 60, 80, 100) if round_ * step >= most
    )


def part(value: int, most: int) -> float:
    """A bar's length in percent of the longest; at least 1 for a value above 0, so that it is seen."""
    if not value or not most:
        return 0.0
    return max(1.0, round(100 * value / most, 1))


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)
