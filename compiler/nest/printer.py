"""A nest as text, one statement a line: the loops and vectors that run.

Indices are i1, addresses p1, other values v1, with their type; an address `&p1[i2] f32` lies i2 elements behind p1.
`@3` says that from there on statements do the work of line 3 of the printed kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import assert_never

from compiler.graph.printer import attributes_of, print_attribute
from compiler.nest import arguments, ir
from compiler.nest.ir import ADDRESS, GIVEN, INDEX, Constant, Nest, Operand, Statement, Value, Zeros
from compiler.support.record import mutable_record, record

INFIX: dict[ir.Arithmetic, str] = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "//", "rem": "%", "and": "&", "or": "|", "xor": "^"},
    "shift": ">>",
}
RELATIONS: dict[ir.Relation, str] = {
    **{"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="},
    **{"below": "below", "unordered": "unordered"},
}
_ARGUMENTS: dict[type[arguments.Argument], str] = {
    **{arguments.BufferPointer: "buffer", arguments.SharedPointer: "shared panels", arguments.FlagPointer: "flag"},
    **{
        arguments.ExtentNumber: "extent",
        arguments.RowsNumber: "rows",
        arguments.ColumnsNumber: "columns",
        arguments.ElementsNumber: "total",
    },
    arguments.ItemsNumber: "items",
    **{arguments.PlaceNumber: "place", arguments.FactorNumber: "factor", arguments.ShiftNumber: "shift"},
    **{arguments.LiteralNumber: "literal", arguments.StreamNumber: "stream"},
}
NAMES_OF_GIVEN = {value.number: name for value, name in zip(GIVEN, ("begin", "end", "scratch"), strict=True)}


@record
class NestLine:
    """A line of a printed nest, and the line of the printed kernel whose work it does: 0 where it is nobody's."""

    text: str
    statement: int


def print_nest(nest: Nest, buffers: Sequence[str] = ()) -> str:
    """The nest as text, which `reader` reads. With the names of `buffers`, comments say which one an address is of."""
    above = "" if nest.before is None else print_nest(nest.before, buffers) + "then, behind a barrier,\n"
    rows: list[str] = []
    before = 0
    for line in nest_lines(nest, buffers):
        rows.append(f"{line.text}  @{line.statement}" if line.statement != before else line.text)
        before = line.statement
    return above + "\n".join(rows) + "\n"


def nest_lines(nest: Nest, buffers: Sequence[str] = ()) -> list[NestLine]:
    """The lines of the text, without the marks that say whose work they do, nor the nest before."""
    printer = _Printer(nest, buffers)
    printer.line(_head(nest), 0)
    printer.depth = 1
    printer.statements(nest.body)
    return printer.lines


def _head(nest: Nest) -> str:
    items = nest.items
    parts = [f"items {items.extent} by {items.chunk} times {items.factor}"]
    parts.append(f"scratch {nest.scratch_bytes} and {nest.scratch_batch_bytes}*batch bytes")
    if nest.before is not None:
        parts.append(f"shared {nest.shared_bytes} bytes{', which last' if nest.lasts else ''}")
    parts.append(f"lines {' '.join(map(str, sorted(nest.lines)))}")
    return f"nest: {'; '.join(parts)}"


def name_of(value: Value) -> str:
    """`i3` of an index, `p3` of an address, `v3` of anything else."""
    if value.number in NAMES_OF_GIVEN:
        return NAMES_OF_GIVEN[value.number]
    return f"{'i' if value.type is INDEX else 'p' if value.type is ADDRESS else 'v'}{value.number}"


def print_operand(operand: Operand) -> str:
    match operand:
        case Value():
            return name_of(operand)
        case int():
            return str(operand)
        case Zeros():
            return f"{operand.type.name}(zeros)"
        case Constant():
            return f"{operand.type.name}({_number(operand)})"


def _number(constant: Constant) -> str:
    if constant.value is None:
        return "any"
    if isinstance(constant.value, tuple):
        return ", ".join(map(print_attribute, constant.value))
    return print_attribute(constant.value)


