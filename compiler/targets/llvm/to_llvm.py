"""A nest as the text of an LLVM function: one walk over its statements, which decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from compiler.loops.printer import FRAME
from compiler.machine import Machine
from compiler.nest import ir
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record
from compiler.targets.llvm import assembler
from compiler.targets.llvm.emit_compute import cast, compute
from compiler.targets.llvm.multiply_add import declarations, multiply_add
from compiler.targets.llvm.text import MEMORY, NAMES, SUFFIXES, Text, constant
from compiler.targets.llvm.threefry import halves, threefry, unit
from compiler.types import DType

Writers: TypeAlias = "Mapping[type[ir.Statement], tuple[str, Callable[..., str | None]]]"

FUNCTION_OF_FLOATS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
FUNCTION_OF_INTEGERS = {
    **{"add": "add", "sub": "sub", "mul": "mul", "div": "udiv", "rem": "urem", "and": "and", "or": "or"},
    **{"xor": "xor", "shift": "lshr"},
}
RELATIONS = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge", "below": "ult"}
TILE_BYTES = 1024  # of a tile register
TILE_WORDS = (1, 0, 0x40004000400040, 0x40004000400040, 0, 0, 0x1010101010101010, 0)
"""The description of eight tile registers, in words of 64 bits: palette 1, rows of 64 bytes, 16 rows."""
PICKS = tuple(f"i32 {lane}" for lane in range(2 * max(type_.lanes for type_ in ir.TYPES.values())))


def to_llvm(nest: ir.Nest, machine: Machine) -> str:
    """A module with the function `@KERNEL(ptr args, i64 begin, i64 end, ptr scratch)`."""
    text = Text(machine.multiply_add)
    walk = Walk(text, Names(zip(ir.GIVEN, ("%begin", "%end", "%scratch"), strict=True)), WRITERS)
    walk.all(nest.body)
    walk.at(FRAME)
    text.line("ret void")
    bits = machine.vector_bits
    attributes = f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'
    if machine.scheduling_model:
        attributes += f' "tune-cpu"="{machine.scheduling_model}"'
    lines = [
        f"define void @KERNEL(ptr %args, i64 %begin, i64 %end, ptr %scratch) {attributes} {FUNCTION} {{",
        "entry:",
        *text.lines,
        "}",
        *declarations(text),
        *location_nodes(nest.lines),
    ]
    return "\n".join(lines) + "\n"


class Names(dict[ir.Operand, str]):
    """How operands are written: the names of values, and constants."""

    def __missing__(self, operand: ir.Operand) -> str:
        match operand:
            case int():
                self[operand] = text = str(operand)
                return text
            case ir.Zeros():
                return "zeroinitializer"
            case ir.Constant(type=type_, value=value):
                return "poison" if value is None else constant(type_, value)
            case ir.Value():
                raise KeyError(operand.number)


@mutable_record
class Walk:
    """The function so far; `line` is that of the last statement. A target may have further `writers`."""

    text: Text
    names: Names
    writers: Writers
    line: int = 0

    def all(self, statements: Sequence[ir.Statement]) -> None:
        text, names, writers = self.text, self.names, self.writers
        for statement in statements:
            if statement.line != self.line:
                self.at(statement.line)
            stem, write = writers[statement.__class__]
            written = write(self, statement)
            if stem:
                text.count += 1  # as `Text.let`, which is called for each statement otherwise
                name = f"%{stem}{text.count}"
                names[statement.result] = name  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
                text.lines.append(f"  {name} = {written}{text.location}")
            elif written:
                text.lines.append(f"  {written}{text.location}")

    def at(self, line: int) -> None:
        if line != self.line:
            self.line = line
            self.text.location = location(line) if line else ""

    def typed(self, operand: ir.Operand) -> str:
        return f"{NAMES[ir.type_of(operand)]} {self.names[operand]}"

    # definitions of one value, as their last instruction

    def fma(self, statement: ir.Fma) -> str:
        names = self.names
        operands = names[statement.left], names[statement.right], names[statement.addend]
        return multiply_add(self.text, statement.result.type, *operands)

    def broadcast(self, statement: ir.Broadcast) -> str:
        type_ = statement.result.type
        vector = NAMES[type_]
        first = self.text.let(f"insertelement {vector} poison, {self.typed(statement.scalar)}, i64 0")
        return f"shufflevector {vector} {first}, {vector} poison, <{type_.lanes} x i32> zeroinitializer"

    def binary(self, statement: ir.Binary) -> str:
        type_, op = statement.result.type, statement.op
        left, right, name = self.names[statement.left], self.names[statement.right], NAMES[type_]
        if op in ("min", "max"):
            return f"call {name} @llvm.s{op}.{SUFFIXES[type_]}({name} {left}, {name} {right})"
        is_float = type_.dtype is not None and type_.dtype.is_float
        return f"{(FUNCTION_OF_FLOATS if is_float else FUNCTION_OF_INTEGERS)[op]} {name} {left}, {right}"

    def select(self, statement: ir.Select) -> str:
        chosen = f"{self.typed(statement.yes)}, {self.typed(statement.no)}"
        return f"select {self.typed(statement.condition)}, {chosen}"

    def compare(self, statement: ir.Compare) -> str:
        relation = statement.relation
        kind = "fcmp uno" if relation == "unordered" else f"icmp {RELATIONS[relation]}"
        return f"{kind} {self.typed(statement.left)}, {self.names[statement.right]}"

    def shuffle(self, statement: ir.Shuffle) -> str:
        type_, picks = NAMES[ir.type_of(statement.left)], ", ".join([PICKS[lane] for lane in statement.picks])
        right = "poison" if statement.right is None else self.names[statement.right]
        left = self.names[statement.left]
        return f"shufflevector {type_} {left}, {type_} {right}, <{len(statement.picks)} x i32> <{picks}>"

    def bits(self, statement: ir.Bits) -> str:
        return f"bitcast {self.typed(statement.value)} to {NAMES[statement.result.type]}"

    def lane(self, statement: ir.Lane) -> str:
        return f"extractelement {self.typed(statement.vector)}, i64 0"

    def any(self, statement: ir.Any) -> str:
        lanes = ir.type_of(statement.mask).lanes
        bits = self.text.let(f"bitcast {self.typed(statement.mask)} to i{lanes}")
        return f"icmp ne i{lanes} {bits}, 0"

    def address(self, statement: ir.Address) -> str:
        names = self.names
        return f"getelementptr {MEMORY[statement.dtype]}, ptr {names[statement.base]}, i64 {names[statement.index]}"

    def number(self, statement: ir.Number) -> str:
        return f"ptrtoint ptr {self.names[statement.address]} to i64"

    def load(self, statement: ir.Load) -> str:
        return f"load {NAMES[statement.result.type]}, ptr {self.names[statement.address]}, align {statement.align}"

    def gather(self, statement: ir.Gather) -> str:
        type_ = statement.result.type
        listed, suffix, mask = self.apart(statement, type_)
        return f"call {NAMES[type_]} @llvm.masked.gather.{suffix}({listed}, {mask}, {NAMES[type_]} zeroinitializer)"

    def apart(self, statement: ir.Gather | ir.Scatter, moved: ir.Type) -> tuple[str, str, str]:
        """The pointers to elements of a type, the end of the name of an intrinsic over them, and the mask."""
        dtype, lanes = moved.dtype, moved.lanes
        assert dtype is not None
        address, mask = self.names[statement.address], self.typed(statement.mask)
        pointers = self.text.let(f"getelementptr {MEMORY[dtype]}, ptr {address}, {self.typed(statement.places)}")
        return f"<{lanes} x ptr> align {dtype.size} {pointers}", f"{SUFFIXES[moved]}.v{lanes}p0", mask

    def given(self, statement: ir.Given) -> str:
        return self.argument(statement.slot, statement.result.type)

    def argument(self, slot: int, type_: ir.Type) -> str:
        place = self.text.let(f"getelementptr i64, ptr %args, i64 {slot}", "a")
        return f"load {NAMES[type_]}, ptr {place}, align 8"

    def scratch(self, statement: ir.Scratch) -> str:
        return f"getelementptr i8, ptr %scratch, i64 {statement.start}"

    # definitions that are expanded

    def elementwise(self, statement: ir.Elementwise) -> None:
        result = statement.result
        operands = [(ir.type_of(operand), self.names[operand]) for operand in statement.operands]
        self.names[result] = compute(self.text, statement.op.name, operands, ir.dtype_of(result))

    def convert(self, statement: ir.Convert) -> None:
        result = statement.result
        self.names[result] = cast(self.value(statement.value), ir.dtype_of(result)).name

    def draw_key(self, statement: ir.DrawKey) -> None:
        words = halves(self.value(statement.seed))
        step = self.value(statement.step).converted("trunc", DType.I32)
        stream = assembler.Value(self.text, ir.INDEX, self.text.let(self.argument(statement.slot, ir.INDEX), "a"), "v")
        first, second = threefry(words, (step, stream.converted("trunc", DType.I32)))
        self.names[statement.first], self.names[statement.second] = first.name, second.name

    def draw(self, statement: ir.Draw) -> None:
        lanes = statement.result.type.lanes
        first, second = (self.value(word).in_lanes(lanes) for word in (statement.first, statement.second))
        word, _ = threefry((first, second), halves(self.value(statement.places)))
        self.names[statement.result] = unit(word, DType.F32).name

    def value(self, operand: ir.Operand) -> assembler.Value:
        """An operand as a value of formulas."""
        return assembler.Value(self.text, ir.type_of(operand), self.names[operand], "v")

    # effects

    def store(self, statement: ir.Store) -> str:
        value, place = self.typed(statement.value), self.names[statement.address]
        if statement.mask is None:
            streams = ", !nontemporal !{i32 1}" if statement.streams else ""
            return f"store {value}, ptr {place}, align {statement.align}{streams}"
        return (
            f"call void @llvm.masked.store.{SUFFIXES[ir.type_of(statement.value)]}.p0({value}, "
            f"ptr align {statement.align} {place}, {self.typed(statement.mask)})"
        )

    def scatter(self, statement: ir.Scatter) -> str:
        listed, suffix, mask = self.apart(statement, ir.type_of(statement.value))
        return f"call void @llvm.masked.scatter.{suffix}({self.typed(statement.value)}, {listed}, {mask})"

    def prefetch(self, statement: ir.Prefetch) -> str:
        place, writes = self.names[statement.address], int(statement.writes)
        return f"call void @llvm.prefetch.p0(ptr {place}, i32 {writes}, i32 {statement.locality}, i32 1)"

    # products in bf16

    def rounded(self, statement: ir.Rounded) -> str:
        lanes = statement.result.type.lanes
        intrinsic = f"@llvm.x86.avx512bf16.cvtneps2bf16.{32 * lanes}"
        numbers = self.text.let(f"call <{lanes} x bfloat> {intrinsic}({self.typed(statement.value)})")
        return f"bitcast <{lanes} x bfloat> {numbers} to {NAMES[statement.result.type]}"

    def pair_fma(self, statement: ir.PairFma) -> str:
        type_, halves = NAMES[statement.result.type], f"<{2 * statement.result.type.lanes} x bfloat>"
        left, right = (
            self.text.let(f"bitcast {self.typed(operand)} to {halves}") for operand in (statement.left, statement.right)
        )
        intrinsic = f"@llvm.x86.avx512bf16.dpbf16ps.{32 * statement.result.type.lanes}"
        return f"call {type_} {intrinsic}({self.typed(statement.addend)}, {halves} {left}, {halves} {right})"

    def open_tiles(self, statement: ir.OpenTiles) -> None:
        address = self.names[statement.address]
        for place, word in enumerate(TILE_WORDS):
            pointer = self.text.let(f"getelementptr i64, ptr {address}, i64 {place}")
            self.text.line(f"store i64 {word}, ptr {pointer}, align 8")
        self.text.line(f"call void @llvm.x86.ldtilecfg(ptr {address})")

    def multiply_tiles(self, statement: ir.MultiplyTiles) -> None:
        """Registers 0 to 3 have the sums, 4 and 5 tiles of the left operand, 6 and 7 of the right one."""
        text, names, places = self.text, self.names, range(statement.rows * statement.columns)
        pitch = 4 * LANES * statement.columns  # bytes of a row of sums

        def sums(place: int) -> str:
            row, column = divmod(place, statement.columns)
            offset = row * LANES * pitch + 4 * LANES * column
            return text.let(f"getelementptr i8, ptr {names[statement.sums]}, i64 {offset}")

        def step(index: str, carried: list[str]) -> list[str]:
            for operand, first, count in ((statement.left, 4, statement.rows), (statement.right, 6, statement.columns)):
                for tile in range(count):
                    start = text.let(f"getelementptr i16, ptr {names[operand]}, i64 {tile * statement.pitch}")
                    block = text.let(f"getelementptr [{TILE_BYTES} x i8], ptr {start}, i64 {index}")
                    text.line(f"call void @llvm.x86.tileloadd64(i8 {first + tile}, ptr {block}, i64 {4 * LANES})")
            for place in places:
                row, column = divmod(place, statement.columns)
                text.line(f"call void @llvm.x86.tdpbf16ps(i8 {place}, i8 {4 + row}, i8 {6 + column})")
            return []

        for place in places:
            text.line(f"call void @llvm.x86.tileloadd64(i8 {place}, ptr {sums(place)}, i64 {pitch})")
        text.loop("0", names[statement.blocks], 1, [], step, None)
        for place in places:
            text.line(f"call void @llvm.x86.tilestored64(i8 {place}, ptr {sums(place)}, i64 {pitch})")

    # control

    def guard(self, statement: ir.Guard) -> None:
        def body() -> None:
            self.all(statement.body)
            self.at(statement.line)

        self.text.when(self.names[statement.condition], body, statement.is_rare)

    def loop(self, statement: ir.Loop, note: str = "") -> None:
        names = self.names
        carries = [
            (NAMES[value.type], names[initial])
            for value, initial in zip(statement.carried, statement.initial, strict=True)
        ]

        def body(index: str, carried: list[str]) -> list[str]:
            names[statement.index] = index
            names.update(zip(statement.carried, carried, strict=True))
            self.all(statement.body)
            self.at(statement.line)
            return [names[following] for following in statement.following]

        start, stop = names[statement.start], names[statement.stop]
        self.text.loop(start, stop, statement.step, carries, body, statement.rounds, note)


WRITERS: Writers = {
    ir.Fma: ("v", Walk.fma),
    ir.Broadcast: ("v", Walk.broadcast),
    ir.Binary: ("v", Walk.binary),
    ir.Select: ("v", Walk.select),
    ir.Compare: ("v", Walk.compare),
    ir.Shuffle: ("v", Walk.shuffle),
    ir.Bits: ("v", Walk.bits),
    ir.Lane: ("v", Walk.lane),
    ir.Any: ("v", Walk.any),
    ir.Number: ("v", Walk.number),
    ir.Rounded: ("v", Walk.rounded),
    ir.PairFma: ("v", Walk.pair_fma),
    ir.Load: ("v", Walk.load),
    ir.Gather: ("v", Walk.gather),
    ir.Address: ("p", Walk.address),
    ir.Scratch: ("p", Walk.scratch),
    ir.Given: ("a", Walk.given),
    ir.Elementwise: ("", Walk.elementwise),
    ir.Convert: ("", Walk.convert),
    ir.DrawKey: ("", Walk.draw_key),
    ir.Draw: ("", Walk.draw),
    ir.Store: ("", Walk.store),
    ir.Scatter: ("", Walk.scatter),
    ir.Prefetch: ("", Walk.prefetch),
    ir.LoadFence: ("", lambda *_: 'call void asm sideeffect "", ""()'),
    ir.StoreFence: ("", lambda *_: "fence seq_cst"),
    ir.OpenTiles: ("", Walk.open_tiles),
    ir.MultiplyTiles: ("", Walk.multiply_tiles),
    ir.CloseTiles: ("", lambda *_: "call void @llvm.x86.tilerelease()"),
    ir.Guard: ("", Walk.guard),
    ir.Loop: ("", Walk.loop),
}
"""By the type of a statement: the stem of the name of its result, where its text defines one; and its text.

