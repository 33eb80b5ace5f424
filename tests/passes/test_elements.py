"""The elements that kernels touch: all are there and stored once, for every batch, as counting them one by one says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from random_graphs import random_graph

from compiler.errors.diagnostics import CompilerBug
from compiler.loops.footprint import digits, inside
from compiler.loops.ir import (
    Access,
    BufferArgument,
    FlatKernel,
    IndexTerm,
    Kernel,
    Load,
    RowKernel,
    ScatterKernel,
    Space,
    Stage,
    StagedKernel,
    Store,
    instructions_of,
    iteration_space,
)
from compiler.loops.printer import print_kernel
from compiler.loops.verify_elements import Room, verify_elements
from compiler.pipeline import optimise_graph
from compiler.schedule.build import schedule
from compiler.schedule.ir import Instance, Schedule
from compiler.types import BatchExtent, DType, size_at

BATCHES = (1, 2, 3, 4, 7)
Moved = Load | Store


def elements_one_by_one(moved: Moved, kernel: StagedKernel, batch: int) -> np.ndarray:
    """Every element that is touched, as often as it is; of one that an index chooses, the first and the last."""
    outer, rows, columns = iteration_space(kernel, batch)
    if moved.space is Space.COLUMN or moved.space is Space.SCALAR:
        rows = 1
    if moved.space is Space.ROW or moved.space is Space.SCALAR:
        columns = 1
    row, column = np.arange(outer * rows)[:, None], np.arange(columns)[None, :]
    places = moved.access.offset + digits(moved.access.rows, row) + digits(moved.access.columns, column)
    is_there = np.ones(places.shape, np.bool_)
    if isinstance(kernel, FlatKernel) and moved.space is Space.FULL:
        is_there &= row * kernel.columns + column < size_at(kernel.elements, batch)
    if isinstance(moved, Load):
        is_there &= inside(moved.edges, row)
    found = places[is_there]
    if moved.index is None or not moved.index_extent:
        return found
    return np.concatenate([found, found + (moved.index_extent - 1) * moved.index_stride])


def is_wrong(kernel: StagedKernel, changed: Moved, extent: int | BatchExtent) -> bool:
    """Whether for one of the batches an element is none of the buffer's, or stored twice."""
    for batch in BATCHES:
        found = elements_one_by_one(changed, kernel, batch)
        if found.size and not 0 <= found.min() <= found.max() < size_at(extent, batch):
            return True
        if isinstance(changed, Store) and changed.index is None and np.unique(found).size < found.size:
            return True
    return False


def changes(moved: Moved, random: Random) -> Iterator[Moved]:
    """The instruction with an address that is another one."""
    access = moved.access
    for step in (-1, 1, random.choice((2, 5, 16, -7))):
        yield replace(moved, access=replace(access, offset=access.offset + step))
    for side in ("rows", "columns"):
        terms: tuple[IndexTerm, ...] = getattr(access, side)
        for number, term in enumerate(terms):
            others = [replace(term, stride=term.stride * 2), replace(term, stride=-term.stride)]
            others += [replace(term, stride=term.stride + 1), replace(term, stride=term.stride - 1)]
            others += [replace(term, modulus=None if term.modulus else 3), replace(term, divisor=term.divisor * 2)]
            for other in others:
                yield replace(moved, access=replace(access, **{side: (*terms[:number], other, *terms[number + 1 :])}))
    if isinstance(moved, Load) and moved.edges:
        yield replace(moved, edges=moved.edges[1:])
    if moved.index_extent:
        yield replace(moved, index_extent=moved.index_extent + 1)


def with_one(kernel: StagedKernel, changed: Moved, number: int) -> StagedKernel:
    """The kernel with instruction `number` of its stages changed."""
    count, stages = 0, []
    for stage in kernel.stages:
        parts = []
        for part in (stage.body, stage.after):
            parts.append(tuple(changed if count + k == number else i for k, i in enumerate(part)))
            count += len(part)
        stages.append(Stage(*parts))
    return replace(kernel, stages=tuple(stages))


def rooms_of(instance: Instance, plan: Schedule) -> list[Room | None]:
    return [Room(plan.buffers[n].elements, False) if n >= 0 else None for n in instance.arguments]


