"""Writes one LLVM function as text: fresh names, blocks, counted loops with carried values, vector constants."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from compiler.targets.llvm.locations import location
from compiler.types import DType

LANES = 16  # of every vector, whatever its element type: LLVM splits it where registers are shorter

REGISTER = {
    DType.F32: "float",
    DType.F64: "double",
    DType.I32: "i32",
    DType.I64: "i64",
    DType.U8: "i8",
    DType.BOOL: "i1",
}
MEMORY = {**REGISTER, DType.BOOL: "i8"}
SUFFIX = {"float": "f32", "double": "f64", "i64": "i64", "i32": "i32", "i8": "i8", "i1": "i1"}


def literal(value: float | int | bool, dtype: DType) -> str:
    """A number as LLVM writes it."""
    if dtype is DType.BOOL:
        return "true" if value else "false"
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


def vector(type_: str, lanes: int = LANES) -> str:
    return type_ if lanes == 1 else f"<{lanes} x {type_}>"


def splat_of(type_: str, text: str, lanes: int = LANES) -> str:
    """A vector constant with the same literal in each lane."""
    return text if lanes == 1 else f"splat ({type_} {text})"


@dataclass(slots=True)
class Text:
    """The body of a function, line by line. `location` is the end of each instruction, `places` the lines it named.

    It `is_fenced` where an operand in memory takes a register before its use: see `fence`.
    """

    lines: list[str] = field(default_factory=list[str])
    count: int = 0
    block: str = "entry"
    location: str = ""
    is_fenced: bool = False
    places: set[int] = field(default_factory=set[int])

    def fresh(self, stem: str = "v") -> str:
        self.count += 1
        return f"%{stem}{self.count}"

    def locate(self, line: int) -> None:
        """From here on, instructions belong to that line of the printed kernel."""
        self.location = location(line)
        self.places.add(line)

    @contextmanager
    def at(self, line: int) -> Generator[None]:
        """Within, instructions belong to that line of the printed kernel."""
        before = self.location
        self.locate(line)
        try:
            yield
        finally:
            self.location = before

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}{self.location}")

    def let(self, text: str, stem: str = "v") -> str:
        """Append an instruction; the name of its result."""
        name = self.fresh(stem)
        self.lines.append(f"  {name} = {text}{self.location}")
        return name

    def lanes_of(self, value: str, type_: str, first: int, lanes: int) -> str:
        """So many of the LANES lanes of a vector."""
        picks = ", ".join(f"i32 {first + lane}" for lane in range(lanes))
        vector = f"<{LANES} x {type_}>"
        return self.let(f"shufflevector {vector} {value}, {vector} poison, <{lanes} x i32> <{picks}>")

    def joined(self, pieces: Sequence[str], type_: str, lanes: int) -> str:
        """Vectors of so many lanes, a power of two of them, one behind the other."""
        if len(pieces) == 1:
            return pieces[0]
        vector, picks = f"<{lanes} x {type_}>", ", ".join(f"i32 {lane}" for lane in range(2 * lanes))
        pairs = zip(pieces[::2], pieces[1::2], strict=True)
        wider = [
            self.let(f"shufflevector {vector} {low}, {vector} {high}, <{2 * lanes} x i32> <{picks}>")
            for low, high in pairs
        ]
        return self.joined(wider, type_, 2 * lanes)

    def fence(self) -> None:
        """No load moves across, where it would take a register that others need: LLVM moves them up by a whole step."""
        if self.is_fenced:
            self.line('call void asm sideeffect "", ""()')

    def label(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def add(self, left: str, right: int | str) -> str:
        """i64 sum; nothing is written for a zero."""
        if right in (0, "0"):
            return left
        if left == "0":
            return str(right)
        return self.let(f"add i64 {left}, {right}")

    def mul(self, left: str, right: int | str) -> str:
        """i64 product; nothing is written for a one."""
        if right in (1, "1"):
            return left
        if left == "0" or right in (0, "0"):
            return "0"
        return self.let(f"mul i64 {left}, {right}")

    def pointer(self, base: str, index: str, type_: str) -> str:
        """The address of element `index`."""
        return base if index == "0" else self.let(f"getelementptr {type_}, ptr {base}, i64 {index}", "p")

    def splat(self, scalar: str, type_: str, lanes: int = LANES) -> str:
        """A scalar in each lane."""
        first = self.let(f"insertelement <{lanes} x {type_}> poison, {type_} {scalar}, i64 0")
        return self.let(
            f"shufflevector <{lanes} x {type_}> {first}, <{lanes} x {type_}> poison, <{lanes} x i32> zeroinitializer"
        )

    def loop(
        self,
        start: str,
        stop: str,
        step: int,
        carries: Sequence[tuple[str, str]],
        body: Callable[[str, list[str]], list[str]],
        rounds: int | None = None,
    ) -> list[str]:
        """`for i = start; i + step <= stop` in effect `i < stop` for exact multiples.

        `carries` are (type, initial value); `body` gets the index and the carried values and gives the next ones.
        The values after the loop are returned. The loop runs while `i < stop`, so callers pass rounded bounds.
        How many `rounds` to expect decides which values have registers; LLVM supposes some 30 for each loop.
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
        self.line(f"br label %{head}")
        phis = [f"  {index} = phi i64 [ {start}, %{before} ], [ {advanced}, %{after} ]{self.location}"]
        for name, (type_, initial), new in zip(names, carries, following, strict=True):
            phis.append(f"  {name} = phi {type_} [ {initial}, %{before} ], [ {new}, %{after} ]{self.location}")
        self.lines[mark] = "\n".join(phis)
        self.start(leave)
        return names

    def clear(self, base: str, elements: str, type_: str) -> None:
        """Zeros in so many elements, whole vectors, from an aligned place on."""

        def body(index: str, carried: list[str]) -> list[str]:
            self.line(f"store <{LANES} x {type_}> zeroinitializer, ptr {self.pointer(base, index, type_)}, align 64")
            return []

        self.loop("0", elements, LANES, [], body)

    def when(self, condition: str, body: Callable[[], None], is_rare: bool = False) -> None:
        """Run `body` where the i1 `condition` holds; code for what is rare stands out of the way."""
        inside, leave = self.label("then"), self.label("done")
        weights = ', !prof !{!"branch_weights", i32 1, i32 1048576}' if is_rare else ""
        self.line(f"br i1 {condition}, label %{inside}, label %{leave}{weights}")
        self.start(inside)
        body()
        self.line(f"br label %{leave}")
        self.start(leave)

    def minimum(self, left: str, right: str) -> str:
        return self.let(f"call i64 @llvm.smin.i64(i64 {left}, i64 {right})")

    def maximum(self, left: str, right: str) -> str:
        return self.let(f"call i64 @llvm.smax.i64(i64 {left}, i64 {right})")
