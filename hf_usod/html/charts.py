"""Lines and bars as SVG, small enough to stand in a page by the dozen."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

WIDTH, HEIGHT = 420, 250
LEFT, TOP, RIGHT, BOTTOM = 46, 10, 12, 38
# Okabe and Ito's colors, told apart by everyone
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

Point = tuple[float, float]


class Tick(NamedTuple):
    """Where it is in the picture, and what it says."""

    place: float
    text: str


class Line(NamedTuple):
    name: str
    color: str
    path: str  # SVG path data


@dataclass(frozen=True)
class Chart:
    """Lines by name, each a sequence of `(x, y)`; what is not finite leaves a gap. `bars` fills what is below them."""

    title: str
    x_label: str
    lines: Mapping[str, Sequence[Point]]
    bars: bool = False

    def _finite(self) -> list[Point]:
        points = (point for line in self.lines.values() for point in line)
        return [point for point in points if all(map(math.isfinite, point))]

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least and greatest x and y, widened to round values of y."""
        xs, ys = zip(*self._finite() or [(0.0, 0.0), (1.0, 1.0)], strict=True)
        low, high = (0.0, max(ys)) if self.bars else (min(ys), max(ys))
        step = round_step(high - low)
        low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        return min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, low, high if high > low else low + step

    def place(self, point: Point) -> Point:
        """A point's place in the picture."""
        left, right, low, high = self.bounds
        x = LEFT + (point[0] - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (point[1] - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    @property
    def drawn(self) -> list[Line]:
        return [
            Line(name, COLORS[number % len(COLORS)], self._path(points))
            for number, (name, points) in enumerate(self.lines.items())
        ]

    def _path(self, points: Sequence[Point]) -> str:
        steps = []
        pen = "M"
        for point in points:
            if not all(map(math.isfinite, point)):
                pen = "M"
                continue
            x, y = self.place(point)
            steps.append(f"{pen}{x} {y}")
            pen = "L"
        if self.bars and steps:
            base, (first, _), (last, _) = HEIGHT - BOTTOM, self.place(points[0]), self.place(points[-1])
            return f"M{first} {base}L{''.join(steps)[1:]}L{last} {base}Z"
        return "".join(steps)

    @property
    def x_ticks(self) -> list[Tick]:
        left, right, low, _ = self.bounds
        return [Tick(self.place((value, low))[0], text) for value, text in ticks(left, right)]

    @property
    def y_ticks(self) -> list[Tick]:
        left, _, low, high = self.bounds
        return [Tick(self.place((left, value))[1], text) for value, text in ticks(low, high)]


def round_step(extent: float, most: int = 5) -> float:
    """A step of 1, 2 or 5 times a power of ten, of which at most about `most` fit into `extent`."""
    if extent <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(extent / most))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * most >= extent * (1 - 1e-9))


def ticks(low: float, high: float) -> Iterator[tuple[float, str]]:
    """Round values from `low` to `high`, and how they are written."""
    step = round_step(high - low)
    digits = max(0, -math.floor(math.log10(step)))
    for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        yield number * step, f"{number * step:.{digits}f}"


def histogram(title: str, x_label: str, values: Mapping[str, Sequence[float]], low: float, high: float) -> Chart:
    """How often values of each name fall into 20 equal bins from `low` to `high`, as shares; others count as the
    nearest."""
    bins = 20
    width = (high - low) / bins
    lines = {}
    for name, numbers in values.items():
        counts = [0] * bins
        for number in numbers:
            counts[min(bins - 1, max(0, int((number - low) / width)))] += 1
        shares = [count / max(1, len(numbers)) for count in counts]
        lines[name] = [(low + (place + side) * width, share) for place, share in enumerate(shares) for side in (0, 1)]
    return Chart(title, x_label, lines, bars=True)
