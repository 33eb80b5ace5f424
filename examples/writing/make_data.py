"""Makes `writing.npz`: the path of a pen that draws one to four shapes one after the other, and which these are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROWS, MOST, POINTS = 1000, 4, 96
SHAPES = {  # corners from one unit to the next; 1 to 5 are their classes, 0 is the blank
    1: [(0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (1, 0)],
    2: [(0, 0), (0.5, 1), (1, 0)],
    3: [(0, 0), (0, 1), (1, 0), (1, 1), (1, 0)],
    4: [(0, 0), (0.5, -1), (1, 0)],
    5: [(0, 0), (1, 1), (0, 1), (1, 0)],
}


def drawn(corners: list[tuple[float, float]], points: int) -> np.ndarray:
    """So many points at equal distances on the lines from corner to corner, without the first corner."""
    ends = np.array(corners, float)
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(ends, axis=0).T))])
    places = np.linspace(0, lengths[-1], points + 1)[1:]
    return np.stack([np.interp(places, lengths, ends[:, axis]) for axis in (0, 1)], axis=1)


def written(generator: np.random.Generator, label: np.ndarray) -> np.ndarray:
    """How the pen moves from point to point: each shape at its own speed and of its own size."""
    parts = []
    for shape in label:
        size = generator.normal(1, 0.1, 2)
        parts.append(drawn(SHAPES[int(shape)], int(generator.integers(10, 25))) * size)
    starts = np.cumsum([[0, 0], *(part[-1] for part in parts[:-1])], axis=0)
    path = np.concatenate([part + start for part, start in zip(parts, starts, strict=True)])
    path += 0.01 * generator.standard_normal(path.shape)
    return np.diff(path, axis=0, prepend=0.0) * 10


def main() -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "moves": np.zeros((ROWS, POINTS, 2), np.float32),
        "seen": np.zeros((ROWS, POINTS), bool),
        "shapes": np.zeros((ROWS, MOST), np.uint8),
        "known": np.zeros((ROWS, MOST), bool),
    }
    for row in range(ROWS):
        label = generator.integers(1, 6, generator.integers(1, MOST + 1))
        moves = written(generator, label)
        arrays["moves"][row, : len(moves)] = moves.round(2)
        arrays["seen"][row, : len(moves)] = True
        arrays["shapes"][row, : len(label)] = label
        arrays["known"][row, : len(label)] = True
    np.savez_compressed(Path(__file__).with_name("writing.npz"), **arrays)


if __name__ == "__main__":
    main()
