"""Queues: small kernels that one thread does each, and which of them may run beside each other."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from compiler.loops.ir import RowKernel
from compiler.schedule.ir import Instance
from compiler.schedule.order.threads import queues_of

Used = tuple[tuple[int, ...], tuple[int, ...]]  # the buffers that an instance reads, and those that it writes


def instance(reads: tuple[int, ...], writes: tuple[int, ...]) -> Instance:
    kernel = RowKernel("k", (), (), (), 1, 1)
    return Instance(kernel, (*reads, *writes), reads, writes, ())


def queues(
    *used: Used, work: Sequence[int | None] = (), barriers: Sequence[bool] = (), pinned: Collection[int] = ()
) -> list[int]:
    instances = [instance(*each) for each in used]
    return list(queues_of(instances, barriers or [False] * len(used), work or [1] * len(used), pinned))


def test_what_uses_no_result_of_another_has_a_queue_of_its_own_and_the_longest_is_first() -> None:
    assert queues(((0,), (1,)), ((0,), (2,)), ((0,), (3,)), work=[1, 5, 3]) == [2, 0, 1]


def test_what_reads_or_overwrites_what_another_uses_stays_in_its_queue() -> None:
    assert queues(((0,), (1,)), ((1,), (2,)), ((3,), (4,))) == [0, 0, 1], "reads what was written"
    assert queues(((0,), (1,)), ((2,), (0,)), ((3,), (4,))) == [0, 0, 1], "writes what was read"
    assert queues(((0,), (1,)), ((2,), (1,)), ((3,), (4,))) == [0, 0, 1], "writes what was written"


def test_queues_join_where_something_uses_both() -> None:
    assert queues(((0,), (1,)), ((0,), (2,)), ((1, 2), (3,)), ((0,), (4,))) == [0, 0, 0, 1]


def test_behind_a_barrier_queues_begin_anew() -> None:
    assert queues(((0,), (1,)), ((1,), (2,)), ((1,), (3,)), barriers=[False, True, False]) == [0, 0, 1]


def test_what_several_threads_do_has_no_queue_and_what_is_pinned_the_first() -> None:
    assert queues(((0,), (1,)), ((0,), (2,)), ((0,), (3,)), work=[9, None, 1], pinned=(2,)) == [1, 0, 0]
