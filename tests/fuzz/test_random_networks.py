"""Random whole networks keep their bits and their meaning however they are run; `tests/stress` tries many more."""

from __future__ import annotations

import pytest
from network_checks import Network
from random_networks import random_network

SEEDS = (5, 32, 2, 1, 18, 0, 9, 10)  # views, a signal, images, tokens, a table, many channels, long lines, lbfgs


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network(seed: int) -> None:
    assert list(Network(random_network(seed), seed).faults(quick=True)) == []
