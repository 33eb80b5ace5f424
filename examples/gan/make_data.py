"""Points of eight Gaussians on a circle of radius 2: `ring.npz`, which the model learns to draw."""

from pathlib import Path

import numpy as np

ROWS = 4096
MODES, RADIUS, DEVIATION = 8, 2.0, 0.05


def main() -> None:
    random = np.random.default_rng(0)
    angle = 2 * np.pi * random.integers(0, MODES, ROWS) / MODES
    centre = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = centre + DEVIATION * random.normal(size=(ROWS, 2))
    np.savez_compressed(Path(__file__).with_name("ring.npz"), point=points.astype(np.float32))


if __name__ == "__main__":
    main()
