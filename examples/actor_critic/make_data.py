"""A cart on a track that is pushed left, right or not at all, at random: `moves.npz`, from which a policy is learned.

`python make_data.py` writes the recording; `play.py` lets a policy push.
"""

from pathlib import Path

import numpy as np

PUSHES = np.array([-1.0, 0.0, 1.0])
ROWS, STEP = 4000, 0.1


def moved(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The place and the speed, [rows, 2], a tenth of a second later; at an end of the track the cart stops."""
    speed = np.clip(state[:, 1] + STEP * PUSHES[action], -1, 1)
    place = state[:, 0] + STEP * speed
    return np.stack([np.clip(place, -1, 1), np.where(np.abs(place) > 1, 0, speed)], axis=1)


def reward(state: np.ndarray) -> np.ndarray:
    """The best is to stand still in the middle."""
    return -(state[:, 0] ** 2) - 0.1 * state[:, 1] ** 2


def main() -> None:
    random = np.random.default_rng(0)
    state = random.uniform(-1, 1, (ROWS, 2))
    action = random.integers(0, 3, ROWS)
    after = moved(state, action)
    np.savez_compressed(
        Path(__file__).with_name("moves.npz"),
        state=state.astype(np.float32),
        action=action.astype(np.int32),
        after=after.astype(np.float32),
        reward=reward(after).astype(np.float32),
    )


if __name__ == "__main__":
    main()
