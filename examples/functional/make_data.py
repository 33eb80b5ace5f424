"""Writes signals.npz: noisy windows of sines, squares and sawtooths, with their sampling rates and frequencies."""

from pathlib import Path

import numpy as np

ROWS, SAMPLES = 1500, 32


def main() -> None:
    generator = np.random.default_rng(0)
    waveform = generator.integers(0, 3, ROWS).astype(np.uint8)
    rate = np.exp(generator.uniform(np.log(10), np.log(1000), ROWS)).astype(np.float32)
    cycles_per_sample = np.exp(generator.uniform(np.log(1 / 32), np.log(1 / 8), ROWS))
    phase = generator.uniform(0, 0.25, ROWS)
    turns = (phase[:, None] + cycles_per_sample[:, None] * np.arange(SAMPLES)) % 1.0
    shapes = np.stack([np.sin(2 * np.pi * turns), np.where(turns < 0.5, 1.0, -1.0), 1.0 - 2.0 * turns])
    clean = shapes[waveform, np.arange(ROWS)]
    noisy = 0.8 * clean + 0.05 * generator.standard_normal(clean.shape)
    np.savez_compressed(
        Path(__file__).with_name("signals.npz"),
        samples=np.clip(np.rint(127.5 * (noisy + 1)), 0, 255).astype(np.uint8),
        rate=rate,
        waveform=waveform,
        frequency=(cycles_per_sample * rate).astype(np.float32),
    )


if __name__ == "__main__":
    main()
