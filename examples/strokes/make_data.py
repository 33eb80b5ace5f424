"""Makes `strokes.npz`: the number of a shape, and the path of a pen that draws it, a little different each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROWS, POINTS = 600, 40
SQUARE = [(1, 1), (-1, 1), (-1, -1), (1, -1), (1, 1)]
TRIANGLE = [(0, 1), (-0.9, -0.6), (0.9, -0.6), (0, 1)]
STAR = [(np.sin(0.8 * np.pi * corner), np.cos(0.8 * np.pi * corner)) for corner in range(6)]


def along(corners: list[tuple[float, float]]) -> np.ndarray:
    """Points at equal distances on the lines from corner to corner."""
    ends = np.array(corners, float)
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(ends, axis=0).T))])
    places = np.linspace(0, lengths[-1], POINTS)
    return np.stack([np.interp(places, lengths, ends[:, axis]) for axis in (0, 1)], axis=1)


def shapes() -> np.ndarray:
    """Circle, square, triangle, star, figure of eight, spiral: [6, POINTS, 2]."""
    t = np.linspace(0, 2 * np.pi, POINTS)
    circle = np.stack([np.cos(t), np.sin(t)], axis=1)
    eight = np.stack([np.sin(t), np.sin(2 * t) / 2], axis=1)
    spiral = np.stack([t * np.cos(2 * t), t * np.sin(2 * t)], axis=1) / (2 * np.pi)
    return np.stack([circle, along(SQUARE), along(TRIANGLE), along(STAR), eight, spiral])


def main() -> None:
    generator = np.random.default_rng(0)
    shape = generator.integers(0, 6, ROWS)
    size = generator.normal(1, 0.05, (ROWS, 1, 1))
    points = size * shapes()[shape] + 0.02 * generator.standard_normal((ROWS, POINTS, 2))
    path = Path(__file__).with_name("strokes.npz")
    np.savez_compressed(path, shape=shape.astype(np.uint8), points=points.round(2).astype(np.float32))


if __name__ == "__main__":
    main()
