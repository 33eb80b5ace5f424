"""The fixed binary tree over the shards of a batch: their rows and processes, and the sums of each.

A node is the range of its shards. Its left child has the largest power of two of them that leaves some to the right.
"""

from __future__ import annotations

from collections.abc import Sequence


def first_rows(rows: int, shards: int) -> list[int]:
    """Where each of the shards begins among the rows of a batch, and the end: the first ones are longer by a row."""
    each, rest = divmod(rows, shards)
    return [number * each + min(number, rest) for number in range(shards + 1)]


def children(node: range) -> tuple[range, range]:
    """The two halves of a node of several shards."""
    middle = node.start + (1 << ((len(node) - 1).bit_length() - 1))
    return range(node.start, middle), range(middle, node.stop)


def shards_of(rank: int, processes: int, shards: int) -> range:
    """The shards that a process computes."""
    return range(shards * rank // processes, shards * (rank + 1) // processes)


def rows_of_process(rank: int, processes: int, shards: int, rows: int) -> tuple[int, int]:
    """Where in a batch of so many rows those of a process begin and end."""
    own, starts = shards_of(rank, processes, shards), first_rows(rows, shards)
    return starts[own.start], starts[own.stop]


def nodes_within(shards: range, node: range) -> list[range]:
    """The largest nodes below `node`, in order, that lie within some shards."""
    if shards.start <= node.start and node.stop <= shards.stop:
        return [node] if node else []
    if node.stop <= shards.start or shards.stop <= node.start:
        return []
    left, right = children(node)
    return [*nodes_within(shards, left), *nodes_within(shards, right)]


def nodes_of_processes(shards: int, processes: int) -> list[list[range]]:
    """For each process, the nodes whose sums it can compute alone."""
    return [nodes_within(shards_of(rank, processes, shards), range(shards)) for rank in range(processes)]


def deepest(nodes: Sequence[range]) -> int:
    """How many sums are held at once while those of `nodes` are computed one after the other, and kept."""
    return max(place + 1 + (len(node) - 1).bit_length() for place, node in enumerate(nodes))
