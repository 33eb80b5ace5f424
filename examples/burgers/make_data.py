"""Writes `points.npz` and `exact.npz`: where the equation is asked to hold, and its solution.

Run it from this folder: `python make_data.py`. The solution is that of Cole and Hopf: u = -2 nu d/dx log phi, where phi
solves the heat equation and is an integral that Gauss and Hermite's rule of 200 nodes computes.
"""

from __future__ import annotations

import numpy as np

NU = 0.01 / np.pi
INSIDE, BEGINNING, EDGES = 8000, 400, 200


def solution(t: np.ndarray, x: np.ndarray) -> np.ndarray:
    """u at times t > 0 and places x, [n]: for u(0, x) = -sin(pi x), the rows of an integral over a normal variable."""
    nodes, weights = np.polynomial.hermite.hermgauss(200)
    y = x[:, None] - np.sqrt(4 * NU * t)[:, None] * nodes
    # Shifted by its maximum, the exponent cannot overflow.
    exponent = -np.cos(np.pi * y) / (2 * np.pi * NU)
    density = weights * np.exp(exponent - exponent.max(1, keepdims=True))
    return -(density * np.sin(np.pi * y)).sum(1) / density.sum(1)


def points(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Points inside, where u is unknown, at time 0 and at both edges, where it is known."""
    inside = np.stack([random.random(INSIDE), random.uniform(-1, 1, INSIDE)], 1)
    beginning = np.stack([np.zeros(BEGINNING), random.uniform(-1, 1, BEGINNING)], 1)
    edges = np.stack([random.random(EDGES), random.choice([-1.0, 1.0], EDGES)], 1)
    place = np.concatenate([inside, beginning, edges])
    u = np.zeros(len(place))
    u[INSIDE : INSIDE + BEGINNING] = -np.sin(np.pi * beginning[:, 1])
    return {"place": place, "value": u, "known": np.arange(len(place)) >= INSIDE}


def grid() -> dict[str, np.ndarray]:
    """The solution at 20 times and 101 places."""
    t, x = (axis.ravel() for axis in np.meshgrid(np.linspace(0.05, 1, 20), np.linspace(-1, 1, 101), indexing="ij"))
    return {"place": np.stack([t, x], 1), "value": solution(t, x), "known": np.ones(len(t), bool)}


def main() -> None:
    for name, arrays in (("points", points(np.random.default_rng(0))), ("exact", grid())):
        np.savez_compressed(
            f"{name}.npz", **{key: a if a.dtype == bool else a.astype("f4") for key, a in arrays.items()}
        )


if __name__ == "__main__":
    main()
