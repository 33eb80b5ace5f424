"""Lines as a drawing of a page, with axes, round ticks and a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from compiler.driver import Array
from compiler.support.harmless import harmless
from compiler.support.palette import SERIES
from compiler.support.record import record

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 28, 34
_COLOURS = tuple(f"var(--{name})" for name in SERIES)
_FAR_APART = 20.0  # a larger range of positive values is drawn by its logarithms

# Colours are those of the page around a chart.
CHART_STYLE = """
.chart { width: 100%; max-width: 40rem; display: block; margin: 0.6rem 0; fill: currentColor; }
.chart text { font: var(--tiny) var(--sans); } .chart text:not([fill]) { fill: var(--quiet); }
.chart text.title { font-weight: 600; fill: currentColor; }
.grid { stroke: var(--line); } .axis { stroke: var(--line); fill: none; }
.mark { stroke: var(--quiet); stroke-dasharray: 3; }
""".strip()


def _places(values: float | Array, limits: tuple[float, float], begin: float, end: float) -> Any:
    low, high = limits
    scale = 1.0 if math.isfinite(high - low) else 0.5  # the distance of the largest floats is none
    return begin + (end - begin) * ((values * scale - low * scale) / (high * scale - low * scale))


Points = Sequence[tuple[float, float]]


def line_chart(title: str, lines: Mapping[str, Points], across: str, mark: float | None = None) -> str:
    """An `<svg>` element. Points that are not finite are left out; `mark` is a place for a dotted line.

    Positive values that lie far apart, as those of a loss that fell, stand on a logarithmic axis, which the title says.
    """
    lines = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in lines.items()}
    every = [point for points in lines.values() for point in points] or [(0.0, 0.0)]
    xs, ys = [x for x, _ in every], [y for _, y in every]
    x_range, y_range = widened(min(xs), max(xs)), widened(min(ys), max(ys))
    axes = _Axes(_WIDTH, _HEIGHT, _LEFT, x_range, y_range, is_far_apart(ys))
    title += ", logarithmic" if axes.is_logarithmic else ""
    whole = [tick for tick in round_ticks(*x_range) if abs(tick - round(tick)) < 1e-9]
    y_ticks = (powers if axes.is_logarithmic else round_ticks)(*y_range)
    parts = axes.drawn("chart", title, across, whole, y_ticks)
    if mark is not None:
        x = axes.across(mark)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" class="mark"/>')
    for number, (name, points) in enumerate(lines.items()):
        parts += _line(axes, name, points, number)
    return "\n".join([*parts, "</svg>"])


def is_far_apart(values: Sequence[float]) -> bool:
    """Whether values belong on a logarithmic axis: all of them, but those not finite, positive and far apart."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > _FAR_APART


def round_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` multiples of 1, 2 or 5 times a power of ten, from `low` to `high`."""
    rough = (high - low) / wanted
    if not 0 < rough < math.inf:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def powers(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`: some where there are many, and 2 and 5 times these where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    apart = max(1, (last - first) // 6)
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1, apart) for factor in factors]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


@record
class _Axes:
    """The ranges of the values in a drawing of some size, whose axes begin at `left`."""

    width: int
    height: int
    left: int
    x: tuple[float, float]
    y: tuple[float, float]
    is_logarithmic: bool = False

    def across(self, xs: float | Array) -> Any:
        return _places(xs, self.x, self.left, self.width - _RIGHT)

    def up(self, ys: float | Array) -> Any:
        begin, end = self.height - _BOTTOM, _TOP
        if self.is_logarithmic:
            return _places(np.log(ys), (math.log(self.y[0]), math.log(self.y[1])), begin, end)
        return _places(ys, self.y, begin, end)

    def drawn(self, css: str, title: str, across: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[str]:
        """The beginning of an `<svg>` element: the title, the grid, and both axes, of which one has a name."""
        right, bottom = self.width - _RIGHT, self.height - _BOTTOM
        size = f'viewBox="0 0 {self.width} {self.height}"'
        parts = [
            f'<svg {size} class="{css}" role="img" xmlns="http://www.w3.org/2000/svg">',
            f'<text x="{self.left}" y="{_TOP - 12}" class="title">{escape(harmless(title))}</text>',
        ]
        for tick in y_ticks:
            y = self.up(tick)
            parts.append(f'<path d="M{self.left} {y:.1f}H{right}" class="grid"/>')
            parts.append(f'<text x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
        for tick in x_ticks:
            x = self.across(tick)
            parts.append(f'<path d="M{x:.1f} {bottom}v4" class="axis"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:.4g}</text>')
        parts.append(f'<path d="M{self.left} {_TOP}V{bottom}H{right}" class="axis"/>')
        name = escape(harmless(across))
        return [*parts, f'<text x="{right}" y="{self.height - 4}" text-anchor="end">{name}</text>']


def widened(low: float, high: float) -> tuple[float, float]:
    """A range that has a width: around a single value as far as to its half."""
    margin = 0.0 if high > low else abs(low) / 2 or 0.5
    return low - margin, high + margin


def _line(axes: _Axes, name: str, points: Points, number: int) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    places = " ".join(f"{axes.across(x):.1f},{axes.up(y):.1f}" for x, y in points)
    shown = f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
    if len(points) == 1:
        shown = f'<circle cx="{axes.across(points[0][0]):.1f}" cy="{axes.up(points[0][1]):.1f}" r="3" fill="{colour}"/>'
    x = _WIDTH - _RIGHT - 110 * (number + 1)
    return [shown, f'<text x="{x}" y="16" fill="{colour}">— {escape(harmless(name))}</text>']
