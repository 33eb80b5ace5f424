"""Objects of WebAssembly, as LLVM writes them: sections, symbols and relocations.

The form is that of "WebAssembly Object File Linking" (tool-conventions), for modules of 32 bits without threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TypeVar

from compiler.errors.diagnostics import CompilerBug
from compiler.support.record import mutable_record, record

FUNCTION, DATA, GLOBAL, SECTION, _TAG, TABLE = range(6)  # kinds of symbols
_UNDEFINED, _EXPLICIT_NAME = 0x10, 0x40  # flags of symbols
_HAS_ADDEND = frozenset({3, 4, 5, 8, 9})
_T = TypeVar("_T")


@record
class Symbol:
    """A symbol: of functions and globals, `index` is that in the object; of data, it is the segment."""

    kind: int
    name: str
    is_defined: bool
    index: int
    offset: int = 0


@record
class Relocation:
    """A place in a section's content that depends on a symbol, or on a type's number."""

    kind: int
    offset: int
    index: int
    addend: int


@record
class Segment:
    """A piece of the data section: where its content begins in the section, how long it is, and its alignment."""

    offset: int
    size: int
    alignment: int


@mutable_record
class WasmObject:
    """`functions` are the types' numbers of the defined functions, behind those with the names `imported`; `bodies`
    are their places in the content of the code section."""

    types: list[bytes] = field(default_factory=list[bytes])
    imported: list[str] = field(default_factory=list[str])
    functions: list[int] = field(default_factory=list[int])
    code: bytes = b""
    bodies: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    data: bytes = b""
    segments: list[Segment] = field(default_factory=list[Segment])
    symbols: list[Symbol] = field(default_factory=list[Symbol])
    in_code: list[Relocation] = field(default_factory=list[Relocation])
    in_data: list[Relocation] = field(default_factory=list[Relocation])


class _Reader:
    def __init__(self, content: bytes, place: int = 0) -> None:
        self.content, self.place = content, place

    @property
    def has_more(self) -> bool:
        return self.place < len(self.content)

    def take(self, size: int) -> bytes:
        begin, self.place = self.place, self.place + size
        return self.content[begin : self.place]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """An unsigned number, 7 bits a byte."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def signed(self) -> int:
        begin = self.place
        value = self.number()
        bits = 7 * (self.place - begin)
        return value - (1 << bits) if value >> (bits - 1) & 1 else value

    def name(self) -> str:
        return self.take(self.number()).decode()

    def several(self, read: Callable[[], _T]) -> list[_T]:
        return [read() for _ in range(self.number())]


def read_object(content: bytes) -> WasmObject:
    """Raises CompilerBug for what LLVM does not write of our text."""
    reader, found = _Reader(content, 8), WasmObject()
    segments: list[tuple[int, int]] = []
    while reader.has_more:
        section = reader.byte()
        body = _Reader(reader.take(reader.number()))
        match section:
            case 0:
                _custom(body, found, segments)
            case 1:
                found.types = body.several(lambda body=body: _type(body))
            case 2:
                found.imported = [name for name in body.several(lambda body=body: _import(body)) if name]
            case 3:
                found.functions = body.several(body.number)
            case 10:
                found.code, found.bodies = body.content, body.several(lambda body=body: _sized(body))
            case 11:
                found.data = body.content
                segments = body.several(lambda body=body: _segment(body))
            case 9 | 12:
                pass  # functions whose addresses are taken, which relocations tell too, and the number of segments
            case _:
                raise CompilerBug("wasm", f"an object has a section {section}")
    return found


def _type(body: _Reader) -> bytes:
    """A function's type, as it is written."""
    begin = body.place
    body.byte()
    for _ in range(2):
        body.take(body.number())
    return body.content[begin : body.place]


def _import(body: _Reader) -> str:
    """The name of a function, or nothing: memory, table and the stack's pointer are imported too."""
    body.name()
    name = body.name()
    kind = body.byte()
    if kind == 0:
        body.number()
    elif kind == 3:
        body.take(2)
    else:
        if kind == 1:
            body.byte()
        flags = body.number()
        body.number()
        if flags & 1:
            body.number()
    return name if kind == 0 else ""


def _sized(body: _Reader) -> tuple[int, int]:
    size = body.number()
    body.take(size)
    return body.place - size, size


def _segment(body: _Reader) -> tuple[int, int]:
    if body.number() != 0 or body.byte() != 0x41:
        raise CompilerBug("wasm", "a segment of data has no constant place")
    body.signed()
    body.byte()
    return _sized(body)


def _custom(body: _Reader, found: WasmObject, segments: Sequence[tuple[int, int]]) -> None:
    name = body.name()
    if name == "linking":
        body.number()
        while body.has_more:
            kind = body.byte()
            part = _Reader(body.take(body.number()))
            if kind == 8:
                found.symbols = part.several(lambda part=part: _symbol(part, found))
            elif kind == 5:
                alignments = part.several(lambda part=part: _alignment(part))
                found.segments = [Segment(*s, a) for s, a in zip(segments, alignments, strict=True)]
    elif name in ("reloc.CODE", "reloc.DATA"):
        body.number()
        relocations = body.several(lambda: _relocation(body))
        if name == "reloc.CODE":
            found.in_code = relocations
        else:
            found.in_data = relocations


def _alignment(part: _Reader) -> int:
    part.name()
    alignment = 1 << part.number()
    part.number()
    return alignment


def _symbol(part: _Reader, found: WasmObject) -> Symbol:
    kind, flags = part.byte(), part.number()
    is_defined = not flags & _UNDEFINED
    if kind == DATA:
        name = part.name()
        if not is_defined:
            return Symbol(kind, name, False, 0)
        segment, offset = part.number(), part.number()
        part.number()
        return Symbol(kind, name, True, segment, offset)
    index = part.number()
    if kind != SECTION and (is_defined or flags & _EXPLICIT_NAME):
        return Symbol(kind, part.name(), is_defined, index)
    return Symbol(kind, found.imported[index] if kind == FUNCTION else "", is_defined, index)


def _relocation(body: _Reader) -> Relocation:
    kind, offset, index = body.byte(), body.number(), body.number()
    return Relocation(kind, offset, index, body.signed() if kind in _HAS_ADDEND else 0)
