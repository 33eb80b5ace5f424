"""A kernel as pseudo-code for people, one statement a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import assert_never

from compiler.graph.printer import attributes_of, print_attribute
from compiler.loops import ir
from compiler.support.record import mutable_record
from compiler.types import Extent

FRAME = 1  # the line of what belongs to no statement: arguments, loops, addresses of items

INFIX = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%", "and": "and", "or": "or"},
    **{"eq": "==", "ne": "!=", "lt": "<", "le": "<="},
}


def print_kernel(kernel: ir.Kernel) -> str:
    """The kernel as nested loops. Values are v0, v1, ...; a constant stands where it is used."""
    return _Printer(kernel).text()


def statement_lines(kernel: ir.Kernel) -> dict[int, int]:
    """The line of the printed kernel, from 1, where each statement stands: instructions and the contraction, by `id`.

    Literals and the size of the batch are no statements. The numbers are the same for kernels that share their code.
    """
    printer = _Printer(kernel)
    printer.text()
    return printer.statements


def print_terms(terms: Sequence[ir.IndexTerm], index: str) -> list[str]:
    """The summands of an address that come from one index: `row*70`, `(column // 4 % 3)*10`."""
    found: list[str] = []
    for term in terms:
        digit = index if term.divisor == 1 else f"{index} // {term.divisor}"
        digit = digit if term.modulus is None else f"{digit} % {term.modulus}"
        if term.stride != 1:
            digit = f"({digit})*{term.stride}" if " " in digit else f"{digit}*{term.stride}"
        found.append(digit)
    return found


def _sum(parts: Sequence[str]) -> str:
    """The sum of parts, without those that are 0."""
    kept = [part for part in parts if part != "0"]
    return " + ".join(kept).replace("+ -", "- ") or "0"


def _multiply_add(contract: ir.TileContract) -> str:
    rounding = "bf16" if contract.in_bf16 else contract.rounding and contract.rounding.value
    return f"fma_{rounding}" if rounding else "fma"


def _times(name: str, factor: int) -> str:
    return "0" if factor == 0 else name if factor == 1 else f"{name}*{factor}"


@mutable_record
class _Printer:
    kernel: ir.Kernel
    lines: list[str] = field(default_factory=list[str])
    constants: dict[int, str] = field(default_factory=dict[int, str])
    statements: dict[int, int] = field(default_factory=dict[int, int])
    depth: int = 1

    def text(self) -> str:
        kernel = self.kernel
        self.lines.append(f"kernel {kernel.name}:")
        for buffer in kernel.buffers:
            scratch = f" scratch of {buffer.elements}" if buffer.is_scratch and buffer.elements else ""
            if not buffer.is_scratch or buffer.elements:
                self.line(f"{buffer.name}: {buffer.dtype.value}{scratch}")
        if isinstance(kernel, ir.StagedKernel):
            self.instructions(kernel.prologue)
        match kernel:
            case ir.RowKernel():
                self.rows(kernel)
            case ir.FlatKernel():
                self.elements(kernel)
            case ir.ColumnKernel():
                self.columns(kernel)
            case ir.ContractionKernel():
                self.tiles(kernel)
            case ir.ScatterKernel():
                self.scatter(kernel)
            case ir.PrefixSumKernel():
                self.prefix_sum(kernel)
            case ir.FetchKernel() | ir.CollectKernel() | ir.CopyKernel():
                self.transfer(kernel)
            case _:
                assert_never(kernel)
        return "\n".join(self.lines) + "\n"

    # lines

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    def statement(self, what: ir.Statement, text: str) -> None:
        self.line(text)
        self.statements[id(what)] = len(self.lines)

    def loop(self, index: str, extent: Extent | str, remark: str = "") -> None:
        """Open a loop; the lines behind it stand inside."""
        bounds = extent if isinstance(extent, str) else f"0..{extent}"
        self.line(f"for {index} in {bounds}:" + (f"  # {remark}" if remark else ""))
        self.depth += 1

    def blocks(self, outer: Extent, columns: Extent) -> str:
        """One line for the loops over outer blocks and columns; gives the outer index, 0 where there is one block.

        A line of their own for outer blocks would number statements otherwise than in code for any number of them.
        """
        extents = f"column in 0..{columns}" if outer == 1 else f"outer in 0..{outer}, column in 0..{columns}"
        self.line(f"for {extents}:  # items: blocks of columns")
        self.depth += 1
        return "0" if outer == 1 else "outer"

    # kernels

    def rows(self, kernel: ir.RowKernel) -> None:
        self.loop("row", kernel.rows, "items")
        self.stages(kernel.stages, "column", kernel.columns)

    def elements(self, kernel: ir.FlatKernel) -> None:
        self.loop("row", f"0..ceil({kernel.elements} / {kernel.columns})", "items")
        columns = f"0..min({kernel.columns}, {kernel.elements} - row*{kernel.columns})"
        self.stages(kernel.stages, "column", columns)

    def columns(self, kernel: ir.ColumnKernel) -> None:
        outer = self.blocks(kernel.outer, kernel.columns)
        rows = kernel.rows if outer == "0" else f"outer*{kernel.rows}..(outer + 1)*{kernel.rows}"
        self.stages(kernel.stages, "row", rows, outer)

    def stages(self, stages: Sequence[ir.Stage], index: str, extent: Extent | str, after: str = "row") -> None:
        """A loop over `index` for each stage; lines behind it count its rows by `after`."""
        depth = self.depth
        for stage in stages:
            if stage.body:
                self.loop(index, extent)
                self.instructions(stage.body)
                self.depth = depth
            self.instructions(stage.after, after)

    def tiles(self, kernel: ir.ContractionKernel) -> None:
        contract = kernel.contraction
        axes = range(len(contract.outer))
        names = ["outer"] if len(axes) == 1 else [f"outer{number}" for number in axes]
        if contract.splits > 1:
            self.loop("split", contract.splits)
        for name, axis in zip(names, contract.outer, strict=True):
            self.loop(name, axis.extent)
        steps = [_times(n, a.row_step) for n, a in zip(names, contract.outer, strict=True)]
        if contract.splits > 1:
            steps.insert(0, _times("split", contract.split_step))
        row = _sum([*steps, _times("m", contract.row_m_step)])
        m = "row" if row == "m" else "m"
        self.loop(m, contract.m, "items: tiles of rows and columns")
        if row != "m":
            self.line(f"row = {row}")
        self.loop("column", contract.n)
        self.product(contract, names, m)
        self.instructions([i for stage in kernel.stages for i in stage.body])

    def product(self, contract: ir.TileContract, names: Sequence[str], m: str) -> None:
        left, right = [str(contract.lhs_offset)], [str(contract.rhs_offset)]
        for name, axis in zip(names, contract.outer, strict=True):
            left.append(_times(name, axis.lhs_stride))
            right.append(_times(name, axis.rhs_stride))
        left.append(_times(m, contract.lhs_m_stride))
        self.line("tile = 0")
        depth = self.depth
        if contract.triangle in (ir.Triangle.COLUMNS_TO_ROW, ir.Triangle.COLUMNS_FROM_ROW):
            self.line(f"if {contract.triangle.value}:")
            self.depth += 1
        for number, axis in enumerate(contract.k):
            name = "k" if len(contract.k) == 1 else f"k{number}"
            shared = contract.splits > 1 and number == 0
            bounds = f"{axis.extent}*split/{contract.splits}.." if shared else f"0..{axis.extent}"
            if contract.triangle is ir.Triangle.SUM_TO_ROW:
                bounds = f"0..{m} + 1"
            elif contract.triangle is ir.Triangle.SUM_FROM_ROW:
                bounds = f"{m}..{axis.extent}"
            self.loop(name, bounds)
            left.append(_times(name, axis.lhs_stride))
            right.append(_times(name, axis.rhs_stride))
        right.append(_times("column", contract.rhs_n_stride))
        operands = f"{self.name(contract.lhs)}[{_sum(left)}], {self.name(contract.rhs)}[{_sum(right)}]"
        self.statement(contract, f"tile = {_multiply_add(contract)}({operands}, tile)")
        self.depth = depth

    def scatter(self, kernel: ir.ScatterKernel) -> None:
        extent, width = kernel.extent, kernel.columns
        outer = self.blocks(kernel.outer, kernel.columns)
        depth = self.depth
        start = "" if outer == "0" else f"outer*{extent}*{width} + "
        self.loop("place", extent)
        self.line(f"{self.name(2)}[{start}place*{width} + column] = 0")
        self.depth = depth
        self.loop("row", kernel.rows)
        source = f"row*{width} + column" if outer == "0" else f"(outer*{kernel.rows} + row)*{width} + column"
        index = f"outer*{kernel.rows} + row" if kernel.has_own_indices else "row"
        target = f"{start}clamp({self.name(0)}[{index}], {extent})*{width} + column"
        self.line(f"{self.name(2)}[{target}] += {self.name(1)}[{source}]")

    def prefix_sum(self, kernel: ir.PrefixSumKernel) -> None:
        outer = self.blocks(kernel.outer, kernel.columns)
        self.line("total = 0")
        self.loop("row", kernel.rows, "from the last to the first" if kernel.reverse else "")
        row = "row" if outer == "0" else f"(outer*{kernel.rows} + row)"
        place = f"{row}*{kernel.columns} + column"
        self.line(f"total += {self.name(0)}[{place}]")
        self.line(f"{self.name(1)}[{place}] = total")

    def transfer(self, kernel: ir.FetchKernel | ir.CollectKernel | ir.CopyKernel) -> None:
        if isinstance(kernel, ir.CopyKernel):
            self.line(f"{self.name(0)}[0..{kernel.elements}] = {self.name(1)}[0..{kernel.elements}]")
            return
        self.loop("row", kernel.rows, "items")
        row = f"{self.name(0)}[row*{kernel.columns}..(row + 1)*{kernel.columns}]"
        caller = "the caller's row"
        self.line(f"{row} = {caller}" if isinstance(kernel, ir.FetchKernel) else f"{caller} = {row}")

    # instructions

    def instructions(self, instructions: Sequence[ir.Instruction], outer: str = "row") -> None:
        for instruction in instructions:
            self.instruction(instruction, outer)

    def instruction(self, instruction: ir.Instruction, row: str = "row") -> None:
        match instruction:
            case ir.Literal(result=result, value=value):
                self.constants[result] = print_attribute(value)
            case ir.BatchCount(result=result):
                self.constants[result] = "batch"
            case ir.Load(result=result):
                self.statement(instruction, f"v{result} = {self.loaded(instruction, row)}")
            case ir.Position(result=result, offset=offset, rows=rows, columns=columns):
                parts = [str(offset), *print_terms(rows, row), *print_terms(columns, "column")]
                self.statement(instruction, f"v{result} = {_sum(parts)}")
            case ir.Compute(result=result):
                self.statement(instruction, f"v{result} = {self.computed(instruction)}")
            case ir.Random(result=result, position=position, seed=seed, step=step, stream=stream):
                keys = f"seed {self.value(seed)}, step {self.value(step)}, stream {stream}"
                self.statement(instruction, f"v{result} = uniform({keys}, element {self.value(position)})")
            case ir.Reduce():
                self.statement(instruction, self.reduced(instruction))
            case ir.Store(access=access, value=value, check=check):
                remark = "" if check is None else f"  # NaN and Inf are reported: {check}"
                place = self.element(access, row, self.shift(instruction))
                self.statement(instruction, f"{place} = {self.value(value)}{remark}")
            case _:
                assert_never(instruction)

    def loaded(self, load: ir.Load, row: str) -> str:
        contract = ir.contraction_of(self.kernel)
        if contract is not None and load.access.buffer == contract.tile:
            return "tile"
        element = self.element(load.access, row, self.shift(load))
        bounds = [f"0 <= {_sum([*print_terms(e.terms, row), str(e.offset)])} < {e.extent}" for e in load.edges]
        return f"{element} if {' and '.join(bounds)} else 0" if bounds else element

    def shift(self, moved: ir.Load | ir.Store) -> str:
        """The contribution of an index to an address."""
        if moved.index is None:
            return "0"
        index = self.value(moved.index)
        if moved.index_extent:
            index = f"clamp({index}, {moved.index_extent})"
        return _times(index, moved.index_stride)

    def element(self, access: ir.Access, row: str, index: str = "0") -> str:
        rows = [] if row == "0" else print_terms(access.rows, row)
        parts = [index, *rows, *print_terms(access.columns, "column")]
        offset = str(access.offset)
        return f"{self.name(access.buffer)}[{_sum([*parts, offset])}]"

    def computed(self, compute: ir.Compute) -> str:
        operands = [self.value(o) for o in compute.operands]
        name = compute.op.name
        if name in INFIX:
            return f"{operands[0]} {INFIX[name]} {operands[1]}"
        if name == "neg":
            return f"-{operands[0]}"
        if name == "cast":
            return f"{compute.dtype.value}({operands[0]})"
        fields = [f"{key}={print_attribute(value)}" for key, value in attributes_of(compute.op)]
        return f"{name}({', '.join((*operands, *fields))})"

    def reduced(self, reduce: ir.Reduce) -> str:
        """A fold over the loop around it."""
        value = self.value(reduce.operand)
        if reduce.factor is not None:
            return f"v{reduce.result} = fma({value}, {self.value(reduce.factor)}, v{reduce.result})"
        if reduce.combine is ir.Combine.SUM:
            return f"v{reduce.result} += {value}"
        return f"v{reduce.result} = {reduce.combine.value}(v{reduce.result}, {value})"

    def value(self, number: int) -> str:
        return self.constants.get(number, f"v{number}")

    def name(self, buffer: int) -> str:
        return self.kernel.buffers[buffer].name
