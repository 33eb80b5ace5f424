"""Random whole networks keep their bits and their meaning however they are run; `tests/stress` tries many more."""

from __future__ import annotations

import pytest
from network_checks import USES, Network
from random_networks import random_network

SEEDS = (77, 66, 2, 188, 178, 1246, 24, 94, 233, 39, 1194)
"""Views, a signal with windows over its channels, images, columns of several element types, tokens in f64, a table with
constants that can be computed ahead, many channels, long lines, lbfgs, a volume, further outputs with targets."""
_VARIANTS = ("without fusions", "lowered", *USES)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network(seed: int) -> None:
    assert list(Network(random_network(seed), seed).faults(_VARIANTS)) == []
