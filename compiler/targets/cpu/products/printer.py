"""The loops of a product as text: before, between and after its passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never

from compiler.loops.ir import TileContract
from compiler.support.numerics import LANES
from compiler.targets.cpu.products.ir import (
    LEFT,
    Ask,
    AskForResults,
    Axis,
    Clear,
    CopyColumns,
    Copying,
    CopyRows,
    CopyStrips,
    Entry,
    Filling,
    FindSums,
    Finish,
    Join,
    KeepSums,
    Kind,
    Let,
    LetShare,
    LetSteps,
    Loop,
    Multiply,
    PackPanel,
    ProductLoops,
    Put,
    Statement,
    TurnSums,
    UsePanels,
    When,
)

_KINDS = {
    Kind.EVENLY: "evenly",
    Kind.OF_SPLIT: "within the split",
    Kind.AT_MOST: "at most",
    Kind.BUT_FIRST: "but the first",
}
_COPYING = {Copying.WHEN_NEW: "packing it, where the panel is new", Copying.STRIP: "copying the strip"}
_SCALAR = {Axis.TILE: "row", Axis.PANEL: "column"}  # before there are tiles


def print_product(product: ProductLoops) -> str:
    """One statement a line."""
    lines = [_head(product), *(f"  {line}" for line in _lines(product, product.body))]
    return "\n".join(lines) + "\n"


def _head(product: ProductLoops) -> str:
    contract, cut = product.contract, product.tiling
    parts = [_formula(contract)]
    if cut is not None:
        lines = f" in {cut.shape.lines} lines" if cut.shape.lines > 1 else ""
        parts.append(f"tiles {cut.shape.rows} x {cut.shape.width}{lines}")
    if product.along_rows is not None:
        parts.append(f"vectors along the rows, {product.along_rows.rows} columns at once")
    parts += [f"scratch {' '.join(str(size) for _, size in product.scratch)} bytes"] if product.scratch else []
    parts += ["panels last"] if product.lasts else []
    return f"product {'; '.join(parts)}"


def _formula(contract: TileContract) -> str:
    summed = " ".join(str(axis.extent) for axis in contract.k)
    outer = "".join(f" of {axis.extent}" for axis in contract.outer)
    triangle = f", {contract.triangle.value}" if contract.triangle is not None else ""
    splits = f" in {contract.splits} splits" if contract.splits > 1 else ""
    return f"{contract.dtype.value} {contract.m} x {contract.n}{outer}, sums of {summed}{splits}{triangle}"


def _lines(product: ProductLoops, body: Sequence[Statement]) -> Iterator[str]:
    for statement in body:
        match statement:
            case Loop() | Join() | When():
                yield f"{_opening(product, statement)}:"
                yield from (f"  {line}" for line in _lines(product, statement.body))
            case Multiply():
                yield _product(statement)
                yield from (f"  ask for {_asked(ask)}" for ask in statement.asks)
            case _:
                yield _line(statement)


def _opening(product: ProductLoops, statement: Loop | Join | When) -> str:
    match statement:
        case Loop(axis=axis, kind=kind, step=step):
            name = axis.value if product.tiling is not None else _SCALAR.get(axis, axis.value)
            words = ["items" if kind is Kind.ITEMS else "for", name]
            words += [f"by {step}"] if step > 1 else []
            words += [_KINDS[kind]] if kind in _KINDS else []
            return " ".join(words)
        case Join():
            return "the thread's items together"
        case When(is_last=is_last):
            return "in the last block of the sum" if is_last else "in the other blocks of the sum"


def _line(statement: Statement) -> str:
    match statement:
        case Entry():
            return statement.value
        case Let():
            return f"let {statement.value}"
        case KeepSums(pitch=pitch):
            return f"sums have a place in scratch{f', {pitch} tiles from panel to panel' if pitch else ''}"
        case FindSums():
            return "let where the sums of the tile are kept"
        case LetShare(stretches=stretches):
            return f"let the tile's share of the next block, of {stretches} stretches a row"
        case LetSteps():
            return _steps(statement)
        case UsePanels(place=place):
            return f"panels: {place.value}"
        case Clear() | PackPanel() | CopyRows() | CopyStrips() | CopyColumns() | TurnSums():
            return _filling(statement)
        case AskForResults():
            return "ask for what the stage reads and writes"
        case Put():
            return "keep sums"
        case Finish(in_registers=in_registers):
            return f"finish {'sums' if in_registers else 'kept sums, row by row'}"
        case Loop() | Join() | When() | Multiply():
            raise AssertionError(statement)
        case _:
            assert_never(statement)


def _filling(statement: Filling) -> str:
    match statement:
        case Clear(elements=elements):
            return f"sums of the {'block' if elements is None else 'item'} = 0"
        case CopyColumns(pitch=pitch, width=width, is_unrolled=is_unrolled):
            loop = ", one panel behind the other" if is_unrolled else ""
            return f"copy the columns of the block, panels of {width} {pitch} apart{loop}"
        case TurnSums():
            return "turn the sums of the strip to rows"
        case CopyStrips(to=to, strips=strips, together=together):
            side = "left" if to == LEFT else "right"
            return f"copy {side} operand in strips of {strips.width}, {strips.most} at most, {together} together"
        case PackPanel():
            return "pack the panel, where it is another one than that of the item before"
        case CopyRows(pitch=pitch):
            return f"copy the tile's rows, {pitch} apart, at a thread's first panel"


def _steps(steps: LetSteps) -> str:
    given = (("broadcast", steps.broadcast), ("vectors", steps.vectors), ("copied", steps.copied))
    apart = "".join(f", {number} {what}" for what, number in given if number)
    return f"let axes of the sum, joined where one step serves, for left {steps.left.value}{apart}"


def _product(multiply: Multiply) -> str:
    words = [f"sums = {multiply.sums.value} + left {multiply.left.value} * right {multiply.right.value}"]
    words += [f"by {multiply.lanes} lanes"] if multiply.lanes != LANES else []
    words += ["lines asked for before their use"] if multiply.streams else []
    words += [_COPYING[multiply.copying]] if multiply.copying is not Copying.NEVER else []
    return ", ".join(words)


def _asked(ask: Ask) -> str:
    words = [ask.what.value]
    words += [f"{ask.lines} lines a step"] if ask.lines else []
    words += [f"{ask.number} rows"] if ask.number else []
    words += [f"over {ask.depth} of the sum"] if ask.depth else []
    return " ".join(words)