def print_argument(argument: arguments.Argument) -> str:
    match argument:
        case (
            arguments.SharedPointer()
            | arguments.RowsNumber()
            | arguments.ColumnsNumber()
            | arguments.ElementsNumber()
            | arguments.ItemsNumber()
        ):
            return _ARGUMENTS[type(argument)]
        case arguments.ExtentNumber(extent=number) | arguments.LiteralNumber(result=number):
            return f"{_ARGUMENTS[type(argument)]} {number}"
        case _:
            return f"{_ARGUMENTS[type(argument)]} {argument.position}"


@mutable_record
class _Printer:
    nest: Nest
    buffers: Sequence[str]
    depth: int = 0
    lines: list[NestLine] = field(default_factory=list[NestLine])

    def line(self, text: str, statement: int) -> None:
        self.lines.append(NestLine("  " * self.depth + text, statement))

    def statements(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            match statement:
                case ir.Loop():
                    self.loop(statement)
                case ir.Guard():
                    rarely = "rarely " if statement.is_rare else ""
                    self.line(f"if {rarely}{print_operand(statement.condition)}:", statement.line)
                    self.inside(statement.body)
                case _:
                    self.line(self.instruction(statement), statement.line)

    def inside(self, body: Sequence[Statement]) -> None:
        self.depth += 1
        self.statements(body)
        self.depth -= 1

    def loop(self, loop: ir.Loop) -> None:
        kind = "item " if loop.over_items else ""
        words = [f"for {kind}{name_of(loop.index)} in {print_operand(loop.start)}..{print_operand(loop.stop)}"]
        words += [f"step {loop.step}"] if loop.step != 1 else []
        words += [f"rounds {loop.rounds}"] if loop.rounds is not None else []
        if loop.carried:
            pairs = zip(loop.carried, loop.initial, strict=True)
            words.append(f"with {', '.join(f'{_defined(c)} = {print_operand(i)}' for c, i in pairs)}")
        self.line(" ".join(words) + ":", loop.line)
        self.inside(loop.body)
        if loop.carried:
            self.depth += 1
            self.line(f"next {', '.join(map(print_operand, loop.following))}", loop.line)
            self.depth -= 1

    def instruction(self, statement: ir.Instruction) -> str:
        if isinstance(statement, ir.Effect):
            return _effect(statement)
        if isinstance(statement, ir.DrawKey):
            seed, step = print_operand(statement.seed), print_operand(statement.step)
            stream = print_argument(self.nest.arguments[statement.slot])
            return f"{_defined(statement.first)}, {_defined(statement.second)} = key({seed}, {step}) of {stream}"
        if isinstance(statement, ir.MultiplyMatrices):
            left, right, sums = (
                " ".join(map(print_operand, o)) for o in (statement.left, statement.right, statement.sums)
            )
            results = ", ".join(map(_defined, statement.results))
            return f"{results} = matrices [{left}] @ [{right}] in {statement.rounding.value} + [{sums}]"
        return f"{_defined(statement.result)} = {self.value(statement)}"

    def value(self, statement: ir.Definition) -> str:
        match statement:
            case ir.Given(slot=slot):
                argument = self.nest.arguments[slot]
                if isinstance(argument, arguments.BufferPointer) and argument.position < len(self.buffers):
                    return f"{print_argument(argument)}  # {self.buffers[argument.position]}"
                return print_argument(argument)
            case ir.Scratch():
                return f"scratch {statement.bytes} bytes from {statement.start}"
            case ir.Address():
                place = f"{print_operand(statement.base)}[{print_operand(statement.index)}]"
                return f"&{place} {statement.dtype.value}"
            case ir.Load():
                return f"load {print_operand(statement.address)}, align {statement.align}"
            case ir.Gather():
                place = f"{print_operand(statement.address)}[{print_operand(statement.places)}]"
                return f"gather {place}, mask {print_operand(statement.mask)}"
            case ir.Shared():
                return f"shared {statement.bytes} bytes from {statement.start}"
            case ir.Ordinal(of=of):
                return of
            case ir.Exchange(value=value, lane=lane):
                return f"{print_operand(value)} of lane {print_operand(lane)}"
            case _:
                return _computed(statement)


def _defined(value: Value) -> str:
    is_told = value.type is INDEX or value.type is ADDRESS
    return name_of(value) if is_told else f"{name_of(value)}: {value.type.name}"


def _picks(picks: Sequence[int]) -> str:
    """Lanes one by one, or `0..7` where they are neighbours."""
    is_run = len(picks) > 2 and list(picks) == list(range(picks[0], picks[0] + len(picks)))
    return f"{picks[0]}..{picks[-1]}" if is_run else " ".join(map(str, picks))


def _effect(statement: ir.Effect) -> str:
    match statement:
        case ir.Store():
            parts = [f"store {print_operand(statement.value)} to {print_operand(statement.address)}"]
            parts.append(f"align {statement.align}")
            parts += [] if statement.mask is None else [f"mask {print_operand(statement.mask)}"]
            parts += ["past the caches"] if statement.streams else []
            return ", ".join(parts)
        case ir.Scatter():
            place = f"{print_operand(statement.address)}[{print_operand(statement.places)}]"
            return f"scatter {print_operand(statement.value)} to {place}, mask {print_operand(statement.mask)}"
        case ir.Prefetch():
            how = "write" if statement.writes else "read"
            return f"prefetch {print_operand(statement.address)} to {how}, locality {statement.locality}"
        case ir.LoadFence():
            return "no load moves across"
        case ir.StoreFence():
            return "finish all stores"
        case ir.OpenTiles():
            return f"open tiles, described at {print_operand(statement.address)}"
        case ir.MultiplyTiles():
            sums, left, right = map(print_operand, (statement.sums, statement.left, statement.right))
            blocks = f"{print_operand(statement.blocks)} blocks, pitch {statement.pitch}"
            return f"tiles {statement.rows} x {statement.columns} at {sums} += {left} @ {right}, {blocks}"
        case ir.CloseTiles():
            return "close tiles"
        case ir.CopyAhead():
            source = f"{print_operand(statement.source)}[{print_operand(statement.sources)}]"
            target = f"{print_operand(statement.target)}[{print_operand(statement.targets)}]"
            kept = f"{print_operand(statement.kept)} bytes kept"
            return f"copy ahead {source} to {target} {statement.dtype.value}, {kept}"
        case ir.CommitCopies():
            return "these copies are a group"
        case ir.AwaitCopies(remaining=remaining):
            return f"await all copies but {remaining} groups"
        case ir.Meet():
            return "lanes meet"
        case ir.Barrier():
            return "all threads meet"


def _computed(statement: ir.Computation) -> str:
    match statement:
        case ir.Fma():
            left, right, addend = map(print_operand, (statement.left, statement.right, statement.addend))
            return f"{left} * {right} + {addend}"
        case ir.PairFma():
            left, right, addend = map(print_operand, (statement.left, statement.right, statement.addend))
            return f"{left} * {right} in pairs + {addend}"
        case ir.RoundFactor(value=operand, rounding=rounding):
            return f"{print_operand(operand)} in {rounding.value}"
        case ir.Binary():
            left, right = print_operand(statement.left), print_operand(statement.right)
            infix = INFIX.get(statement.op)
            return f"{left} {infix} {right}" if infix else f"{statement.op}({left}, {right})"
        case ir.Compare():
            left, right = print_operand(statement.left), print_operand(statement.right)
            return f"{left} {RELATIONS[statement.relation]} {right}"
        case ir.Select():
            yes, no = print_operand(statement.yes), print_operand(statement.no)
            return f"{yes} if {print_operand(statement.condition)} else {no}"
        case ir.Elementwise():
            fields = [f" {name}={print_attribute(value)}" for name, value in attributes_of(statement.op)]
            return f"{statement.op.name}({', '.join(map(print_operand, statement.operands))}){''.join(fields)}"
        case ir.Shuffle():
            operands = [statement.left] if statement.right is None else [statement.left, statement.right]
            return f"shuffle({', '.join(map(print_operand, operands))}) lanes {_picks(statement.picks)}"
        case (
            ir.Broadcast(scalar=operand)
            | ir.Convert(value=operand)
            | ir.Bits(value=operand)
            | ir.Rounded(value=operand)
        ):
            return f"{type(statement).__name__.lower()}({print_operand(operand)})"
        case ir.Lane(vector=operand) | ir.Any(mask=operand) | ir.Number(address=operand):
            return f"{type(statement).__name__.lower()}({print_operand(operand)})"
        case ir.Draw():
            key = f"{name_of(statement.first)}, {name_of(statement.second)}"
            return f"draw({key}, {print_operand(statement.places)})"
        case _:
            assert_never(statement)
