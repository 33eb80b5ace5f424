"""The loops of a product as text, before, between and after its passes; `reader` reads it back without loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

from compiler.loops.ir import TileContract
from compiler.support.numerics import LANES
from compiler.targets.cpu.packing import Packing
from compiler.targets.cpu.products import ir

SCALAR = {ir.Axis.TILE: "row", ir.Axis.PANEL: "column"}  # before there are tiles
KINDS = {
    ir.Kind.ITEMS: "",
    ir.Kind.PLAIN: "",
    ir.Kind.FROM_ZERO: " from 0",
    ir.Kind.EVENLY: " evenly",
    ir.Kind.OF_SPLIT: " within the split",
    ir.Kind.AT_MOST: " at most",
    ir.Kind.BUT_FIRST: " but the first",
}
COPYING = {
    ir.Copying.NEVER: "",
    ir.Copying.WHEN_NEW: ", packing it where the panel is new",
    ir.Copying.STRIP: ", copying the strip",
}
# stretches of scratch, beside the sums
STRETCHES = {ir.ZEROS: "zeros", ir.LEFT: "left", ir.RIGHT: "right", ir.TRANSPOSED: "transposed"}
SUMS = "sums"
WORDS: Mapping[ir.Statement, str] = {
    **{entry: entry.value for entry in ir.Entry},
    **{what: f"let {what.value}" for what in ir.Let},
    ir.KeepSums(None): "sums have a place in scratch, as many from panel to panel as the block has tiles",
    ir.KeepSums(0): "sums have a place in scratch, the same for all tiles",
    ir.Clear(None): "sums of the block = 0",
    ir.AskForResults(): "ask for what the stage reads and writes",
    ir.Put(): "keep sums",
    ir.Finish(in_registers=True): "finish sums",
    ir.Finish(): "finish kept sums, row by row",
    ir.Finish(is_unrolled=True): "finish kept sums, row by row, all columns at once",
}
NUMBERED: Mapping[type[ir.Statement], str] = {  # statements that have a number, and are not among the words
    ir.KeepSums: "sums have a place in scratch, {} tiles from panel to panel",
    ir.FindSums: "let where the sums of the tile are kept, {} tiles from panel to panel",
    ir.LetShare: "let the tile's share of the next block, of {} stretches a row",
    ir.Clear: "sums of the item = 0, {} elements",
    ir.CopyRows: "copy the tile's rows, {} apart, at a thread's first panel",
}
JOINED, IN_LAST, IN_OTHERS = (
    "the thread's items together",
    "in the last block of the sum",
    "in the other blocks of the sum",
)


def print_product(product: ir.ProductLoops) -> str:
    """One statement a line, behind the facts about the product."""
    lines = [*_head(product), *_lines(product, product.body)]
    return "\n".join([f"product {_formula(product.contract)}", *(f"  {line}" for line in lines)]) + "\n"


def _formula(contract: TileContract) -> str:
    summed = " ".join(str(axis.extent) for axis in contract.k)
    outer = "".join(f" of {axis.extent}" for axis in contract.outer)
    triangle = f", {contract.triangle.value}" if contract.triangle is not None else ""
    splits = f" in {contract.splits} splits" if contract.splits > 1 else ""
    rounding = "" if contract.rounding is None else f", factors in {contract.rounding.value}"
    return f"{contract.dtype.value} {contract.m} x {contract.n}{outer}, sums of {summed}{splits}{triangle}{rounding}"


def _head(product: ir.ProductLoops) -> Iterator[str]:
    """The operands with their buffers and the strides of all axes, and what is decided about the whole product."""
    of, stage, cut = product.contract, product.epilogue, product.tiling
    left = [of.lhs_m_stride, *(axis.lhs_stride for axis in (*of.k, *of.outer))]
    right = [of.rhs_n_stride, *(axis.rhs_stride for axis in (*of.k, *of.outer))]
    result = [of.row_m_step, of.split_step, *(axis.row_step for axis in of.outer)]
    yield f"left %{of.lhs} at {of.lhs_offset}, strides {_numbers(left)}"
    yield f"right %{of.rhs} at {of.rhs_offset}, strides {_numbers(right)}{', lasts' if product.lasts else ''}"
    yield f"result %{of.tile}, rows {_numbers(result)}"
    effects = f"{', overwrites' if stage.overwrites else ''}{', repeats' if stage.repeats else ''}"
    yield f"stage of {stage.statements} statements{effects}"
    if cut is not None:
        lines = f" in {cut.shape.lines} lines" if cut.shape.lines > 1 else ""
        order = f"{f', blocks of {cut.block}' if cut.block else ''}{', panels outside' if cut.panels_outside else ''}"
        yield f"tiles {cut.shape.rows} x {cut.shape.width}{lines}{order}"
    if product.along_rows is not None:
        yield f"vectors along the rows, {product.along_rows.rows} columns by {product.along_rows.width} rows"
    if product.scratch:
        sizes = [f"{STRETCHES.get(place, SUMS)} {size}" for place, size in product.scratch]
        yield f"scratch of {', '.join(sizes)} bytes"


def _numbers(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _lines(product: ir.ProductLoops, body: Sequence[ir.Statement]) -> Iterator[str]:
    for statement in body:
        match statement:
            case ir.Loop() | ir.Join() | ir.When():
                yield f"{_opening(product, statement)}:"
                yield from (f"  {line}" for line in _lines(product, statement.body))
            case ir.Multiply():
                yield _product(statement)
                yield from (f"  ask for {_asked(ask)}" for ask in statement.asks)
            case _:
                yield WORDS[statement] if statement in WORDS else _line(statement)


def _opening(product: ir.ProductLoops, statement: ir.Compound) -> str:
    match statement:
        case ir.Loop(axis=axis, kind=kind, step=step, block=block):
            name = axis.value if product.tiling is not None else SCALAR.get(axis, axis.value)
            by = f" by {step}" if step > 1 else ""
            second = "" if block is None or block.second is None else f" and {block.second} of the second"
            blocks = "" if block is None else f", {block.first} of the first axis{second}"
            return f"{'items' if kind is ir.Kind.ITEMS else 'for'} {name}{by}{KINDS[kind]}{blocks}"
        case ir.Join():
            return JOINED
        case ir.When(is_last=is_last):
            return IN_LAST if is_last else IN_OTHERS


def _line(statement: ir.Statement) -> str:
    match statement:
        case ir.KeepSums(number) | ir.FindSums(number) | ir.LetShare(number) | ir.Clear(number) | ir.CopyRows(number):
            return NUMBERED[type(statement)].format(number)
        case ir.LetSteps(left=left, broadcast=broadcast, vectors=vectors, copied=copied):
            apart = f"{broadcast} broadcast, {vectors} in vectors, {copied} copied"
            return f"let steps of the sum for left {left.value}: {apart}"
        case ir.CopyColumns(pitch=pitch, width=width, align=align, is_unrolled=is_unrolled):
            loop = ", unrolled" if is_unrolled else ""
            return f"copy the columns of the block, panels of {width} {pitch} apart, aligned to {align} bytes{loop}"
        case ir.CopyStrips(to=to, strips=of, together=together):
            strips = f"strips of {of.width} by {of.deep}, {of.most} at most, {together} together"
            return f"copy {STRETCHES[to]} operand in {strips}"
        case ir.Loop() | ir.Join() | ir.When() | ir.Multiply():
            raise AssertionError(statement)
        case ir.PackAllPanels(packing=packing):
            return f"all panels, packed by a function of its own, {_packing(packing)}"
        case ir.PackPanel(packing=packing):
            return f"pack the panel, where it is another one than that of the item before, {_packing(packing)}"
        case ir.TransposeSums(pieces=pieces):
            return f"rows of the strip's sums, {_packing(Packing(0, pieces))}"
        case ir.Entry() | ir.Let() | ir.AskForResults() | ir.Put() | ir.Finish():
            return WORDS[statement]
        case _:
            assert_never(statement)


def _packing(packing: Packing) -> str:
    transposed = f"transposed in pieces of {packing.pieces} bytes" if packing.pieces else "transposed in whole vectors"
    return f"asking {packing.steps_ahead} steps ahead" if packing.steps_ahead else transposed


def _product(multiply: ir.Multiply) -> str:
    lanes = f", by {multiply.lanes} lanes" if multiply.lanes != LANES else ""
    far = ", from far away" if multiply.streams else ""
    steps = f", {multiply.unrolled} steps at once" if multiply.unrolled > 1 else ""
    left = " and left" if multiply.ahead_left else ""
    ahead = f"; {multiply.steps_ahead} steps ahead right up to {multiply.ahead_rows} rows{left}"
    fenced = ", fenced" if multiply.is_fenced else ""
    lines = f"; asks by lines of {multiply.line_bytes} bytes" if multiply.line_bytes else ""
    decided = steps + fenced + (ahead if multiply.steps_ahead else "") + lines
    operands = f"left {multiply.left.value} * right {multiply.right.value}"
    return f"sums = {multiply.sums.value} + {operands}{lanes}{far}{COPYING[multiply.copying]}{decided}"


def _asked(ask: ir.Ask) -> str:
    lines = f" {ask.lines} lines a step" if ask.lines else ""
    number = f" {ask.number} rows" if ask.number else ""
    return f"{ask.what.value}{lines}{number}{f' over {ask.depth} of the sum' if ask.depth else ''}"
