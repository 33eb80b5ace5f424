"""The meaning of a kernel in NumPy: flat buffers in, the same buffers written. Tests compare stages by it.

The whole domain is computed at once, as arrays of [outer, row, column]. Sums need not have the rounding of native code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

import numpy as np

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.op import Array
from compiler.loops.footprint import digits, inside
from compiler.loops.ir import (
    Access,
    BatchCount,
    CollectKernel,
    ColumnKernel,
    Combine,
    Compute,
    ContractionKernel,
    CopyKernel,
    FetchKernel,
    FlatKernel,
    Instruction,
    Kernel,
    Literal,
    Load,
    Position,
    PrefixSumKernel,
    Random,
    Reduce,
    RowKernel,
    ScatterKernel,
    Space,
    StagedKernel,
    Store,
    TileContract,
    Triangle,
    contraction_of,
    iteration_space,
)
from compiler.types import Extent, numpy_dtype, size_at

# The draws for a seed, a step, a stream and an array of element numbers.
Uniform: TypeAlias = Callable[[int, int, int, Array], Array]

COMBINES: dict[Combine, np.ufunc] = {Combine.SUM: np.add, Combine.MAX: np.maximum, Combine.MIN: np.minimum}


def run_kernel(kernel: Kernel, buffers: Sequence[Array], batch: int, uniform: Uniform) -> None:
    """Run all items of `kernel`. `buffers` are flat, one for each argument; those of scratch arguments are not read."""
    if len(buffers) != len(kernel.buffers):
        raise CompilerBug("run_kernel", f"{kernel.name} has {len(kernel.buffers)} buffers and was given {len(buffers)}")
    match kernel:
        case RowKernel() | FlatKernel() | ColumnKernel() | ContractionKernel():
            _Run(kernel, list(buffers), batch, uniform).nest()
        case ScatterKernel():
            _scatter(kernel, buffers, batch)
        case PrefixSumKernel():
            _prefix_sum(kernel, buffers, batch)
        case CopyKernel():
            size = size_at(kernel.elements, batch)
            buffers[0][:size] = buffers[1][:size]
        case FetchKernel() | CollectKernel():
            raise CompilerBug("run_kernel", "a transfer has no meaning without the caller's memory")
        case _:
            assert_never(kernel)


def _counts(triangle: Triangle, rows: Array, others: Array) -> Array:
    """Which elements of a row count."""
    upwards = triangle in (Triangle.SUM_FROM_ROW, Triangle.COLUMNS_FROM_ROW)
    return others >= rows[:, None] if upwards else others <= rows[:, None]


def _places(start: int, axes: Sequence[tuple[int, int]]) -> Array:
    """The addresses that axes of (size, stride) reach from `start`, the last axis fastest."""
    places = np.array([start])
    for size, stride in axes:
        places = np.add.outer(places, np.arange(size) * stride).reshape(-1)
    return places


@dataclass(slots=True)
class _Run:
    kernel: StagedKernel
    buffers: list[Array]
    batch: int
    uniform: Uniform
    values: dict[int, Array] = field(default_factory=dict[int, Array])

    def size(self, extent: Extent) -> int:
        return size_at(extent, self.batch)

    @property
    def shape(self) -> tuple[int, int, int]:
        """[outer, row, column]"""
        return iteration_space(self.kernel, self.batch)

    # loops

    def nest(self) -> None:
        outer, rows, _ = self.shape
        contraction = contraction_of(self.kernel)
        if contraction is not None:
            self.buffers[contraction.tile] = self.product(contraction)
        for position, buffer in enumerate(self.kernel.buffers):
            if buffer.is_scratch and not (contraction is not None and contraction.tile == position):
                self.buffers[position] = np.zeros(outer * rows * buffer.elements, numpy_dtype(buffer.dtype))
        self.run_all(self.kernel.prologue)
        for stage in self.kernel.stages:
            self.run_all(stage.body)
            self.run_all(stage.after)

    def indices(self, space: Space) -> tuple[Array, Array]:
        """The row and the column that an instruction of this space counts with."""
        outer, rows, columns = self.shape
        row, column = np.arange(outer * rows).reshape(outer, rows, 1), np.arange(columns).reshape(1, 1, columns)
        nothing = np.zeros((1, 1, 1), np.int64)
        match space:
            case Space.FULL:
                return row, column
            case Space.ROW:
                return row, nothing
            case Space.COLUMN:
                return np.arange(outer).reshape(outer, 1, 1), column
            case Space.SCALAR:
                return nothing, nothing
            case _:
                assert_never(space)

    def inside(self, row: Array, column: Array) -> Array:
        """False where a short last row has ended."""
        if isinstance(self.kernel, FlatKernel):
            return row * self.kernel.columns + column < self.size(self.kernel.elements)
        return np.ones(np.broadcast_shapes(row.shape, column.shape), np.bool_)

    def address(self, access: Access, space: Space) -> Array:
        row, column = self.indices(space)
        place = access.offset + digits(access.rows, row) + digits(access.columns, column)
        buffer = self.kernel.buffers[access.buffer]
        if buffer.is_scratch:  # each row has its own
            place = place + row * buffer.elements
        return place

    # instructions

    def run_all(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            self.run(instruction)

    def run(self, instruction: Instruction) -> None:
        match instruction:
            case Literal(result=result, value=value, dtype=dtype):
                with np.errstate(over="ignore"):
                    self.values[result] = np.full((1, 1, 1), value).astype(numpy_dtype(dtype))
            case BatchCount(result=result):
                self.values[result] = np.full((1, 1, 1), self.batch, np.int64)
            case Load(result=result):
                self.values[result] = self.loaded(instruction)
            case Position(result=result, offset=offset, rows=rows, columns=columns, dtype=dtype, space=space):
                row, column = self.indices(space)
                place = offset + digits(rows, row) + digits(columns, column)
                self.values[result] = place.astype(numpy_dtype(dtype))
            case Compute(result=result, op=op, operands=operands, dtype=dtype):
                with np.errstate(all="ignore"):
                    (value,) = op.evaluate([self.values[o] for o in operands], self.batch)
                self.values[result] = value.astype(numpy_dtype(dtype))
            case Random(result=result, stream=stream):
                seed, step = (int(self.values[v].item()) for v in (instruction.seed, instruction.step))
                self.values[result] = self.uniform(seed, step, stream, self.values[instruction.position])
            case Reduce(result=result):
                self.values[result] = self.reduced(instruction)
            case Store():
                self.store(instruction)
            case _:
                assert_never(instruction)

    def loaded(self, load: Load) -> Array:
        contraction = contraction_of(self.kernel)
        if contraction is not None and load.access.buffer == contraction.tile:
            return self.buffers[contraction.tile].reshape(self.shape)
        place = self.shifted(load)
        row, column = self.indices(load.space)
        source = self.buffers[load.access.buffer]
        if not load.edges:
            return source[np.where(self.inside(row, column), place, 0)]
        valid = inside(load.edges, row) & self.inside(row, column)
        return np.where(valid, source[np.where(valid, place, 0)], source.dtype.type(0))

    def shifted(self, moved: Load | Store) -> Array:
        """The addresses, with what the index adds."""
        place = self.address(moved.access, moved.space)
        if moved.index is None:
            return place
        index = self.values[moved.index].astype(np.int64)
        if moved.index_extent:
            index = np.clip(index, 0, moved.index_extent - 1)
        return place + index * moved.index_stride

    def reduced(self, reduce: Reduce) -> Array:
        value = np.broadcast_to(self.values[reduce.operand], self.shape)
        if reduce.factor is not None:
            value = value * self.values[reduce.factor]
        combine, axis = COMBINES[reduce.combine], 2 if reduce.space is Space.ROW else 1
        with np.errstate(all="ignore"):
            return combine.reduce(value, axis=axis, dtype=numpy_dtype(reduce.dtype), keepdims=True)

    def store(self, store: Store) -> None:
        place = self.shifted(store)
        valid = self.inside(*self.indices(store.space))
        shape = np.broadcast_shapes(place.shape, valid.shape)
        place, valid = np.broadcast_to(place, shape), np.broadcast_to(valid, shape)
        self.buffers[store.access.buffer][place[valid]] = np.broadcast_to(self.values[store.value], shape)[valid]

    def product(self, contraction: TileContract) -> Array:
        """All elements of the product, row by row of the iteration space: what the tile stands for."""
        outer = [(self.size(a.extent), a.lhs_stride, a.rhs_stride, a.row_step) for a in contraction.outer]
        (whole, *steps), *rest = [(self.size(a.extent), a.lhs_stride, a.rhs_stride) for a in contraction.k]
        m, n = np.arange(self.size(contraction.m)), np.arange(contraction.n)
        left = _places(contraction.lhs_offset, [(size, step) for size, step, _, _ in outer])
        right = _places(contraction.rhs_offset, [(size, step) for size, _, step, _ in outer])
        first = _places(0, [(size, step) for size, _, _, step in outer])
        left = left[:, None, None] + (m * contraction.lhs_m_stride)[None, :, None]
        right = right[:, None, None] + (n * contraction.rhs_n_stride)[None, None, :]
        tile = np.zeros(self.shape[1:], numpy_dtype(contraction.dtype))
        for split in range(contraction.splits):
            begin, end = (whole * p // contraction.splits for p in (split, split + 1))
            summed = [(end - begin, *steps), *rest]
            lhs_places = _places(begin * steps[0], [(size, step) for size, step, _ in summed])
            rhs_places = _places(begin * steps[1], [(size, step) for size, _, step in summed])
            lhs = self.buffers[contraction.lhs][left + lhs_places[None, None, :]]
            rhs = self.buffers[contraction.rhs][right + rhs_places[None, :, None]]
            with np.errstate(all="ignore"):
                if contraction.triangle in (Triangle.SUM_TO_ROW, Triangle.SUM_FROM_ROW):
                    lhs = np.where(_counts(contraction.triangle, m, m), lhs, 0)
                product = np.matmul(lhs.astype(np.float64), rhs.astype(np.float64)).astype(
                    numpy_dtype(contraction.dtype)
                )
                if contraction.triangle in (Triangle.COLUMNS_TO_ROW, Triangle.COLUMNS_FROM_ROW):
                    product = np.where(_counts(contraction.triangle, m, n), product, 0)
            rows = first[:, None] + m * contraction.row_m_step + split * contraction.split_step
            tile[rows] = product
        return tile.reshape(-1)


def _scatter(kernel: ScatterKernel, buffers: Sequence[Array], batch: int) -> None:
    indices, updates, result = buffers
    outer, rows, columns = (size_at(extent, batch) for extent in (kernel.outer, kernel.rows, kernel.columns))
    lists = outer if kernel.has_own_indices else 1
    places = np.clip(indices[: lists * rows].astype(np.int64), 0, kernel.extent - 1).reshape(lists, rows)
    update = updates[: outer * rows * columns].reshape(outer, rows, columns)
    sums = np.zeros((outer, kernel.extent, columns), result.dtype)
    with np.errstate(all="ignore"):
        for row in range(rows):
            sums[np.arange(outer), places[:, row]] += update[:, row]
    result[: sums.size] = sums.reshape(-1)


def _prefix_sum(kernel: PrefixSumKernel, buffers: Sequence[Array], batch: int) -> None:
    source, result = buffers
    outer, rows, columns = (size_at(extent, batch) for extent in (kernel.outer, kernel.rows, kernel.columns))
    value = source[: outer * rows * columns].reshape(outer, rows, columns)
    with np.errstate(all="ignore"):
        sums = np.cumsum(value[:, ::-1], 1)[:, ::-1] if kernel.reverse else np.cumsum(value, 1)
    result[: sums.size] = sums.reshape(-1)
