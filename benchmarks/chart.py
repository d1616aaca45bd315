"""Line charts as SVG, on logarithmic axes: the same numbers make the same file, byte by byte."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 90
#: Colours that differ for most people (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line: a name, and its points in order; the numbers are above zero.

    A ``level`` is drawn beside it as a dashed line all over the chart, 0 for none.
    """

    name: str
    points: Sequence[tuple[float, float]]
    level: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A logarithmic axis from one power of ten to another, laid over pixels."""

    low: int
    high: int
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> Axis:
        """Return the axis that holds all values."""
        low = math.floor(math.log10(min(values)))
        return cls(low=low, high=max(low + 1, math.ceil(math.log10(max(values)))), start=start, end=end)

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """The powers of ten."""
        return [10.0**power for power in range(self.low, self.high + 1)]


def chart(title: str, across: str, up: str, series: Sequence[Series], *, is_growth: bool = True) -> str:
    """Return the SVG of lines over ``across``; with ``is_growth`` a dashed line shows what linear growth looks like.

    Raises:
        ValueError: when there is nothing to show.
    """
    points = [point for one in series for point in one.points]
    if not points:
        raise ValueError(f"no points: {title}")
    x = Axis.over([point[0] for point in points], _LEFT, _WIDTH - _RIGHT)
    levels = [one.level for one in series if one.level]
    y = Axis.over([*(point[1] for point in points), *levels], _HEIGHT - _BOTTOM, _TOP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(_WIDTH / 2, 22, title, size=15),
        *_grid(x, y),
        _text(_WIDTH / 2, _HEIGHT - _BOTTOM + 38, across),
        f'<g transform="translate(16 {(_TOP + _HEIGHT - _BOTTOM) / 2:g}) rotate(-90)">{_text(0, 0, up)}</g>',
        *(_linear(x, y, series[0]) if is_growth else ()),
    ]
    for number, one in enumerate(series):
        lines += _line(x, y, one, _COLOURS[number % len(_COLOURS)], number)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _grid(x: Axis, y: Axis) -> Iterator[str]:
    for tick in x.ticks:
        yield f'<path d="M{x.at(tick)} {y.start}V{y.end}" stroke="#dddddd"/>'
        yield _text(x.at(tick), y.start + 16, f"{tick:,g}" if tick < 1 else f"{tick:,.0f}")
    for tick in y.ticks:
        yield f'<path d="M{x.start} {y.at(tick)}H{x.end}" stroke="#dddddd"/>'
        yield _text(x.start - 6, y.at(tick) + 4, f"{tick:,g}" if tick < 1 else f"{tick:,.0f}", anchor="end")


def _linear(x: Axis, y: Axis, first: Series) -> Iterator[str]:
    """Yield a line of slope one through the last point of the first series, as far as it stays on the chart."""
    at, value = first.points[-1]
    left = max(x.ticks[0], at * y.ticks[0] / value)
    right = min(x.ticks[-1], at * y.ticks[-1] / value)
    ends = " ".join(f"{x.at(end)},{y.at(max(y.ticks[0], value * end / at))}" for end in (left, right))
    yield f'<polyline points="{ends}" fill="none" stroke="#999999" stroke-dasharray="4 4"/>'


def _line(x: Axis, y: Axis, series: Series, colour: str, number: int) -> Iterator[str]:
    places = [(x.at(across), y.at(up)) for across, up in series.points]
    joined = " ".join(f"{across},{up}" for across, up in places)
    yield f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'
    if series.level:
        ends = f"M{x.start:g} {y.at(series.level)}H{x.end:g}"
        yield f'<path d="{ends}" stroke="{colour}" stroke-width="2" stroke-dasharray="6 4"/>'
    for across, up in places:
        yield f'<circle cx="{across}" cy="{up}" r="3.5" fill="{colour}"/>'
    below = _HEIGHT - 14
    left = _LEFT + number * (_WIDTH - _LEFT - _RIGHT) / 3
    yield f'<path d="M{left:g} {below - 4}h18" stroke="{colour}" stroke-width="3"/>'
    yield _text(left + 24, below, series.name, anchor="start")


def _text(x: float, y: float, content: str, *, size: int = 12, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="#333333">{escape(content)}</text>'
    )
