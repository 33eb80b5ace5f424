"""The work of a kernel instance: floating-point operations, and the bytes that must pass through memory.

Operations are counted as `dlc plan` counts them: two for a multiply-add of a product, of which a triangle has only its
part; one for an element of other arithmetic, whatever its function, and for an element of a sum or a maximum. Bytes are
the least that any code would move: each element that a call reads once, each that it writes once, and nothing for what
stays in a thread's scratch memory. Both are of all calls in a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import assert_never

from compiler.graph.ir import Origin
from compiler.loops import ir as loops
from compiler.loops.footprint import operand_of
from compiler.schedule.ir import Instance, Schedule
from compiler.support.record import record
from compiler.types import Extent, elements, size_at


@record
class Share:
    """A part of an instance's work: of one statement, with where that came from and the operation that it serves."""

    flops: float
    bytes: float
    origins: tuple[Origin, ...]
    op: str


def work_of(instance: Instance, plan: Schedule, batch: int) -> tuple[Share, ...]:
    """The work of an instance in a step of `batch` rows, statement by statement."""
    kernel = instance.kernel
    if isinstance(kernel, loops.StagedKernel):
        return _Work(instance, kernel, plan, batch).shares()
    calls, (flops, moved) = calls_of(instance, plan), _whole(kernel, batch)
    return (Share(calls * flops, calls * moved, instance.origins, kernel.kind),)


def packing_of(instance: Instance, plan: Schedule, batch: int) -> tuple[Share, ...]:
    """The work of copying the right operand of a product to panels, in one call: it is read and written."""
    kernel = instance.kernel
    assert isinstance(kernel, loops.ContractionKernel)
    work = _Work(instance, kernel, plan, batch)
    origins = instance.statements[0] if instance.statements else instance.origins
    return (Share(0, 2 * work.operand(kernel.contraction, is_left=False), origins or instance.origins, PACKING),)


PACKING = "packing"
PRODUCT = "contraction"
_TERMS = (loops.Triangle.SUM_TO_ROW, loops.Triangle.SUM_FROM_ROW)


def calls_of(instance: Instance, plan: Schedule) -> int:
    """How often an instance is called in a step."""
    return math.prod(plan.loops[loop].steps for loop in instance.loops)


def _whole(
    kernel: loops.ScatterKernel | loops.PrefixSumKernel | loops.FetchKernel | loops.CollectKernel | loops.CopyKernel,
    batch: int,
) -> tuple[float, float]:
    """Operations and bytes of a call of a kernel that is not written in statements."""

    def product(*extents: Extent) -> int:
        return size_at(elements(extents), batch)

    sizes = [buffer.dtype.size for buffer in kernel.buffers]
    match kernel:
        case loops.CopyKernel():
            return 0, 2 * product(kernel.elements) * sizes[0]
        case loops.FetchKernel() | loops.CollectKernel():
            return 0, 2 * product(kernel.rows, kernel.columns) * sizes[0]
        case loops.PrefixSumKernel():
            added = product(kernel.outer, kernel.rows, kernel.columns)
            return added, added * sum(sizes)
        case loops.ScatterKernel():
            added = product(kernel.outer, kernel.rows, kernel.columns)
            indices = product(kernel.outer if kernel.has_own_indices else 1, kernel.rows)
            results = product(kernel.outer, kernel.extent, kernel.columns)
            return added, indices * sizes[0] + added * sizes[1] + results * sizes[2]
        case _:
            assert_never(kernel)


