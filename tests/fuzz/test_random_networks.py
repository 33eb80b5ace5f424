"""Random whole networks keep their bits and their meaning however they are run; `tests/stress` tries many more."""

from __future__ import annotations

import pytest
from network_checks import Network
from random_networks import random_network

SEEDS = (0, 1, 2, 5, 7, 13)  # views, a signal, images, a series, a table, tokens


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network(seed: int) -> None:
    assert list(Network(random_network(seed), seed).faults(quick=True)) == []
