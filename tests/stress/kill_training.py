"""Kills trainings with SIGKILL at random moments and checks that each ends with the bits of one that never was.

    python tests/stress/kill_training.py [--kills 200] [--seed N] [--epochs N]

After every kill the newest checkpoint must be whole and no older than before; every training is resumed until it ends,
and then its weights, optimizer states, metrics and position are compared.
`tests/runtime/train/test_killed_training.py` does the same with 20 kills.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from killing import Killer  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--epochs", type=int, default=200)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder:
        killer = Killer(Path(folder), random.Random(arguments.seed), arguments.epochs)
        killer.kill(arguments.kills, print)
    print(
        f"{killer.kills} kills, {killer.kills_in_training} of them after a first checkpoint; "
        f"{killer.finished} trainings finished, all with the same bits"
    )


if __name__ == "__main__":
    main()