class _Work:
    def __init__(self, instance: Instance, kernel: loops.StagedKernel, plan: Schedule, batch: int) -> None:
        self.instance, self.kernel, self.plan, self.batch = instance, kernel, plan, batch
        self.calls = calls_of(instance, plan)

    def size(self, extent: Extent) -> int:
        return size_at(extent, self.batch)

    def shares(self) -> tuple[Share, ...]:
        statements = loops.statements_of(self.kernel)
        bytes_, ops = self.bytes_by_statement(statements), _ops_served(statements)
        origins = self.instance.statements or ((),) * len(statements)
        return tuple(
            self.share(self.flops(s), bytes_.get(number, 0.0), own or self.instance.origins, ops[number])
            for number, (s, own) in enumerate(zip(statements, origins, strict=True))
        )

    def share(self, flops: float, moved: float, origins: tuple[Origin, ...], op: str) -> Share:
        return Share(self.calls * flops, self.calls * moved, origins, op)

    def times(self, space: loops.Space) -> int:
        """How often a statement of this space is executed in a call."""
        kernel = self.kernel
        outer, rows, columns = loops.iteration_space(kernel, self.batch)
        match space:
            case loops.Space.FULL if isinstance(kernel, loops.FlatKernel):
                return self.size(kernel.elements)
            case loops.Space.FULL:
                return outer * rows * columns
            case loops.Space.ROW:
                return outer * rows
            case loops.Space.COLUMN:
                return outer * columns
            case loops.Space.SCALAR:
                return 1
            case _:
                assert_never(space)

    def flops(self, statement: loops.Statement) -> float:
        match statement:
            case loops.TileContract():
                return self.product(statement)
            case loops.Compute(op=op, dtype=dtype, space=space):
                return self.times(space) * (2 if op.name == "fma" else 1) if dtype.is_float else 0
            case loops.Reduce(factor=factor):
                return self.times(loops.Space.FULL) * (1 if factor is None else 2)
            case loops.Load() | loops.Store() | loops.Literal() | loops.Position():
                return 0
            case loops.Random() | loops.BatchCount():
                return 0
            case _:
                assert_never(statement)

    def product(self, contract: loops.TileContract) -> float:
        outer = math.prod(self.size(axis.extent) for axis in contract.outer)
        m, k = self.size(contract.m), math.prod(self.size(axis.extent) for axis in contract.k)
        match contract.triangle:
            case None:
                return 2.0 * outer * m * contract.n * k
            case loops.Triangle.SUM_TO_ROW | loops.Triangle.SUM_FROM_ROW:
                return 2.0 * outer * contract.n * _counting(contract.triangle is loops.Triangle.SUM_TO_ROW, m, k)
            case loops.Triangle.COLUMNS_TO_ROW | loops.Triangle.COLUMNS_FROM_ROW:
                return 2.0 * outer * k * _counting(contract.triangle is loops.Triangle.COLUMNS_TO_ROW, m, contract.n)
            case _:
                assert_never(contract.triangle)

    # bytes

    def bytes_by_statement(self, statements: Sequence[loops.Statement]) -> dict[int, float]:
        """The bytes of each statement by its number: those of a tensor that several read are divided among them."""
        moved: dict[int, float] = {}
        for reads in (True, False):
            by_buffer: dict[int, dict[loops.Access, tuple[float, list[int]]]] = {}
            for number, statement in enumerate(statements):
                if isinstance(statement, loops.Load if reads else loops.Store):
                    access = statement.access
                    if not self.kernel.buffers[access.buffer].is_scratch:
                        known = by_buffer.setdefault(access.buffer, {})
                        known.setdefault(access, (self.touched(statement), []))[1].append(number)
                elif reads and isinstance(statement, loops.TileContract):
                    moved[number] = self.operand(statement, is_left=True) + self.operand(statement, is_left=False)
            for position, accesses in by_buffer.items():
                size = self.kernel.buffers[position].dtype.size
                together = sum(count for count, _ in accesses.values())
                scale = size * min(1.0, self.elements(position) / max(together, 1.0))
                for count, numbers in accesses.values():
                    for number in numbers:
                        moved[number] = moved.get(number, 0.0) + count * scale / len(numbers)
        return moved

    def elements(self, position: int) -> int:
        """Those of the buffer behind an argument."""
        return self.size(self.plan.buffers[self.instance.arguments[position]].elements)

    def touched(self, statement: loops.Load | loops.Store) -> float:
        """How many elements a call reads or writes: the distinct places, as far as strides tell them apart."""
        access = statement.access
        if statement.index is not None:
            found = self.times(statement.space)
        else:
            outer, rows, columns = loops.iteration_space(self.kernel, self.batch)
            rows = outer * rows if statement.space in (loops.Space.FULL, loops.Space.ROW) else outer
            columns = 1 if statement.space is loops.Space.ROW else columns
            found = _distinct(access.rows, rows) * _distinct(access.columns, columns)
        return min(found, self.times(statement.space), self.elements(access.buffer))

    def operand(self, contract: loops.TileContract, is_left: bool) -> float:
        """The bytes of an operand of a product; windows that overlap have no more than the tensor.

        Of the left operand of sums that have only their terms in a triangle, that triangle is read.
        """
        position = contract.lhs if is_left else contract.rhs
        axes = operand_of(contract, is_left).axes
        found = math.prod(self.size(extent) for extent, stride in axes if stride)
        if is_left and contract.triangle in _TERMS:
            m, k = self.size(contract.m), self.size(contract.k[0].extent)
            found = found // (m * k) * _counting(contract.triangle is loops.Triangle.SUM_TO_ROW, m, k)
        return min(found, self.elements(position)) * self.kernel.buffers[position].dtype.size


def _counting(to_row: bool, rows: int, others: int) -> int:
    """How many of `rows` times `others` places lie in a triangle: to the diagonal, or from it on."""
    if to_row:
        return sum(min(row + 1, others) for row in range(rows))
    return sum(max(others - row, 0) for row in range(rows))


def _distinct(terms: Sequence[loops.IndexTerm], extent: int) -> int:
    """How many places terms of an index below `extent` tell apart, at most."""
    found = 1
    for term in terms:
        if term.stride:
            quotients = -(-extent // term.divisor)
            found *= quotients if term.modulus is None else min(term.modulus, quotients)
    return found


def _ops_served(statements: Sequence[loops.Statement]) -> list[str]:
    """For each statement the operation it belongs to: a load that of the value's user, a store that of its maker."""
    makers: Mapping[int, loops.Statement] = {
        s.result: s for s in statements if not isinstance(s, loops.Store | loops.TileContract)
    }
    users: dict[int, str] = {}
    for statement in reversed(statements):
        own = _own_op(statement)
        for value in loops.used_by(statement):
            if own:
                users[value] = own
    return [_own_op(s) or _served(s, makers, users) for s in statements]


def _own_op(statement: loops.Statement) -> str:
    match statement:
        case loops.TileContract():
            return PRODUCT
        case loops.Compute(op=op):
            return op.name
        case loops.Reduce(combine=combine):
            return combine.value
        case loops.Random():
            return "random"
        case loops.Load() | loops.Store() | loops.Literal() | loops.Position() | loops.BatchCount():
            return ""
        case _:
            assert_never(statement)


def _served(statement: loops.Statement, makers: Mapping[int, loops.Statement], users: Mapping[int, str]) -> str:
    if isinstance(statement, loops.Store):
        maker = makers.get(statement.value)
        return (maker is not None and _own_op(maker)) or "copy"
    if isinstance(statement, loops.TileContract):
        return PRODUCT
    return users.get(statement.result, "copy")


def kernel_name(kernel: loops.Kernel) -> str:
    """The name of a kernel without its number."""
    head, _, rest = kernel.name.partition("_")
    return rest if rest and head[:1] == "k" and head[1:].isdigit() else kernel.name