def is_refused(kernel: Kernel, rooms: Sequence[Room | None]) -> bool:
    try:
        verify_elements(kernel, rooms)
    except CompilerBug:
        return True
    return False


@pytest.mark.parametrize("seed", range(12))
def test_changed_addresses_are_refused_where_they_are_wrong(seed: int) -> None:
    random, wrong = Random(seed), 0
    plan = schedule(optimise_graph(random_graph(seed, 30)[0]), batch=64)
    for instance in plan.instances:
        kernel = instance.kernel
        if not isinstance(kernel, StagedKernel) or instance.loops:
            continue
        in_stages = instructions_of(replace(kernel, prologue=()))
        for number, moved in enumerate(in_stages):
            if not isinstance(moved, Moved) or kernel.buffers[moved.access.buffer].is_scratch:
                continue
            if moved.index is not None and not moved.index_extent:
                continue
            extent = plan.buffers[instance.arguments[moved.access.buffer]].elements
            for changed in changes(moved, random):
                other = with_one(kernel, changed, number)
                if is_wrong(kernel, changed, extent):
                    assert is_refused(other, rooms_of(instance, plan)), (print_kernel(other), changed)
                    wrong += 1
    assert wrong > 50


def row_kernel(*body: Load | Store, scratch: int = 0) -> RowKernel:
    """A kernel over rows of 8 columns with buffers x, y and scratch."""
    buffers = (
        BufferArgument("x", DType.F32),
        BufferArgument("y", DType.F32),
        BufferArgument("s", DType.F32, True, scratch),
    )
    return RowKernel("k", buffers, (), tuple(Stage((i,)) for i in body), BatchExtent(), 8)


def load(
    buffer: int, result: int, *columns: IndexTerm, stride: int = 8, index: int | None = None, clamp: int = 0
) -> Load:
    rows = () if buffer == 2 else (IndexTerm(1, None, stride),)
    return Load(result, Access(buffer, 0, rows, columns), DType.F32, Space.FULL, index, 1, clamp)


def store(buffer: int, value: int, *columns: IndexTerm) -> Store:
    rows = () if buffer == 2 else (IndexTerm(1, None, 8),)
    return Store(Access(buffer, 0, rows, columns), value, DType.F32, Space.FULL)


EACH, TURNED = IndexTerm(1, None, 1), IndexTerm(1, None, -1)
FAULTS = {
    "line 6: element 9*batch - 2 of x lies behind its 8*batch": row_kernel(load(0, 1, EACH, stride=9)),
    "line 6: element -7 of x lies before it": row_kernel(load(0, 1, TURNED)),
    "line 8: elements of y are stored more than once": row_kernel(load(0, 1, EACH), store(1, 1, IndexTerm(2, None, 1))),
    "line 11: element 4 of scratch was not stored": row_kernel(
        load(0, 1, EACH), store(2, 1, IndexTerm(1, 4, 1)), load(2, 2, EACH), scratch=8
    ),
    "line 9: scratch of 4 elements is left": row_kernel(load(0, 1, EACH), store(2, 1, EACH), scratch=4),
    "v1 is data that chooses an element of x without a clamp": row_kernel(load(1, 1, EACH), load(0, 2, index=1)),
    "line 8: element 8*batch + 2 of x lies behind": row_kernel(load(1, 1, EACH), load(0, 2, EACH, index=1, clamp=4)),
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_are_named(message: str) -> None:
    rooms = (Room(BatchExtent(8), True), Room(BatchExtent(8), True), None)
    with pytest.raises(CompilerBug) as caught:
        verify_elements(FAULTS[message], rooms)
    assert message in str(caught.value)


@pytest.mark.parametrize("columns", [7, 9])
def test_kernels_without_instructions_fit_their_arguments(columns: int) -> None:
    names = (BufferArgument("index", DType.I32), BufferArgument("update", DType.F32), BufferArgument("sums", DType.F32))
    kernel = ScatterKernel("k", names, 1, BatchExtent(), columns, 5, False)
    rooms = [Room(BatchExtent(), True), Room(BatchExtent(8), True), Room(5 * 8, False)]
    assert is_refused(kernel, rooms) is (columns > 8)
