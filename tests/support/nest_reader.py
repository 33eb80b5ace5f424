"""Text of `printer` to nest. Everything comes back but the names of buffers, which only comments show."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, cast

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.op import Op
from compiler.graph.printer import Attribute
from compiler.nest import arguments, ir
from compiler.nest.ir import ADDRESS, GIVEN, INDEX, TYPES, Constant, Nest, Operand, Statement, Value, Zeros
from compiler.nest.printer import INFIX, NAMES_OF_GIVEN, RELATIONS
from compiler.types import BatchExtent, DType, Extent, Rounding

_OPERAND = r"(?:\w+\([^()]*\)|-?\w+)"
_HEAD = re.compile(
    r"nest: items (.+) by (\d+) times (\d+); scratch (\d+) and (\d+)\*batch bytes"
    r"(?:; shared (\d+) bytes(, which last)?)?; lines ([\d ]*)"
)
_LOOP = re.compile(
    rf"for (item )?i(\d+) in ({_OPERAND})\.\.({_OPERAND})(?: step (\d+))?(?: rounds (\d+))?(?: with (.+))?:"
)
_DEFINED = re.compile(r"([ipv])(\d+)(?:: (\w+))?")
_PLAIN: dict[str, Callable[[int], arguments.Argument]] = {
    "buffer": arguments.BufferPointer,
    "flag": arguments.FlagPointer,
    "place": arguments.PlaceNumber,
    "factor": arguments.FactorNumber,
    "shift": arguments.ShiftNumber,
    "literal": arguments.LiteralNumber,
    "stream": arguments.StreamNumber,
}
_SINGLE: dict[str, arguments.Argument] = {
    "shared panels": arguments.SharedPointer(),
    "rows": arguments.RowsNumber(),
    "columns": arguments.ColumnsNumber(),
    "total": arguments.ElementsNumber(),
    "items": arguments.ItemsNumber(),
}
_OPS: dict[str, ir.Arithmetic] = {text: op for op, text in INFIX.items()}
_COMPARED: dict[str, ir.Relation] = {text: relation for relation, text in RELATIONS.items()}


def read_nest(text: str, ops: Sequence[type[Op]]) -> Nest:
    """The nest that `text` describes, with the ops of the list by their names. Raises `CompilerBug`."""
    before: Nest | None = None
    of_name = {op.name: op for op in ops}
    for part in re.split(r"^then, behind a barrier,.*\n", text, flags=re.MULTILINE):
        before = _Reader(part, of_name).nest(before)
    assert before is not None
    return before


class _Reader:
    """The lines of one nest, each with its depth and the line of the kernel whose work it does."""

    def __init__(self, text: str, ops: dict[str, type[Op]]) -> None:
        self.ops, self.line, self.next = ops, 0, 0
        self.rows = [row for row in text.splitlines() if row.strip()]
        self.values = {NAMES_OF_GIVEN[value.number]: value for value in GIVEN}
        self.numbers = {value.number for value in GIVEN}
        self.arguments: list[arguments.Argument] = []

    def nest(self, before: Nest | None) -> Nest:
        head = _HEAD.fullmatch(self.take())
        if head is None:
            raise self.wrong("a nest begins with its items, scratch and lines")
        body = self.body(1)
        if self.next < len(self.rows):
            raise self.wrong("a line has another depth than those before it")
        items = ir.Items(_extent(head[1]), int(head[2]), int(head[3]))
        lines = frozenset(map(int, head[8].split()))
        scratch = int(head[4]), int(head[5])
        shared, lasts = int(head[6] or 0), head[7] is not None
        return Nest(tuple(self.arguments), items, body, max(self.numbers) + 1, lines, *scratch, before, shared, lasts)

    # lines

    def take(self) -> str:
        """The next line, without its mark and what is remarked on it."""
        row = self.rows[self.next].split("  #")[0] if "  #" in self.rows[self.next] else self.rows[self.next]
        if mark := re.search(r"  @(\d+)$", self.rows[self.next]):
            self.line, row = int(mark[1]), row.removesuffix(mark[0])
        self.next += 1
        return row.strip()

    def depth(self) -> int:
        row = self.rows[self.next]
        return (len(row) - len(row.lstrip())) // 2

    def body(self, depth: int) -> list[Statement]:
        found: list[Statement] = []
        while self.next < len(self.rows) and self.depth() == depth:
            if self.rows[self.next].lstrip().startswith("next "):
                break
            found.append(self.statement(depth))
        return found

    def wrong(self, message: str) -> CompilerBug:
        return CompilerBug("read_nest", message, "\n".join(self.rows[max(0, self.next - 3) : self.next + 1]))

    def statement(self, depth: int) -> Statement:
        row = self.take()
        line = self.line
        if row.startswith("for "):
            return self.loop(row, depth)
        if row.startswith("if "):
            is_rare = row.startswith("if rarely ")
            condition = self.operand(row.removeprefix("if ").removeprefix("rarely ").removesuffix(":"))
            return ir.Guard(line, condition, self.body(depth + 1), is_rare)
        if " = " in row and not row.startswith("store "):
            defined, _, value = row.partition(" = ")
            return self.definition(defined, value)
        return self.effect(row)

    def loop(self, row: str, depth: int) -> Statement:
        found = _LOOP.fullmatch(row)
        if found is None:
            raise self.wrong("a loop has an index, bounds, and what it carries")
        line = self.line
        start, stop = self.operand(found[3]), self.operand(found[4])
        pairs = [pair.partition(" = ") for pair in _listed(found[7] or "")]
        initial = tuple(self.operand(value) for _, _, value in pairs)
        index = self.defined(f"i{found[2]}")
        carried = tuple(self.defined(name) for name, _, _ in pairs)
        body = self.body(depth + 1)
        following: tuple[Operand, ...] = ()
        if carried:
            following = tuple(self.operand(part) for part in _listed(self.take().removeprefix("next ")))
        rounds = None if found[6] is None else int(found[6])
        assert isinstance(start, Value | int)
        assert isinstance(stop, Value | int)
        return ir.Loop(
            *(line, index, start, stop, int(found[5] or 1), carried, initial, following, body),
            *(rounds, found[1] is not None),
        )

    # values

    def defined(self, text: str) -> Value:
        found = _DEFINED.fullmatch(text)
        if found is None:
            raise self.wrong(f"{text!r} defines nothing")
        number = int(found[2])
        if number in self.numbers:
            raise self.wrong(f"{text} is defined twice")
        self.numbers.add(number)
        type_ = {"i": INDEX, "p": ADDRESS}.get(found[1]) or TYPES[found[3]]
        value = self.values[f"{found[1]}{found[2]}"] = Value(number, type_)
        return value

    def operand(self, text: str) -> Operand:
        if text in self.values:
            return self.values[text]
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        found = re.fullmatch(r"(\w+)\((.*)\)", text)
        if found is None or found[1] not in TYPES:
            raise self.wrong(f"{text!r} is no value that is known here")
        type_, inside = TYPES[found[1]], found[2]
        if inside in ("zeros", "any"):
            return Zeros(type_) if inside == "zeros" else Constant(type_, None)
        parts = [_attribute(part) for part in inside.split(", ")]
        assert all(isinstance(part, int | float) for part in parts)
        lanes = cast("list[int]", parts)
        return Constant(type_, tuple(lanes) if len(lanes) > 1 else lanes[0])

    def value(self, text: str) -> Value:
        found = self.operand(text)
        if not isinstance(found, Value):
            raise self.wrong(f"{text} is no value that a statement defines")
        return found

    # instructions

    def definition(self, defined: str, text: str) -> Statement:
        if text.startswith("key("):
            return self.key(defined, text)
        if text.startswith("matrices "):
            return self.matrices(defined, text)
        made = self.argument(text) or self.memory(text) or self.computed(text) or self.applied(text)
        if made is None:
            raise self.wrong(f"{text!r} computes nothing")
        return made(self.defined(defined))

    def key(self, defined: str, text: str) -> Statement:
        found = re.fullmatch(rf"key\(({_OPERAND}), ({_OPERAND})\) of stream (\d+)", text)
        if found is None:
            raise self.wrong("a key has a seed, a step and a stream")
        seed, step = self.operand(found[1]), self.operand(found[2])
        first, second = map(self.defined, defined.split(", "))
        self.arguments.append(arguments.StreamNumber(int(found[3])))
        return ir.DrawKey(self.line, first, second, seed, step, len(self.arguments) - 1)

    def matrices(self, defined: str, text: str) -> Statement:
        found = re.fullmatch(r"matrices \[(.+)\] @ \[(.+)\] in (\w+) \+ \[(.+)\]", text)
        if found is None:
            raise self.wrong("matrices have two factors and a sum")
        left, right, sums = (tuple(map(self.operand, re.findall(_OPERAND, found[k]))) for k in (1, 2, 4))
        results = tuple(map(self.defined, defined.split(", ")))
        return ir.MultiplyMatrices(self.line, results, left, right, sums, Rounding(found[3]))

    def argument(self, text: str) -> Callable[[Value], Statement] | None:
        word, _, rest = text.partition(" ")
        if word == "extent":
            argument: arguments.Argument | None = arguments.ExtentNumber(_extent(rest))
        elif word in _PLAIN and rest.isdigit():
            argument = _PLAIN[word](int(rest))
        else:
            argument = _SINGLE.get(text)
        if argument is None:
            return None
        self.arguments.append(argument)
        slot, line = len(self.arguments) - 1, self.line
        return lambda result: ir.Given(result, line, slot)

    def memory(self, text: str) -> Callable[[Value], Statement] | None:
        line = self.line
        if found := re.fullmatch(r"scratch (\d+) bytes from (\d+)", text):
            size, start = int(found[1]), int(found[2])
            return lambda result: ir.Scratch(result, line, start, size)
        if found := re.fullmatch(rf"&(\w+)\[({_OPERAND})\] (\w+)", text):
            base, index, dtype = self.value(found[1]), self.operand(found[2]), DType(found[3])
            assert isinstance(index, Value | int)
            return lambda result: ir.Address(result, line, base, index, dtype)
        if text == "block" or text == "thread" or text == "group":
            of: Literal["block", "thread", "group"] = text
            return lambda result: ir.Ordinal(result, line, of)
        if found := re.fullmatch(r"shared (\d+) bytes from (\d+)", text):
            size, start = int(found[1]), int(found[2])
            return lambda result: ir.Shared(result, line, start, size)
        if found := re.fullmatch(rf"({_OPERAND}) of lane ({_OPERAND})", text):
            value, lane = self.value(found[1]), self.operand(found[2])
            assert isinstance(lane, Value | int)
            return lambda result: ir.Exchange(result, line, value, lane)
        if found := re.fullmatch(r"load (\w+), align (\d+)", text):
            address, align = self.value(found[1]), int(found[2])
            return lambda result: ir.Load(result, line, address, align)
        if found := re.fullmatch(rf"gather (\w+)\[({_OPERAND})\], mask ({_OPERAND})", text):
            address, places, mask = self.value(found[1]), self.operand(found[2]), self.operand(found[3])
            return lambda result: ir.Gather(result, line, address, places, mask)
        return None

    def computed(self, text: str) -> Callable[[Value], Statement] | None:
        """What stands between operands."""
        line = self.line
        if found := re.fullmatch(rf"({_OPERAND}) \* ({_OPERAND}) \+ ({_OPERAND})", text):
            left, right, addend = (self.operand(found[k]) for k in (1, 2, 3))
            return lambda result: ir.Fma(result, line, left, right, addend)
        if found := re.fullmatch(rf"({_OPERAND}) \* ({_OPERAND}) in pairs \+ ({_OPERAND})", text):
            left, right, addend = (self.operand(found[k]) for k in (1, 2, 3))
            return lambda result: ir.PairFma(result, line, left, right, addend)
        if found := re.fullmatch(rf"({_OPERAND}) in (bf16|tf32)", text):
            value, rounding = self.operand(found[1]), Rounding(found[2])
            return lambda result: ir.RoundFactor(result, line, value, rounding)
        if found := re.fullmatch(rf"({_OPERAND}) if ({_OPERAND}) else ({_OPERAND})", text):
            yes, condition, no = (self.operand(found[k]) for k in (1, 2, 3))
            return lambda result: ir.Select(result, line, condition, yes, no)
        if found := re.fullmatch(rf"({_OPERAND}) (\S+) ({_OPERAND})", text):
            between = found[2]
            if between not in _OPS and between not in _COMPARED:
                return None
            left, right = self.operand(found[1]), self.operand(found[3])
            if between in _OPS:
                return lambda result: ir.Binary(result, line, _OPS[between], left, right)
            return lambda result: ir.Compare(result, line, _COMPARED[between], left, right)
        return None

    def applied(self, text: str) -> Callable[[Value], Statement] | None:
        """A function of operands."""
        found = re.fullmatch(r"(\w+)\((.*)\)((?: \w+=\S+)*| lanes [\d. ]+)", text)
        if found is None:
            return None
        line, name, rest = self.line, found[1], found[3]
        operands = [self.operand(part) for part in _listed(found[2])]
        if name in ("min", "max"):
            op: ir.Arithmetic = "min" if name == "min" else "max"
            return lambda result: ir.Binary(result, line, op, operands[0], operands[1])
        if name == "shuffle":
            first, dots, last = rest.removeprefix(" lanes ").partition("..")
            picks = tuple(range(int(first), int(last) + 1) if dots else map(int, first.split()))
            right = operands[1] if len(operands) > 1 else None
            return lambda result: ir.Shuffle(result, line, operands[0], right, picks)
        if name in _OF_ONE:
            return lambda result: _OF_ONE[name](result, line, operands[0])
        if name == "number":
            address = self.value(found[2])
            return lambda result: ir.Number(result, line, address)
        if name == "draw":
            first, second = (self.value(part) for part in _listed(found[2])[:2])
            return lambda result: ir.Draw(result, line, first, second, operands[2])
        fields = {key: _attribute(value) for key, _, value in (part.partition("=") for part in rest.split())}
        return lambda result: ir.Elementwise(result, line, self.ops[name](**fields), tuple(operands))

    def effect(self, row: str) -> Statement:
        line = self.line
        if row == "no load moves across":
            return ir.LoadFence(line)
        if row == "finish all stores":
            return ir.StoreFence(line)
        if row == "close tiles":
            return ir.CloseTiles(line)
        if found := re.fullmatch(r"open tiles, described at (\w+)", row):
            return ir.OpenTiles(line, self.value(found[1]))
        tiles = rf"tiles (\d) x (\d) at (\w+) \+= (\w+) @ (\w+), ({_OPERAND}) blocks, pitch (\d+)"
        if found := re.fullmatch(tiles, row):
            sums, left, right = (self.value(found[k]) for k in (3, 4, 5))
            blocks = self.operand(found[6])
            assert isinstance(blocks, Value | int)
            return ir.MultiplyTiles(line, sums, left, right, blocks, int(found[7]), int(found[1]), int(found[2]))
        copied = rf"copy ahead (\w+)\[({_OPERAND})\] to (\w+)\[({_OPERAND})\] (\w+), ({_OPERAND}) bytes kept"
        if found := re.fullmatch(copied, row):
            source, target = self.value(found[1]), self.value(found[3])
            sources, targets, kept = (self.operand(found[k]) for k in (2, 4, 6))
            return ir.CopyAhead(line, target, targets, source, sources, kept, DType(found[5]))
        if row == "these copies are a group":
            return ir.CommitCopies(line)
        if found := re.fullmatch(r"await all copies but (\d+) groups", row):
            return ir.AwaitCopies(line, int(found[1]))
        if row in ("lanes meet", "all threads meet"):
            return ir.Meet(line) if row == "lanes meet" else ir.Barrier(line)
        if found := re.fullmatch(r"prefetch (\w+) to (read|write), locality (\d)", row):
            return ir.Prefetch(line, self.value(found[1]), found[2] == "write", int(found[3]))
        stored = rf"store ({_OPERAND}) to (\w+), align (\d+)(?:, mask ({_OPERAND}))?(, past the caches)?"
        if found := re.fullmatch(stored, row):
            mask = None if found[4] is None else self.operand(found[4])
            value, address = self.operand(found[1]), self.value(found[2])
            return ir.Store(line, value, address, int(found[3]), mask, found[5] is not None)
        if found := re.fullmatch(rf"scatter ({_OPERAND}) to (\w+)\[({_OPERAND})\], mask ({_OPERAND})", row):
            value, places, mask = (self.operand(found[k]) for k in (1, 3, 4))
            return ir.Scatter(line, value, self.value(found[2]), places, mask)
        raise self.wrong(f"{row!r} is no statement")


_OF_ONE: dict[str, Callable[[Value, int, Operand], Statement]] = {
    "broadcast": ir.Broadcast,
    "convert": ir.Convert,
    "bits": ir.Bits,
    "rounded": ir.Rounded,
    "lane": ir.Lane,
    "any": ir.Any,
}


def _listed(text: str) -> list[str]:
    """What stands between commas, of which those in brackets separate nothing."""
    return re.split(r", (?![^(]*\))", text) if text else []


def _extent(text: str) -> Extent:
    number, _, batch = text.partition("*")
    if text == "batch":
        return BatchExtent()
    return BatchExtent(int(number)) if batch else int(number)


def _attribute(text: str) -> Attribute:
    if text in ("true", "false"):
        return text == "true"
    if text in {dtype.value for dtype in DType}:
        return DType(text)
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
