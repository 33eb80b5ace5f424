"""The order of the rows of an epoch."""

import numpy as np

from runtime.data.orders import epoch_order, split_order

SEEDS = (0, 1, -5, 2**63, 2**63 + 1, 2**64 - 1)


def test_an_order_is_a_permutation_of_seed_and_epoch_alone() -> None:
    orders = {(seed, epoch): epoch_order(1000, seed, epoch).tolist() for seed in SEEDS for epoch in (0, 1, 7)}
    for (seed, epoch), order in orders.items():
        assert sorted(order) == list(range(1000))
        assert epoch_order(1000, seed, epoch).tolist() == order
    assert len({tuple(order) for order in orders.values()}) == len(orders)
    assert split_order(1000, 0).tolist() not in orders.values()


def test_an_order_stays_what_it_was() -> None:
    """Saved runs depend on it: a changed order would change what a resumed training sees."""
    assert epoch_order(8, 0, 0).tolist() == EXPECTED_FIRST
    assert epoch_order(8, 42, 3).tolist() == EXPECTED_OTHER
    assert epoch_order(0, 0, 0).dtype == np.int64


def test_every_place_is_equally_likely() -> None:
    first = [int(epoch_order(5, 9, epoch)[0]) for epoch in range(2000)]
    counts = np.bincount(first, minlength=5)
    assert counts.min() > 330
    assert counts.max() < 470


EXPECTED_FIRST = [0, 2, 1, 5, 4, 3, 6, 7]
EXPECTED_OTHER = [1, 6, 3, 4, 5, 2, 0, 7]
