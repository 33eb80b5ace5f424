"""The bytes that a step sends from process to process, by the exchange of `shard_sums`."""

from __future__ import annotations

from compiler.frontend.program import Program
from compiler.interface import Options
from compiler.programs.executables import layout_of_update, sums_of_shards
from compiler.programs.shard_owners import LINE
from compiler.programs.shard_sums import cuts_of, lines_of, rows_of
from compiler.programs.shard_tree import nodes_of_processes
from compiler.support.record import record
from compiler.types import static_elements


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
    shards, accumulation = program.plan.shards, program.plan.accumulation
    if accumulation is None:
        return Traffic(shards, processes, 0, 0, 0)
    sums, layout = sums_of_shards(program, options), layout_of_update(program, options, processes)
    stretches, rounds = layout.of_gradients, len(layout.rounds)
    groups = [*sums.of_segments, *([] if accumulation.counts_rows else [sums.counts])]
    rows = [(row, own) for specs in groups for row, own in rows_of(specs, stretches).items()]
    nodes = [len(of_process) for of_process in nodes_of_processes(shards, processes)]
    sent, messages = [0] * processes, [0] * processes
    for row, specs in rows:
        cuts, gives = cuts_of(specs, stretches, processes), rounds if row.belongs else 1
        for rank in range(processes):
            own = cuts[rank + 1] - cuts[rank]
            sent[rank] += LINE * (nodes[rank] * (cuts[-1] - own) + own * (processes - 1) * gives)
            messages[rank] += (processes - 1) * (nodes[rank] + gives)
    for level in range(layout.parts - 2):
        for rank in range(processes):
            given = [one for one in layout.given if one.level == level and layout.owner(one.path) == rank]
            sent[rank] += sum(static_elements(one.type.shape) * one.type.dtype.size for one in given) * (processes - 1)
            messages[rank] += (processes - 1) * bool(given)
    summed = sum(lines_of(spec) for _, specs in rows for spec in specs)
    return Traffic(shards, processes, LINE * summed, max(sent), max(messages))
