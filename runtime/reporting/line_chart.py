"""Lines over whole numbers as an SVG drawing, with axes, round ticks and a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from compiler.support.harmless import harmless

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 28, 34
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")
_FAR_APART = 20.0  # a larger range of positive values is drawn by its logarithms

Points = Sequence[tuple[float, float]]


def line_chart(title: str, lines: Mapping[str, Points], across: str, mark: float | None = None) -> str:
    """An `<svg>` element. Points that are not finite are left out; `mark` is a place for a dotted line.

    Positive values that lie far apart, as those of a loss that fell, stand on a logarithmic axis, which the title says.
    """
    lines = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in lines.items()}
    every = [point for points in lines.values() for point in points] or [(0.0, 0.0)]
    scale = _Scale([x for x, _ in every], [y for _, y in every])
    title += ", logarithmic" if scale.is_logarithmic else ""
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" class="chart" role="img" xmlns="http://www.w3.org/2000/svg">',
        f'<text x="{_LEFT}" y="16" class="title">{escape(harmless(title))}</text>',
        *_grid(scale),
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{escape(harmless(across))}</text>',
    ]
    if mark is not None:
        x = scale.across(mark)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" class="mark"/>')
    for number, (name, points) in enumerate(lines.items()):
        parts += _line(scale, name, points, number)
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


class _Scale:
    """Values to places in the drawing. A range of a single value is widened, so that it has a place."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.x = widened(min(xs), max(xs))
        self.y = widened(min(ys), max(ys))
        self.is_logarithmic = is_far_apart(ys)

    def across(self, x: float) -> float:
        low, high = self.x
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (x - low) / (high - low)

    def up(self, y: float) -> float:
        low, high = self.y
        if self.is_logarithmic:
            low, high, y = math.log(low), math.log(high), math.log(y)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y - low) / (high - low)


def widened(low: float, high: float) -> tuple[float, float]:
    """A range that has a width: around a single value as far as to its half."""
    margin = 0.0 if high > low else abs(low) / 2 or 0.5
    return low - margin, high + margin


def _grid(scale: _Scale) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts: list[str] = []
    for y in (powers if scale.is_logarithmic else round_ticks)(*scale.y):
        place = scale.up(y)
        parts.append(f'<path d="M{_LEFT} {place:.1f}H{right}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{y:.4g}</text>')
    for x in (tick for tick in round_ticks(*scale.x) if abs(tick - round(tick)) < 1e-9):
        place = scale.across(x)
        parts.append(f'<path d="M{place:.1f} {bottom}v4" class="axis"/>')
        parts.append(f'<text x="{place:.1f}" y="{bottom + 16}" text-anchor="middle">{x:.4g}</text>')
    parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" class="axis"/>')
    return parts


def _line(scale: _Scale, name: str, points: Points, number: int) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    places = " ".join(f"{scale.across(x):.1f},{scale.up(y):.1f}" for x, y in points)
    shown = f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
    if len(points) == 1:
        shown = (
            f'<circle cx="{scale.across(points[0][0]):.1f}" cy="{scale.up(points[0][1]):.1f}" r="3" fill="{colour}"/>'
        )
    x = _WIDTH - _RIGHT - 110 * (number + 1)
    return [shown, f'<text x="{x}" y="16" fill="{colour}">— {escape(harmless(name))}</text>']
