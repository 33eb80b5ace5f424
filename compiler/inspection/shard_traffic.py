"""The bytes that a step sends from process to process, by the exchange of `shard_sums`, where each is on a machine of
its own: those of one machine send next to nothing."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from compiler.frontend.program import Program
from compiler.frontend.update_rules import Accumulation
from compiler.interface import Options
from compiler.programs.executables import compilation_of, graphs_of_step, layout_of_update, sums_of_shards
from compiler.programs.kinds import TRAINING, Purpose
from compiler.programs.shard_owners import LINE
from compiler.programs.shard_sums import cuts_of, is_added_by_all, lines_of, rows_of
from compiler.programs.shard_tree import nodes_of_processes
from compiler.support.record import record
from compiler.targets.manifest import lines_of_tensors
from compiler.targets.registry import kernel_target_of
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


@record
class BucketRow:
    """Gradients that are sent together, of so many `bytes`. All are finished with the kernel `after`, which is the one
    of this number in the step of a shard, of so many `kernels`; 0 where the target does not tell before the end."""

    bucket: int
    tensors: tuple[str, ...]
    bytes: int
    after: str
    kernel: int
    kernels: int


def buckets_of_step(program: Program, options: Options, processes: int) -> list[BucketRow]:
    """The buckets in the order in which they are sent, as the kernels of this machine finish them."""
    assert program.plan is not None
    if program.plan.accumulation is None:
        return []
    layout, segments = layout_of_update(program, options, processes), sums_of_shards(program, options).of_segments
    sizes = {spec.name: lines_of(spec) * LINE for specs in segments for spec in specs}
    finished, kernels = _finishing_kernels(program, options) if options.target == "native" else ({}, 0)
    rows: list[BucketRow] = []
    for number, bucket in enumerate(layout.buckets):
        names = [name for path in bucket if (name := Accumulation.gradient(path)) in sizes]
        place, after = max((finished.get(name, (0, "")) for name in names), default=(0, ""))
        rows.append(BucketRow(number, bucket, sum(sizes[name] for name in names), after, place, kernels))
    return rows


def _finishing_kernels(program: Program, options: Options) -> tuple[dict[str, tuple[int, str]], int]:
    """The number and the name of the kernel with which each sum of a shard is finished, and how many there are."""
    found: dict[str, tuple[int, str]] = {}
    target, before = kernel_target_of(options), 0
    for kind in graphs_of_step(program, TRAINING, options):
        if kind.purpose is Purpose.ACCUMULATING:
            made = compilation_of(program, kind, options)
            ready, machine = made.prepared(), target.machine(made.options, runs=False)
            lowered = target.lower(ready, made.scheduled(ready, machine), machine, made.options.batch)
            calls = [k for k, entry in enumerate(lowered.manifest.entries) if entry.first_argument in lowered.firsts]
            calls = [k for k in calls if lowered.manifest.entries[k].function >= 0]
            for name, line in lines_of_tensors(lowered.manifest).items():
                number = bisect_right(calls, line)
                found[name] = before + number, lowered.call_of(calls[number - 1])[1].kernel.name
            before += len(calls)
    return found, before


def traffic_of(program: Program, options: Options, processes: int) -> Traffic:
    """The traffic of a program whose batches are cut into shards, among no more processes than these."""
    assert program.plan is not None
    shards, accumulation = program.plan.shards, program.plan.accumulation
    if accumulation is None:
        return Traffic(shards, processes, 0, 0, 0)
    sums, layout = sums_of_shards(program, options), layout_of_update(program, options, processes)
    owned, rounds = layout.of_gradients, len(layout.rounds)
    groups = [*sums.of_segments, *([] if accumulation.counts_rows else [sums.counts])]
    rows = [(row, own) for specs in groups for row, own in rows_of(specs, owned).items()]
    nodes = [len(of_process) for of_process in nodes_of_processes(shards, processes)]
    sent, messages = [0] * processes, [0] * processes
    for row, specs in rows:
        if is_added_by_all(row, specs):
            for rank in range(processes):
                sent[rank] += LINE * nodes[rank] * sum(map(lines_of, specs)) * (processes - 1)
                messages[rank] += nodes[rank] * (processes - 1)
            continue
        cuts, gives = cuts_of(specs, owned, processes), 1 if row.bucket is None else rounds
        slices = [end - begin for begin, end in pairwise(cuts)]
        for rank, own in enumerate(slices):
            others = sum(1 for other, size in enumerate(slices) if size and other != rank)
            sent[rank] += LINE * (nodes[rank] * (cuts[-1] - own) + own * (processes - 1) * gives)
            messages[rank] += nodes[rank] * others + (processes - 1) * gives * bool(own)
    for level in range(layout.parts - 2):
        for rank in range(processes):
            given = [one for one in layout.given if one.level == level and layout.owner(one.path) == rank]
            sent[rank] += sum(static_elements(one.type.shape) * one.type.dtype.size for one in given) * (processes - 1)
            messages[rank] += (processes - 1) * bool(given)
    summed = sum(lines_of(spec) for _, specs in rows for spec in specs)
    return Traffic(shards, processes, LINE * summed, max(sent), max(messages))
