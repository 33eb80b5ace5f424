"""Points, bars and filters as drawings of a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from compiler.driver import Array
from compiler.support.harmless import harmless
from runtime.reporting.line_chart import round_ticks, widened

_SIDE, _LEFT, _BOTTOM, _TOP, _RIGHT = 320, 62, 34, 28, 12
_WIDE, _LOW = 120, 26  # a histogram in a cell of a table
_FILTERS_ACROSS = 8


def scatter(title: str, points: Array, across: str) -> str:
    """Points [n, 2] on one scale in both directions, with the line on which both numbers are the same."""
    low, high = (float(points.min()), float(points.max())) if len(points) else (0.0, 1.0)
    low, high = widened(low, high)
    xs = _places(points[:, 0], low, high, _LEFT, _SIDE - _RIGHT)
    ys = _places(points[:, 1], low, high, _SIDE - _BOTTOM, _TOP)
    ticks = round_ticks(low, high, 4)
    parts = [_opened(_SIDE, _SIDE, title), *_ticks(ticks, low, high, True), *_ticks(ticks, low, high, False)]
    parts.append(f'<path d="M{_LEFT} {_SIDE - _BOTTOM}L{_SIDE - _RIGHT} {_TOP}" class="mark"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" class="point"/>' for x, y in zip(xs, ys, strict=True)]
    return "\n".join([*parts, _named(across), "</svg>"])


def histogram(title: str, values: Array, across: str, bins: int = 40) -> str:
    """How many of finite values lie in each of as many equal parts of their range."""
    low, high = widened(float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    # not by NumPy's histogram, which refuses values that differ in their last digits alone
    parts_of_range = np.minimum(_places(values, low, high, 0, bins), bins - 1).astype(np.int64)
    counts = np.bincount(parts_of_range, minlength=bins)
    left = np.linspace(_LEFT, _SIDE - _RIGHT, bins, endpoint=False)
    width = (_SIDE - _RIGHT - _LEFT) / len(counts)
    most = max(int(counts.max()), 1)
    parts = [_opened(_SIDE, _SIDE, title), *_ticks(round_ticks(low, high, 4), low, high, True)]
    parts += [*_ticks([tick for tick in round_ticks(0, most, 4) if tick == int(tick)], 0, most, False)]
    for x, count in zip(left, counts.tolist(), strict=True):
        y = float(_places(np.array([count]), 0, most, _SIDE - _BOTTOM, _TOP)[0])
        parts.append(_bar(x, y, width, _SIDE - _BOTTOM - y))
    return "\n".join([*parts, _named(across), "</svg>"])


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


def _opened(width: int, height: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" class="chart square" role="img" xmlns="http://www.w3.org/2000/svg">\n'
        f'<text x="{_LEFT}" y="{_TOP - 12}" class="title">{escape(harmless(title))}</text>'
    )


def _named(across: str) -> str:
    return f'<text x="{_SIDE - _RIGHT}" y="{_SIDE - 4}" text-anchor="end">{escape(harmless(across))}</text>'


def _ticks(ticks: Sequence[float], low: float, high: float, is_across: bool) -> list[str]:
    right, bottom = _SIDE - _RIGHT, _SIDE - _BOTTOM
    parts: list[str] = []
    for tick in ticks:
        label = f"{tick:.4g}"
        if is_across:
            x = float(_places(np.array([tick]), low, high, _LEFT, right)[0])
            parts.append(f'<path d="M{x:.1f} {bottom}v4" class="axis"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
        else:
            y = float(_places(np.array([tick]), low, high, bottom, _TOP)[0])
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" class="grid"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return [*parts, f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" class="axis"/>'] if is_across else parts


def _bar(x: float, y: float, width: float, height: float) -> str:
    return f'<path d="M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z" class="bar"/>'


def _places(values: Array, low: float, high: float, begin: float, end: float) -> Array:
    scale = 1.0 if math.isfinite(high - low) else 0.5  # the distance of the largest floats is none
    return begin + (end - begin) * ((values * scale - low * scale) / (high * scale - low * scale))
