"""Lines, points, bars and filters as drawings of a page, with axes, round ticks and a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from compiler.driver import Array
from compiler.support.harmless import harmless

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 28, 34
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")
_FAR_APART = 20.0  # a larger range of positive values is drawn by its logarithms
_SIDE, _INSET = 320, 62  # of a square drawing, and where its axis begins
_WIDE, _LOW = 120, 26  # a histogram in a cell of a table
_FILTERS_ACROSS = 8
_BINS = 40


def scatter(title: str, points: Array, across: str) -> str:
    """Points [n, 2] on one scale in both directions, with the line on which both numbers are the same."""
    low, high = (float(points.min()), float(points.max())) if len(points) else (0.0, 1.0)
    low, high = widened(low, high)
    xs = _places(points[:, 0], low, high, _INSET, _SIDE - _RIGHT)
    ys = _places(points[:, 1], low, high, _SIDE - _BOTTOM, _TOP)
    ticks = round_ticks(low, high, 4)
    parts = [
        _opened(_SIDE, _SIDE, "chart square", _INSET, title),
        *_ticks(ticks, low, high, True),
        *_ticks(ticks, low, high, False),
    ]
    parts.append(f'<path d="M{_INSET} {_SIDE - _BOTTOM}L{_SIDE - _RIGHT} {_TOP}" class="mark"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" class="point"/>' for x, y in zip(xs, ys, strict=True)]
    return "\n".join([*parts, _named(across, _SIDE, _SIDE), "</svg>"])


def histogram(title: str, values: Array, across: str) -> str:
    """How many of finite values lie in each of as many equal parts of their range."""
    low, high = widened(float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    # not by NumPy's histogram, which refuses values that differ in their last digits alone
    parts_of_range = np.minimum(_places(values, low, high, 0, _BINS), _BINS - 1).astype(np.int64)
    counts = np.bincount(parts_of_range, minlength=_BINS)
    left = np.linspace(_INSET, _SIDE - _RIGHT, _BINS, endpoint=False)
    width = (_SIDE - _RIGHT - _INSET) / len(counts)
    most = max(int(counts.max()), 1)
    parts = [_opened(_SIDE, _SIDE, "chart square", _INSET, title), *_ticks(round_ticks(low, high, 4), low, high, True)]
    parts += [*_ticks([tick for tick in round_ticks(0, most, 4) if tick == int(tick)], 0, most, False)]
    for x, count in zip(left, counts.tolist(), strict=True):
        y = float(_places(np.array([count]), 0, most, _SIDE - _BOTTOM, _TOP)[0])
        parts.append(_bar(x, y, width, _SIDE - _BOTTOM - y))
    return "\n".join([*parts, _named(across, _SIDE, _SIDE), "</svg>"])


def small_histogram(counts: Sequence[int]) -> str:
    """Counts as bars without axes, as high as a line of a table allows."""
    most, width = max(*counts, 1), _WIDE / len(counts)
    parts = [f'<svg viewBox="0 0 {_WIDE} {_LOW}" class="small" role="img" xmlns="http://www.w3.org/2000/svg">']
    for number, count in enumerate(counts):
        if count:
            height = max(0.7, (_LOW - 1) * count / most)
            parts.append(_bar(number * width, _LOW - height, width, height))
    return "".join([*parts, "</svg>"])


def mosaic(images: Array, bound: float) -> Array:
    """Filters [n, height, width, channels] side by side, as u8[3, height, width].

    Three channels are the colours, 0 in the middle; of others the mean over the channels goes from blue over white to
    red. `bound` is shown as the strongest colour; a number that is not finite is black.
    """
    count, height, width, channels = images.shape
    across = min(count, _FILTERS_ACROSS)
    down = -(-count // across)
    between = 255 if channels == 3 else 128  # a grey unlike that of 0
    whole = np.full((down * (height + 1) - 1, across * (width + 1) - 1, 3), between, np.uint8)
    for number, image in enumerate(images):
        y, x = number // across * (height + 1), number % across * (width + 1)
        whole[y : y + height, x : x + width] = _coloured(image.astype(np.float64) / bound, channels)
    return np.moveaxis(whole, 2, 0)


def _coloured(image: Array, channels: int) -> Array:
    """u8[height, width, 3] for values from -1 to 1."""
    if channels == 3:
        colours = 0.5 + 0.5 * image
    else:
        mean = image.mean(axis=2)[..., None]
        # from white to a dark red where positive, to a dark blue where negative
        reds, blues = np.array([178, 24, 43]) / 255, np.array([33, 102, 172]) / 255
        colours = 1 + np.abs(mean) * (np.where(mean > 0, reds, blues) - 1)
    is_broken = ~np.isfinite(image.sum(axis=2))
    colours[np.asarray(is_broken)] = 0
    return np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)


def _opened(width: int, height: int, css: str, left: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" class="{css}" role="img" xmlns="http://www.w3.org/2000/svg">\n'
        f'<text x="{left}" y="{_TOP - 12}" class="title">{escape(harmless(title))}</text>'
    )


def _named(across: str, width: int, height: int) -> str:
    return f'<text x="{width - _RIGHT}" y="{height - 4}" text-anchor="end">{escape(harmless(across))}</text>'


def _tick_across(x: float, bottom: int, number: float) -> list[str]:
    label = f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{number:.4g}</text>'
    return [f'<path d="M{x:.1f} {bottom}v4" class="axis"/>', label]


def _tick_up(y: float, left: int, right: int, number: float) -> list[str]:
    label = f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{number:.4g}</text>'
    return [f'<path d="M{left} {y:.1f}H{right}" class="grid"/>', label]


def _ticks(ticks: Sequence[float], low: float, high: float, is_across: bool) -> list[str]:
    right, bottom = _SIDE - _RIGHT, _SIDE - _BOTTOM
    parts: list[str] = []
    for tick in ticks:
        begin, end = (_INSET, right) if is_across else (bottom, _TOP)
        place = float(_places(np.array([tick]), low, high, begin, end)[0])
        parts += _tick_across(place, bottom, tick) if is_across else _tick_up(place, _INSET, right, tick)
    return [*parts, f'<path d="M{_INSET} {_TOP}V{bottom}H{right}" class="axis"/>'] if is_across else parts


def _bar(x: float, y: float, width: float, height: float) -> str:
    return f'<path d="M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z" class="bar"/>'


def _places(values: Array, low: float, high: float, begin: float, end: float) -> Array:
    scale = 1.0 if math.isfinite(high - low) else 0.5  # the distance of the largest floats is none
    return begin + (end - begin) * ((values * scale - low * scale) / (high * scale - low * scale))


Points = Sequence[tuple[float, float]]


def line_chart(title: str, lines: Mapping[str, Points], across: str, mark: float | None = None) -> str:
    """An `<svg>` element. Points that are not finite are left out; `mark` is a place for a dotted line.

    Positive values that lie far apart, as those of a loss that fell, stand on a logarithmic axis, which the title says.
    """
    lines = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in lines.items()}
    every = [point for points in lines.values() for point in points] or [(0.0, 0.0)]
    scale = _Scale([x for x, _ in every], [y for _, y in every])
    title += ", logarithmic" if scale.is_logarithmic else ""
    parts = [_opened(_WIDTH, _HEIGHT, "chart", _LEFT, title), *_grid(scale), _named(across, _WIDTH, _HEIGHT)]
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
        parts += _tick_up(scale.up(y), _LEFT, right, y)
    for x in (tick for tick in round_ticks(*scale.x) if abs(tick - round(tick)) < 1e-9):
        parts += _tick_across(scale.across(x), bottom, x)
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
