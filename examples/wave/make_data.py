"""Writes `points.npz` and `exact.npz`: measurements of a string, where the equation is asked to hold, and its solution.

Run it from this folder: `python make_data.py`. The string is held at x = 0 and x = 1 and plucked into two waves. Each
measurement has an error of 0.01, one standard deviation.
"""

from __future__ import annotations

import numpy as np

SPEED, ERROR = 1.5, 0.01
INSIDE, MEASURED = 4000, 500


def solution(t: np.ndarray, x: np.ndarray) -> np.ndarray:
    """u at times t and places x, [n], of u_tt = SPEED^2 u_xx; at rest at t = 0."""
    first = np.sin(np.pi * x) * np.cos(SPEED * np.pi * t)
    return first + 0.5 * np.sin(2 * np.pi * x) * np.cos(2 * SPEED * np.pi * t)


def points(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Points where u is unknown, and points where it was measured."""
    place = random.random((INSIDE + MEASURED, 2))
    known = np.arange(len(place)) >= INSIDE
    measured = solution(*place.T) + ERROR * random.standard_normal(len(place))
    return {"place": place, "value": np.where(known, measured, 0), "known": known}


def grid() -> dict[str, np.ndarray]:
    """The solution at 41 times and 41 places."""
    axis = np.linspace(0, 1, 41)
    t, x = (found.ravel() for found in np.meshgrid(axis, axis, indexing="ij"))
    return {"place": np.stack([t, x], 1), "value": solution(t, x), "known": np.ones(len(t), bool)}


def main() -> None:
    for name, arrays in (("points", points(np.random.default_rng(0))), ("exact", grid())):
        np.savez_compressed(
            f"{name}.npz", **{key: a if a.dtype == bool else a.astype("f4") for key, a in arrays.items()}
        )


if __name__ == "__main__":
    main()
