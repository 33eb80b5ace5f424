"""What a step sends from process to process, by the exchange of `shard_sums`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from compiler.frontend.program import Program
from compiler.interface import Options
from compiler.programs.executables import sums_of_shards
from compiler.programs.shard_sums import LINE, lines_of
from compiler.programs.shard_tree import nodes_of_processes
from compiler.support.record import record
from compiler.targets.manifest import TensorSpec
from compiler.types import DType


@record
class Traffic:
    """Of a step with rows in all `shards`. The process that sends the most sends `sent_bytes` in so many `messages`.

    `summed_bytes` are the sums of a shard, its gradients above all. Metrics and states of the training are not counted.
    """

    shards: int
    processes: int
    summed_bytes: int
    sent_bytes: int
    messages: int


def traffic_of(program: Program, options: Options, processes: int) -> Traffic:
    """The traffic of a program whose batches are cut into shards, among no more processes than these."""
    assert program.plan is not None
    accumulation = program.plan.accumulation
    rows: list[int] = []
    if accumulation is not None:
        sums = sums_of_shards(program, options)
        rows = [lines for specs in sums.of_segments for lines in _lines(specs)]
        rows += [] if accumulation.counts_rows else _lines(sums.counts)
    shards = program.plan.shards
    nodes = [len(of_process) for of_process in nodes_of_processes(shards, processes)]
    sent = [sum(_lines_sent(rank, nodes[rank], processes, lines) for lines in rows) for rank in range(processes)]
    messages = len(rows) * (processes - 1) * (max(nodes) + 1)
    return Traffic(shards, processes, LINE * sum(rows), LINE * max(sent), messages)


def _lines_sent(rank: int, nodes: int, processes: int, lines: int) -> int:
    """Of a row: the slices of others, for each node, and the own sums, to each other process."""
    own = len(lines_of(rank, processes, lines))
    return nodes * (lines - own) + own * (processes - 1)


def _lines(specs: Sequence[TensorSpec]) -> list[int]:
    """How many lines each row has."""
    found: Mapping[DType, int] = {}
    for spec in specs:
        size = max(1, math.prod(spec.shape)) * spec.dtype.size
        found = {**found, spec.dtype: found.get(spec.dtype, 0) + -(-size // LINE)}
    return list(found.values())
