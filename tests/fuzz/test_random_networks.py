"""Random whole networks keep their bits and their meaning however they are run; `tests/stress` tries many more."""

from __future__ import annotations

import pytest
from network_checks import Network
from random_networks import random_network

SEEDS = (3, 66, 2, 22, 18, 0, 9, 5, 138)
"""Views, a signal with windows over its channels, images, tokens, a table, many channels, long lines, lbfgs, a volume
with constants that can be computed ahead."""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network(seed: int) -> None:
    assert list(Network(random_network(seed), seed).faults(quick=True)) == []
