"""Writes one LLVM function as text: types, constants, fresh names, blocks, counted loops with carried values."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import field

from compiler.machine import MultiplyAdd
from compiler.nest.ir import TYPES, Type
from compiler.support.arrays import np
from compiler.support.record import mutable_record
from compiler.types import DType

REGISTER = {
    DType.F32: "float",
    DType.F64: "double",
    DType.I32: "i32",
    DType.I64: "i64",
    DType.U8: "i8",
    DType.BOOL: "i1",
    DType.I8: "i8",
    DType.I16: "i16",
    DType.U16: "i16",
    DType.U32: "i32",
    DType.U64: "i64",
    DType.F16: "i16",  # its bits: few processors compute with f16, and all convert these in the same way
}
MEMORY = {**REGISTER, DType.BOOL: "i8"}
SUFFIX = {"float": "f32", "double": "f64", "i64": "i64", "i32": "i32", "i16": "i16", "i8": "i8", "i1": "i1"}
NAMES = {
    type_: "ptr"
    if type_.dtype is None
    else REGISTER[type_.dtype]
    if type_.name == type_.dtype.value
    else f"<{type_.lanes} x {REGISTER[type_.dtype]}>"
    for type_ in TYPES.values()
}
SUFFIXES = {
    type_: SUFFIX[REGISTER[type_.dtype]] if type_.lanes == 1 else f"v{type_.lanes}{SUFFIX[REGISTER[type_.dtype]]}"
    for type_ in TYPES.values()
    if type_.dtype is not None
}
"""How a type is written, and the end of the name of an intrinsic over it."""


def literal(value: float | int | bool, dtype: DType) -> str:
    """A number as LLVM writes it."""
    if dtype is DType.BOOL:
        return "true" if value else "false"
    if dtype is DType.F16:
        with np.errstate(over="ignore"):
            return str(int(np.float16(value).view(np.int16)))
    if not dtype.is_float:
        return str(int(value))
    if dtype is DType.F32:
        value = struct.unpack("<f", struct.pack("<f", _fit(float(value))))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _fit(value: float) -> float:
    """Beyond the largest f32 a number is infinite, as in a conversion."""
    if value != value or abs(value) < 3.4028235677973366e38:
        return value
    return float("inf") if value > 0 else float("-inf")


def constant(type_: Type, value: float | int | bool | tuple[int | bool, ...]) -> str:
    """A number in each lane, or one for each."""
    dtype = type_.dtype
    assert dtype is not None
    register = REGISTER[dtype]
    if isinstance(value, tuple):
        return f"<{', '.join([f'{register} {literal(part, dtype)}' for part in value])}>"
    written = literal(value, dtype)
    return written if type_.name == dtype.value else f"splat ({register} {written})"


@mutable_record
class Text:
    """The body of a function, line by line. `location` is the end of each instruction."""

    multiply_add: MultiplyAdd = MultiplyAdd.INTRINSIC
    lines: list[str] = field(default_factory=list[str])
    count: int = 0
    block: str = "entry"
    location: str = ""

    def fresh(self, stem: str = "v") -> str:
        self.count += 1
        return f"%{stem}{self.count}"

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}{self.location}")

    def let(self, text: str, stem: str = "v") -> str:
        """Append an instruction; the name of its result."""
        self.count += 1  # as `fresh`, which is called for each line otherwise
        name = f"%{stem}{self.count}"
        self.lines.append(f"  {name} = {text}{self.location}")
        return name

    def label(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def loop(
        self,
        start: str,
        stop: str,
        step: int,
        carries: Sequence[tuple[str, str]],
        body: Callable[[str, list[str]], list[str]],
        rounds: int | None = None,
        note: str = "",
    ) -> list[str]:
        """`for i = start; i + step <= stop` in effect `i < stop` for exact multiples.

        `carries` are (type, initial value); `body` gets the index and the carried values and gives the next ones.
        The values after the loop are returned. The loop runs while `i < stop`, so callers pass rounded bounds.
        How many `rounds` to expect decides which values have registers; LLVM supposes some 30 for each loop. The branch
        back has a `note` for it.
        """
        head, inside, leave = self.label("head"), self.label("body"), self.label("exit")
        before = self.block
        self.line(f"br label %{head}")
        self.start(head)
        index = self.fresh("i")
        names = [self.fresh("c") for _ in carries]
        mark = len(self.lines)
        self.lines.append("")
        go = self.let(f"icmp slt i64 {index}, {stop}")
        weights = f', !prof !{{!"branch_weights", i32 {rounds}, i32 1}}' if rounds is not None else ""
        self.line(f"br i1 {go}, label %{inside}, label %{leave}{weights}")
        self.start(inside)
        following = body(index, names)
        advanced = self.let(f"add nsw i64 {index}, {step}")
        after = self.block
        self.line(f"br label %{head}{note}")
        phis = [f"  {index} = phi i64 [ {start}, %{before} ], [ {advanced}, %{after} ]{self.location}"]
        for name, (type_, initial), new in zip(names, carries, following, strict=True):
            phis.append(f"  {name} = phi {type_} [ {initial}, %{before} ], [ {new}, %{after} ]{self.location}")
        self.lines[mark] = "\n".join(phis)
        self.start(leave)
        return names

    def when(self, condition: str, body: Callable[[], None], is_rare: bool = False) -> None:
        """Run `body` where the i1 `condition` holds; code for what is rare stands out of the way."""
        inside, leave = self.label("then"), self.label("done")
        weights = ', !prof !{!"branch_weights", i32 1, i32 1048576}' if is_rare else ""
        self.line(f"br i1 {condition}, label %{inside}, label %{leave}{weights}")
        self.start(inside)
        body()
        self.line(f"br label %{leave}")
        self.start(leave)
