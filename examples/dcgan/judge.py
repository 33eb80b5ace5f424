"""`python judge.py RUN JUDGE`: digits that a run of `dcgan` makes, read by a run of `digits`.

Prints the share that is read without doubt, the share of the rarest digit among them, and how far apart two images of
a digit are, as a share of the distance in the data: a generator that draws one picture for each digit has 0.
"""

import sys
from pathlib import Path

import numpy as np

import dlc

DIGITS = Path(__file__).parents[1] / "digits" / "digits.csv.gz"
ROWS, SURE = 2000, 0.9


def judged(made: dlc.Model, judge: dlc.Model) -> tuple[float, float, float]:
    """The share of images that are surely one digit, the share of the rarest digit, and the spread within a digit."""
    table = np.loadtxt(DIGITS, delimiter=",", skiprows=1)
    pixels = made.sample(ROWS)["pixels"].reshape(ROWS, 64)
    sure, rarest, digits = read(pixels, judge)
    return sure, rarest, spread(pixels, digits) / spread(table[:, :64], table[:, 64].astype(int))


def read(pixels: np.ndarray, judge: dlc.Model) -> tuple[float, float, np.ndarray]:
    """The share of images that the judge is sure of, the share of the rarest digit, and the digit of each."""
    logits = judge.predict({"pixels": pixels})["logits"].astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    digits = logits.argmax(axis=1)
    sure: np.ndarray = np.max(powers, axis=1) >= SURE * np.sum(powers, axis=1)
    return float(np.mean(sure)), float(np.bincount(digits, minlength=10).min() / len(digits)), digits


def spread(images: np.ndarray, digits: np.ndarray) -> float:
    """The mean distance from the mean image of a digit."""
    found = [images[digits == digit] for digit in range(10) if np.any(digits == digit)]
    return float(np.concatenate([np.linalg.norm(part - part.mean(axis=0), axis=1) for part in found]).mean())


if __name__ == "__main__":
    sure, rarest, width = judged(dlc.load(sys.argv[1]), dlc.load(sys.argv[2]))
    print(
        f"{sure:.3f} are surely one digit; the rarest digit has {rarest:.3f}; spread {width:.2f} of that of real ones"
    )
