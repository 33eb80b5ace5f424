"""`python judge.py RUN JUDGE`: digits that a run of `wgan` makes for the labels of the data, read by a run of `digits`.

Prints the share that is read as the label it was made for, and the spread of images within a label as a share of
that of real ones: a generator that draws one picture for each label has 0.
"""

import sys
from pathlib import Path

import numpy as np

import dlc

DIGITS = Path(__file__).parents[1] / "digits" / "digits.csv.gz"


def judged(made: dlc.Model, judge: dlc.Model) -> tuple[float, float]:
    """The share of right answers and the spread of one image for each row of the data."""
    table = np.loadtxt(DIGITS, delimiter=",", skiprows=1)
    image, label = table[:, :64], table[:, 64].astype(np.int32)
    pixels = made.predict({"image": image, "label": label})["pixels"]
    answers = judge.predict({"pixels": pixels})["logits"].argmax(axis=1)
    return float(np.mean(answers == label)), float(spread(pixels, label) / spread(image, label))


def spread(images: np.ndarray, label: np.ndarray) -> np.floating:
    """The mean distance from the mean image of a label."""
    means = np.stack([images[label == digit].mean(axis=0) for digit in range(10)])
    return np.sqrt(np.sum((images - means[label]) ** 2, axis=1)).mean()


if __name__ == "__main__":
    right, width = judged(dlc.load(sys.argv[1]), dlc.load(sys.argv[2]))
    print(f"{right:.3f} are read as their label; spread {width:.2f} of that of real digits")