A method gives None where it has written all of it.
"""


FUNCTION = "!dbg !0"


def location(line: int) -> str:
    """The location that instructions of that line carry."""
    return f", !dbg !{line}"


def location_nodes(lines: Iterable[int]) -> list[str]:
    """The nodes that go with a function marked FUNCTION whose instructions carry these lines."""
    lines = sorted(set(lines))
    unit = lines[-1] + 1 if lines else 1
    file, type_, version = unit + 1, unit + 2, unit + 3
    return [
        f"!llvm.dbg.cu = !{{!{unit}}}",
        f"!llvm.module.flags = !{{!{version}}}",
        f'!0 = distinct !DISubprogram(name: "KERNEL", file: !{file}, line: {FRAME}, type: !{type_}, '
        f"spFlags: DISPFlagDefinition, unit: !{unit})",
        *(f"!{line} = !DILocation(line: {line}, scope: !0)" for line in lines),
        f"!{unit} = distinct !DICompileUnit(language: DW_LANG_C, file: !{file}, emissionKind: LineTablesOnly)",
        f'!{file} = !DIFile(filename: "KERNEL.loops", directory: "")',
        f"!{type_} = !DISubroutineType(types: !{{}})",
        f'!{version} = !{{i32 2, !"Debug Info Version", i32 3}}',
    ]
