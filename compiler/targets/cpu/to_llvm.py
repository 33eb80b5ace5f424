"""A nest as the text of an LLVM function: one walk over its statements, which decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from compiler.loops.printer import FRAME
from compiler.machine import Machine
from compiler.nest.ir import (
    GIVEN,
    TYPES,
    Address,
    Any,
    Binary,
    Bits,
    Broadcast,
    Compare,
    Constant,
    Convert,
    Draw,
    DrawKey,
    Elementwise,
    Fma,
    Gather,
    Given,
    Guard,
    Lane,
    Load,
    LoadFence,
    Loop,
    Nest,
    Number,
    Operand,
    Prefetch,
    Scatter,
    Scratch,
    Select,
    Shuffle,
    Statement,
    Store,
    StoreFence,
    Type,
    Value,
    Zeros,
    type_of,
)
from compiler.targets.cpu.emit_compute import cast, compute
from compiler.targets.cpu.text import MEMORY, REGISTER, SUFFIX, Text, literal
from compiler.targets.llvm.locations import FUNCTION, location, location_nodes
from compiler.targets.llvm.threefry import halves, threefry, unit
from compiler.types import DType

FUNCTION_OF_FLOATS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
FUNCTION_OF_INTEGERS = {
    **{"add": "add", "sub": "sub", "mul": "mul", "div": "udiv", "rem": "urem", "and": "and", "or": "or"},
    **{"xor": "xor", "shift": "lshr"},
}
RELATIONS = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge", "below": "ult"}
NAMES = {
    type_.name: "ptr"
    if type_.dtype is None
    else REGISTER[type_.dtype]
    if type_.name == type_.dtype.value
    else f"<{type_.lanes} x {REGISTER[type_.dtype]}>"
    for type_ in TYPES.values()
}
SUFFIXES = {
    type_.name: SUFFIX[REGISTER[type_.dtype]] if type_.lanes == 1 else f"v{type_.lanes}{SUFFIX[REGISTER[type_.dtype]]}"
    for type_ in TYPES.values()
    if type_.dtype is not None
}
_Computed: TypeAlias = Select | Compare | Shuffle | Convert | Bits | Lane | Any
_Seldom: TypeAlias = _Computed | Given | Scratch | Gather | Scatter | Number | Draw | DrawKey | LoadFence | StoreFence
NAMES_OF_GIVEN = ("%begin", "%end", "%scratch")


def to_llvm(nest: Nest, machine: Machine) -> str:
    """A module with the function `@KERNEL(ptr args, i64 begin, i64 end, ptr scratch)`."""
    text = Text()
    walk = _Walk(text, machine, [*NAMES_OF_GIVEN, *("",) * (nest.values - len(GIVEN))])
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
        *location_nodes(nest.lines),
    ]
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class _Walk:
    """The function so far. `names` are those of the nest's values; `line` is that of the last statement."""

    text: Text
    machine: Machine
    names: list[str]
    line: int = 0

    def all(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            self.one(statement)

    def at(self, line: int) -> None:
        if line != self.line:
            self.line = line
            self.text.location = location(line) if line else ""

    def one(self, statement: Statement) -> None:
        text, names = self.text, self.names
        if statement.line != self.line:
            self.at(statement.line)
        match statement:
            case Address():
                index = statement.index
                place = names[index.number] if isinstance(index, Value) else index
                base, type_ = names[statement.base.number], MEMORY[statement.dtype]
                names[statement.result.number] = text.let(f"getelementptr {type_}, ptr {base}, i64 {place}", "p")
            case Load():
                result = statement.result
                names[result.number] = text.let(
                    f"load {NAMES[result.type.name]}, ptr {names[statement.address.number]}, align {statement.align}"
                )
            case Fma():
                self.fma(statement)
            case Broadcast():
                self.broadcast(statement)
            case Binary():
                self.binary(statement)
            case Prefetch():
                text.line(
                    f"call void @llvm.prefetch.p0(ptr {names[statement.address.number]}, "
                    f"i32 {int(statement.writes)}, i32 {statement.locality}, i32 1)"
                )
            case Store():
                self.store(statement)
            case Elementwise():
                self.elementwise(statement)
            case Loop():
                self.loop(statement)
            case Guard():
                self.guard(statement)
            case _:
                self.seldom(statement)

    def seldom(self, statement: _Seldom) -> None:
        text, names = self.text, self.names
        match statement:
            case Select() | Compare() | Shuffle() | Convert() | Bits() | Lane() | Any():
                names[statement.result.number] = self.computed(statement)
            case Given():
                names[statement.result.number] = self.given(statement.slot, statement.result.type)
            case Scratch():
                start = f"getelementptr i8, ptr %scratch, i64 {statement.start}"
                names[statement.result.number] = text.let(start, "p")
            case Gather() | Scatter():
                self.apart(statement)
            case Number():
                address = names[statement.address.number]
                names[statement.result.number] = text.let(f"ptrtoint ptr {address} to i64")
            case Draw() | DrawKey():
                self.draw(statement)
            case LoadFence():
                text.line('call void asm sideeffect "", ""()')
            case StoreFence():
                text.line("fence seq_cst")
            case _:
                assert_never(statement)

    # operands

    def operand(self, operand: Operand) -> str:
        if isinstance(operand, Value):
            return self.names[operand.number]
        match operand:
            case int():
                return str(operand)
            case Zeros():
                return "zeroinitializer"
            case Constant():
                return _constant(operand)

    def typed(self, operand: Operand) -> str:
        return f"{NAMES[type_of(operand).name]} {self.operand(operand)}"

    # statements

    def fma(self, statement: Fma) -> None:
        name = statement.result.type.name
        type_ = NAMES[name]
        left, right, addend = map(self.operand, (statement.left, statement.right, statement.addend))
        self.names[statement.result.number] = self.text.let(
            f"call {type_} @llvm.fma.{SUFFIXES[name]}({type_} {left}, {type_} {right}, {type_} {addend})"
        )

    def elementwise(self, statement: Elementwise) -> None:
        result, operands = statement.result, statement.operands
        dtypes, given = [_dtype(operand) for operand in operands], [self.operand(operand) for operand in operands]
        self.names[result.number] = compute(
            self.text, self.machine, statement.op, given, dtypes, _dtype(result), result.type.lanes
        )

    def broadcast(self, statement: Broadcast) -> None:
        type_ = statement.result.type
        vector = NAMES[type_.name]
        first = self.text.let(f"insertelement {vector} poison, {self.typed(statement.scalar)}, i64 0")
        self.names[statement.result.number] = self.text.let(
            f"shufflevector {vector} {first}, {vector} poison, <{type_.lanes} x i32> zeroinitializer"
        )

    def binary(self, statement: Binary) -> None:
        type_, op = statement.result.type, statement.op
        left, right, name = self.operand(statement.left), self.operand(statement.right), NAMES[type_.name]
        if op in ("min", "max"):
            written = f"call {name} @llvm.s{op}.{SUFFIXES[type_.name]}({name} {left}, {name} {right})"
        elif type_.dtype is not None and type_.dtype.is_float:
            written = f"{FUNCTION_OF_FLOATS[op]} {name} {left}, {right}"
        else:
            written = f"{FUNCTION_OF_INTEGERS[op]} {name} {left}, {right}"
        self.names[statement.result.number] = self.text.let(written)

    def computed(self, statement: _Computed) -> str:
        text = self.text
        match statement:
            case Select():
                chosen = f"{self.typed(statement.yes)}, {self.typed(statement.no)}"
                return text.let(f"select {self.typed(statement.condition)}, {chosen}")
            case Compare():
                relation, left = statement.relation, self.typed(statement.left)
                kind = "fcmp uno" if relation == "unordered" else f"icmp {RELATIONS[relation]}"
                return text.let(f"{kind} {left}, {self.operand(statement.right)}")
            case Shuffle():
                type_, picks = NAMES[type_of(statement.left).name], ", ".join(f"i32 {k}" for k in statement.picks)
                right = "poison" if statement.right is None else self.operand(statement.right)
                operands = f"{self.typed(statement.left)}, {type_} {right}"
                return text.let(f"shufflevector {operands}, <{len(statement.picks)} x i32> <{picks}>")
            case Convert():
                given = type_of(statement.value)
                source, target = _dtype(statement.value), _dtype(statement.result)
                return cast(text, self.operand(statement.value), source, target, given.lanes)
            case Bits():
                return text.let(f"bitcast {self.typed(statement.value)} to {NAMES[statement.result.type.name]}")
            case Lane():
                return text.let(f"extractelement {self.typed(statement.vector)}, i64 0")
            case Any():
                lanes = type_of(statement.mask).lanes
                bits = text.let(f"bitcast {self.typed(statement.mask)} to i{lanes}")
                return text.let(f"icmp ne i{lanes} {bits}, 0")

    def given(self, slot: int, type_: Type) -> str:
        place = self.text.let(f"getelementptr i64, ptr %args, i64 {slot}", "a")
        return self.text.let(f"load {NAMES[type_.name]}, ptr {place}, align 8", "a")

    def store(self, statement: Store) -> None:
        value, place = self.typed(statement.value), self.names[statement.address.number]
        if statement.mask is None:
            streams = ", !nontemporal !{i32 1}" if statement.streams else ""
            self.text.line(f"store {value}, ptr {place}, align {statement.align}{streams}")
            return
        self.text.line(
            f"call void @llvm.masked.store.{SUFFIXES[type_of(statement.value).name]}.p0({value}, "
            f"ptr align {statement.align} {place}, {self.typed(statement.mask)})"
        )

    def apart(self, statement: Gather | Scatter) -> None:
        moved = type_of(statement.result if isinstance(statement, Gather) else statement.value)
        dtype, lanes = moved.dtype, moved.lanes
        assert dtype is not None
        address, mask = self.names[statement.address.number], self.typed(statement.mask)
        pointers = self.text.let(f"getelementptr {MEMORY[dtype]}, ptr {address}, {self.typed(statement.places)}")
        listed, suffix = f"<{lanes} x ptr> align {dtype.size} {pointers}", f"{SUFFIXES[moved.name]}.v{lanes}p0"
        type_ = NAMES[moved.name]
        if isinstance(statement, Scatter):
            value = self.operand(statement.value)
            self.text.line(f"call void @llvm.masked.scatter.{suffix}({type_} {value}, {listed}, {mask})")
            return
        self.names[statement.result.number] = self.text.let(
            f"call {type_} @llvm.masked.gather.{suffix}({listed}, {mask}, {type_} zeroinitializer)"
        )

    def draw(self, statement: Draw | DrawKey) -> None:
        text = self.text
        if isinstance(statement, DrawKey):
            words = halves(text, self.operand(statement.seed), 1)
            low = text.let(f"trunc i64 {self.operand(statement.step)} to i32")
            stream = text.let(f"trunc i64 {self.given(statement.slot, TYPES['i64'])} to i32")
            first, second = threefry(text, words, (low, stream), 1)
            self.names[statement.first.number], self.names[statement.second.number] = first, second
            return
        lanes = statement.result.type.lanes
        key = [self.names[word.number] for word in (statement.first, statement.second)]
        if lanes > 1:
            key = [text.splat(word, "i32", lanes) for word in key]
        word, _ = threefry(text, key, halves(text, self.operand(statement.places), lanes), lanes)
        self.names[statement.result.number] = unit(text, word, DType.F32, lanes)

    def guard(self, statement: Guard) -> None:
        def body() -> None:
            self.all(statement.body)
            self.at(statement.line)

        self.text.when(self.operand(statement.condition), body, statement.is_rare)

    def loop(self, statement: Loop) -> None:
        carries = [
            (NAMES[value.type.name], self.operand(initial))
            for value, initial in zip(statement.carried, statement.initial, strict=True)
        ]

        def body(index: str, carried: list[str]) -> list[str]:
            self.names[statement.index.number] = index
            for value, name in zip(statement.carried, carried, strict=True):
                self.names[value.number] = name
            self.all(statement.body)
            self.at(statement.line)
            return [self.operand(following) for following in statement.following]

        start, stop = self.operand(statement.start), self.operand(statement.stop)
        self.text.loop(start, stop, statement.step, carries, body, statement.rounds)


def _dtype(operand: Operand) -> DType:
    dtype = type_of(operand).dtype
    assert dtype is not None
    return dtype


def _constant(constant: Constant) -> str:
    type_, value = constant.type, constant.value
    if value is None:
        return "poison"
    dtype = type_.dtype
    assert dtype is not None
    register = REGISTER[dtype]
    if isinstance(value, tuple):
        return f"<{', '.join(f'{register} {literal(part, dtype)}' for part in value)}>"
    written = literal(value, dtype)
    return written if type_.name == dtype.value else f"splat ({register} {written})"
