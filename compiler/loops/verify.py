"""Checks the invariants of a kernel; a broken one is a fault of the compiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import assert_never

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.op import Category
from compiler.loops import ir
from compiler.loops.printer import print_kernel
from compiler.support.record import mutable_record, record
from compiler.types import DType, TensorType

# The spaces whose values an instruction of a space may use: those that are fixed while it runs.
VISIBLE = {
    ir.Space.FULL: frozenset(ir.Space),
    ir.Space.ROW: frozenset((ir.Space.ROW, ir.Space.SCALAR)),
    ir.Space.COLUMN: frozenset((ir.Space.COLUMN, ir.Space.SCALAR)),
    ir.Space.SCALAR: frozenset((ir.Space.SCALAR,)),
}


def verify_kernel(kernel: ir.Kernel) -> None:
    """Raise `CompilerBug` unless each value is defined once, before its uses, and fits where it is used."""
    try:
        if isinstance(kernel, ir.StagedKernel):
            _Check(kernel).run()
    except Broken as broken:
        raise CompilerBug("to_loops", f"kernel {kernel.name}: {broken}", _dump(kernel)) from None


def _dump(kernel: ir.Kernel) -> str:
    """The kernel as text; a kernel that is broken badly may have none."""
    try:
        return print_kernel(kernel)
    except (LookupError, AssertionError):
        return repr(kernel)


class Broken(Exception):
    """An invariant that does not hold."""


@record
class _Known:
    """The type and space of a value, and the number of the stage that defines it."""

    dtype: DType
    space: ir.Space
    stage: int


@mutable_record
class _Check:
    kernel: ir.StagedKernel
    values: dict[int, _Known] = field(default_factory=dict[int, _Known])
    stage: int = -1

    def run(self) -> None:
        kernel = self.kernel
        if isinstance(kernel, ir.ContractionKernel):
            self.check_contraction(kernel.contraction)
        self.check_all(kernel.prologue, ir.Space.SCALAR, is_body=False)
        for number, stage in enumerate(kernel.stages):
            self.stage = number
            self.check_all(stage.body, ir.Space.FULL, is_body=True)
            self.check_all(stage.after, self.folded, is_body=False)

    @property
    def folded(self) -> ir.Space:
        """The space of a reduction's result."""
        return ir.Space.ROW if isinstance(self.kernel, ir.RowKernel | ir.FlatKernel) else ir.Space.COLUMN

    def check_contraction(self, contract: ir.TileContract) -> None:
        for number in (contract.lhs, contract.rhs, contract.tile):
            self.buffer(number, contract.dtype)
        if not self.kernel.buffers[contract.tile].is_scratch or any(stage.after for stage in self.kernel.stages):
            raise Broken("a contraction writes a scratch tile, and its stage has nothing after the pass")
        if not contract.k:
            raise Broken("a contraction sums at least one axis")
        if contract.triangle is not None:
            sums = contract.triangle in (ir.Triangle.SUM_TO_ROW, ir.Triangle.SUM_FROM_ROW)
            if len(contract.k) != 1 or contract.m != (contract.k[0].extent if sums else contract.n):
                raise Broken("a triangle has one summed axis, and as many rows as it has columns or summed indices")

    def buffer(self, number: int, dtype: DType) -> None:
        if not 0 <= number < len(self.kernel.buffers):
            raise Broken(f"there is no buffer {number}")
        if self.kernel.buffers[number].dtype is not dtype:
            raise Broken(f"{self.kernel.buffers[number].name} does not hold {dtype.value}")

    def check_all(self, instructions: Sequence[ir.Instruction], home: ir.Space, is_body: bool) -> None:
        """`home` is the space that instructions standing here may have, besides SCALAR in the prologue."""
        for instruction in instructions:
            is_scalar = isinstance(instruction, ir.Literal | ir.BatchCount)
            space = ir.Space.SCALAR if is_scalar else instruction.space
            if isinstance(instruction, ir.Reduce):
                if not is_body:
                    raise Broken("a reduction stands outside a pass")
            elif space is not home:
                raise Broken(f"an instruction of space {space.value} stands among those of {home.value}")
            self.check(instruction)

    def check(self, instruction: ir.Instruction) -> None:
        match instruction:
            case ir.Literal(result=result, dtype=dtype):
                self.define(result, dtype, ir.Space.SCALAR)
            case ir.BatchCount(result=result):
                self.define(result, DType.I64, ir.Space.SCALAR)
            case ir.Load():
                self.check_load(instruction)
            case ir.Position(rows=rows, columns=columns, space=space):
                self.check_terms(rows, columns, space)
                self.define(instruction.result, instruction.dtype, space)
            case ir.Compute():
                self.check_compute(instruction)
            case ir.Random(result=result, space=space):
                self.use(instruction.position, DType.I64, space)
                for key in (instruction.seed, instruction.step):
                    self.use(key, DType.I64, ir.Space.SCALAR)
                self.define(result, DType.F32, space)
            case ir.Reduce(result=result, operand=operand, dtype=dtype, space=space):
                self.use(operand, dtype, ir.Space.FULL)
                if instruction.factor is not None:
                    self.use(instruction.factor, dtype, ir.Space.FULL)
                    if not isinstance(self.kernel, ir.ColumnKernel) or instruction.combine is not ir.Combine.SUM:
                        raise Broken(f"v{result} is no sum over rows, but has a factor")
                if space is not self.folded:
                    raise Broken(f"v{result} folds the wrong way for a kernel over {self.kernel.kind}")
                self.define(result, dtype, space)
            case ir.Store(access=access, value=value, dtype=dtype, space=space):
                self.use(value, dtype, space)
                self.buffer(access.buffer, dtype)
                self.check_access(access, space)
                if space is ir.Space.SCALAR:
                    raise Broken("each call stores an element of no item")
                if instruction.index is not None:
                    self.use(instruction.index, None, ir.Space.SCALAR)
            case _:
                assert_never(instruction)

    def check_load(self, load: ir.Load) -> None:
        self.buffer(load.access.buffer, load.dtype)
        self.check_terms(load.access.rows, load.access.columns, load.space)
        self.check_terms([term for edge in load.edges for term in edge.terms], (), load.space)
        if load.access.offset < 0 and not load.edges:
            raise Broken(f"an address of {self.kernel.buffers[load.access.buffer].name} starts before the buffer")
        if load.index is not None:
            known = self.use(load.index, None, load.space)
            if known.dtype.is_float or known.dtype is DType.BOOL:
                raise Broken(f"v{load.result} is indexed by the {known.dtype.value} v{load.index}")
        self.define(load.result, load.dtype, load.space)

    def check_compute(self, compute: ir.Compute) -> None:
        if compute.op.category is not Category.ELEMENTWISE:
            raise Broken(f"v{compute.result} is computed by {compute.op.name}, which is not elementwise")
        if len(compute.operands) != len(compute.operand_dtypes):
            raise Broken(f"v{compute.result} has operands without a type")
        for operand, dtype in zip(compute.operands, compute.operand_dtypes, strict=True):
            self.use(operand, dtype, compute.space)
        types = compute.op.result_types([TensorType(dtype) for dtype in compute.operand_dtypes])
        if types != (TensorType(compute.dtype),):
            raise Broken(f"v{compute.result} is no {compute.dtype.value} by the rule of {compute.op.name}")
        self.define(compute.result, compute.dtype, compute.space)

    def check_access(self, access: ir.Access, space: ir.Space) -> None:
        self.check_terms(access.rows, access.columns, space)
        if access.offset < 0:
            raise Broken(f"an address of {self.kernel.buffers[access.buffer].name} starts before the buffer")

    def check_terms(self, rows: Sequence[ir.IndexTerm], columns: Sequence[ir.IndexTerm], space: ir.Space) -> None:
        if (columns and space in (ir.Space.ROW, ir.Space.SCALAR)) or (rows and space is ir.Space.SCALAR):
            raise Broken(f"an address of space {space.value} depends on an index that this space has not")
        for term in (*rows, *columns):
            if term.divisor < 1 or (term.modulus is not None and term.modulus < 1):
                raise Broken(f"an address has the term {term}")

    def use(self, value: int, dtype: DType | None, space: ir.Space) -> _Known:
        known = self.values.get(value)
        if known is None:
            raise Broken(f"v{value} is used before its definition")
        if known.space not in VISIBLE[space]:
            raise Broken(f"v{value} of space {known.space.value} is used in space {space.value}")
        if known.space is ir.Space.FULL and known.stage != self.stage and not self.keeps_rows():
            raise Broken(f"v{value} does not outlive its pass over rows this long")
        if dtype is not None and known.dtype is not dtype:
            raise Broken(f"v{value} is taken for {dtype.value}, but it is {known.dtype.value}")
        return known

    def define(self, value: int, dtype: DType, space: ir.Space) -> None:
        if value in self.values:
            raise Broken(f"v{value} is defined a second time")
        self.values[value] = _Known(dtype, space, self.stage)

    def keeps_rows(self) -> bool:
        """Whether the passes over a row are one, written without a loop."""
        columns = self.kernel.columns
        return isinstance(self.kernel, ir.RowKernel) and isinstance(columns, int) and columns <= ir.REGISTER_COLUMNS
