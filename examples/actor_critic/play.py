"""The mean reward of a policy in 200 games of 60 moves: `python play.py RUN`, beside one that pushes at random."""

import sys
from collections.abc import Callable

import numpy as np
from make_data import moved, reward

import dlc


def mean_reward(choose: Callable[[np.ndarray], np.ndarray]) -> float:
    """`choose` gives the actions for states, [rows, 2]."""
    random = np.random.default_rng(1)
    state, total = random.uniform(-1, 1, (200, 2)), 0.0
    for _ in range(60):
        state = moved(state, choose(state))
        total += reward(state).mean()
    return total / 60


def likeliest(model: dlc.Model, state: np.ndarray) -> np.ndarray:
    """The action that the actor would take most often."""
    return model.predict({"state": state, "after": state})["odds"].argmax(axis=1)


if __name__ == "__main__":
    learned, random = dlc.load(sys.argv[1]), np.random.default_rng(2)
    print(f"{mean_reward(lambda state: likeliest(learned, state)):.3f} learned")
    print(f"{mean_reward(lambda state: random.integers(0, 3, len(state))):.3f} at random")
    print(
        f"{mean_reward(lambda s: np.sign(-s[:, 0] - 1.5 * s[:, 1]).astype(int) + 1):.3f} by a rule that knows the cart"
    )
