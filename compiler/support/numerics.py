"""What decides bits: the version of the numerics, and the numbers by which sums are ordered (docs/numerics.md).

A program, its settings, its data and its seed decide its bits, whatever the machine: so none of these is tuned.
"""

from __future__ import annotations

NUMERICS = 2
"""Raised by each change after which some program may give other bits; docs/numerics.md lists what changed with each.

Runs keep it, so that what promises the same bits knows whether it can. 0 stands for what kept none.
"""
LANES = 16
"""Elements of every vector, whatever their type and the machine: LLVM splits it where registers are shorter.

As many sums run side by side along a row, so this decides their order.
"""
LONG_SUM_COLUMNS = 256  # of a row, from which the vectors of its sum go into several chains
CHAINS = 4  # of such a sum, and of a sum over the rows of a column: they hide each other's latency
