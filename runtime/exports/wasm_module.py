"""Objects of WebAssembly linked to one module that needs nothing: it has its memory, and exports functions by name.

From address 0 lie a page that no pointer leads to, the stack, which ends the program when it overflows, constants, and
what the caller fills; behind them `__heap_base` is the first address that is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from compiler.errors.diagnostics import CompilerBug
from compiler.support.record import mutable_record
from runtime.exports.wasm_object import DATA, FUNCTION, GLOBAL, TABLE, Relocation, Symbol, WasmObject, read_object

PAGE_BYTES = 65536
_STACK_BYTES = PAGE_BYTES
_ALIGNMENT = 64
_I32, _FUNCTION_REFERENCE, _FUNCTION_FORM, _END = b"\x7f", b"\x70", 0, b"\x0b"
_CONSTANT = b"\x41"  # the instruction i32.const
_INDEX, _TABLE_INDEX, _TABLE_WORD, _ADDRESS, _SIGNED_ADDRESS, _ADDRESS_WORD = range(6)  # relocations
_TYPE_INDEX, _GLOBAL_INDEX, _TABLE_NUMBER = 6, 7, 20
_LEB_BYTES = 5  # of a number that is relocated


@mutable_record
class _Linked:
    """The numbers of functions, of places in the table of functions, and addresses of data, by object or by name."""

    objects: Sequence[WasmObject]
    types: dict[bytes, int]
    first_function: list[int]
    segments: list[list[int]]  # of each object, the addresses of its segments
    named: dict[str, tuple[int, Symbol]]
    reserved: Mapping[str, int]  # addresses
    table: dict[int, int]

    def value(self, number: int, relocation: Relocation) -> int:
        """What stands at a relocated place of an object."""
        if relocation.kind == _TYPE_INDEX:
            return self.types[self.objects[number].types[relocation.index]]
        symbol = self.objects[number].symbols[relocation.index]
        if relocation.kind in (_GLOBAL_INDEX, _TABLE_NUMBER):
            if symbol.kind not in (GLOBAL, TABLE) or symbol.is_defined:
                raise CompilerBug("wasm", f"an object has a global or a table {symbol.name}")
            return 0  # there is one of each
        if symbol.kind == DATA:
            return self._address(number, symbol) + relocation.addend
        if symbol.kind != FUNCTION:
            raise CompilerBug("wasm", f"a relocation of kind {relocation.kind} is of a symbol of kind {symbol.kind}")
        function = self._function(number, symbol)
        if relocation.kind in (_TABLE_INDEX, _TABLE_WORD):
            return self.table.setdefault(function, len(self.table) + 1)  # 0 is no function
        return function

    def _address(self, number: int, symbol: Symbol) -> int:
        if not symbol.is_defined:
            if symbol.name in self.reserved:
                return self.reserved[symbol.name]
            number, symbol = self._defined(symbol)
        return self.segments[number][symbol.index] + symbol.offset

    def _function(self, number: int, symbol: Symbol) -> int:
        if not symbol.is_defined:
            number, symbol = self._defined(symbol)
        return self.first_function[number] + symbol.index - len(self.objects[number].imported)

    def _defined(self, symbol: Symbol) -> tuple[int, Symbol]:
        if symbol.name not in self.named:
            raise CompilerBug("wasm", f"no object defines {symbol.name}")
        return self.named[symbol.name]

    def exported(self, name: str) -> int:
        return self._function(*self.named[name])


def wasm_module(contents: Sequence[bytes], functions: Iterable[str], reserved: Mapping[str, int]) -> bytes:
    """The module of some objects, which exports some functions.

    `reserved` are the names and sizes of data that no object has and the caller fills; their addresses are exported.
    """
    objects = [read_object(content) for content in contents]
    end = _STACK_BYTES
    places: list[list[int]] = []
    for one in objects:
        own: list[int] = []
        for segment in one.segments:
            end = _rounded_up(end, segment.alignment)
            own.append(end)
            end += segment.size
        places.append(own)
    data_end = end
    addresses: dict[str, int] = {}
    for name, size in reserved.items():
        addresses[name] = end = _rounded_up(end, _ALIGNMENT)
        end += size
    heap = _rounded_up(end, _ALIGNMENT)
    firsts = [sum(len(other.functions) for other in objects[:number]) for number in range(len(objects))]
    types = {type_: n for n, type_ in enumerate(dict.fromkeys(type_ for one in objects for type_ in one.types))}
    named = {s.name: (n, s) for n, one in enumerate(objects) for s in one.symbols if s.is_defined}
    linked = _Linked(objects, types, firsts, places, named, addresses, {})
    bodies = [body for number in range(len(objects)) for body in _bodies(linked, number)]
    data = _data(linked, data_end)
    exports = {name: (_FUNCTION_FORM, linked.exported(name)) for name in functions}
    return _module(linked, bodies, data, exports, {**addresses, "__heap_base": heap}, heap)


def _rounded_up(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _bodies(linked: _Linked, number: int) -> list[bytes]:
    """The code of an object's functions, with its relocated numbers as short as they may be."""
    one = linked.objects[number]
    relocations = sorted(one.in_code, key=lambda r: r.offset)
    bodies: list[bytes] = []
    for begin, size in one.bodies:
        pieces: list[bytes] = []
        place = begin
        for relocation in (r for r in relocations if begin <= r.offset < begin + size):
            value = linked.value(number, relocation)
            is_signed = relocation.kind in (_TABLE_INDEX, _SIGNED_ADDRESS)
            pieces += [one.code[place : relocation.offset], _signed(value) if is_signed else _number(value)]
            place = relocation.offset + _LEB_BYTES
        pieces.append(one.code[place : begin + size])
        bodies.append(b"".join(pieces))
    return bodies


def _data(linked: _Linked, end: int) -> bytes:
    """All constants, from the end of the stack on."""
    memory = bytearray(end - _STACK_BYTES)
    for number, one in enumerate(linked.objects):
        content = bytearray(one.data)
        for relocation in one.in_data:
            if relocation.kind not in (_TABLE_WORD, _ADDRESS_WORD):
                raise CompilerBug("wasm", f"data has a relocation of kind {relocation.kind}")
            content[relocation.offset : relocation.offset + 4] = linked.value(number, relocation).to_bytes(4, "little")
        for segment, address in zip(one.segments, linked.segments[number], strict=True):
            begin = address - _STACK_BYTES
            memory[begin : begin + segment.size] = content[segment.offset : segment.offset + segment.size]
    return bytes(memory)


def _module(
    linked: _Linked,
    bodies: Sequence[bytes],
    data: bytes,
    exports: Mapping[str, tuple[int, int]],
    addresses: Mapping[str, int],
    heap: int,
) -> bytes:
    types = [linked.types[one.types[type_]] for one in linked.objects for type_ in one.functions]
    globals_ = [_I32 + b"\x01" + _place(_STACK_BYTES), *(_I32 + b"\x00" + _place(a) for a in addresses.values())]
    listed = {**exports, "memory": (2, 0), **{name: (3, number) for number, name in enumerate(addresses, 1)}}
    table = [_number(function) for function in linked.table]
    pieces = _pieces(data)
    sections = (
        (1, list(linked.types)),
        (3, [_number(type_) for type_ in types]),
        (4, [_FUNCTION_REFERENCE + b"\x00" + _number(len(table) + 1)]),
        (5, [b"\x00" + _number(-(-heap // PAGE_BYTES))]),
        (6, globals_),
        (7, [_name(name) + bytes([kind]) + _number(number) for name, (kind, number) in listed.items()]),
        (9, [b"\x00" + _place(1) + _vector(table)] if table else []),
        (10, [_number(len(body)) + body for body in bodies]),
        (11, [b"\x00" + _place(_STACK_BYTES + begin) + _number(len(piece)) + piece for begin, piece in pieces]),
    )
    return b"\0asm\x01\0\0\0" + b"".join(_section(kind, items) for kind, items in sections if items)


def _pieces(data: bytes) -> list[tuple[int, bytes]]:
    """Constants without long stretches of zeros, which memory has from the start: where each piece begins."""
    zeros = bytes(16)  # more than the description of a piece
    pieces: list[tuple[int, bytes]] = []
    begin = 0
    while begin < len(data):
        found = data.find(zeros, begin)
        stop = len(data) if found < 0 else found
        if stop > begin:
            pieces.append((begin, data[begin:stop]))
        begin = stop
        while begin < len(data) and not data[begin]:
            begin += 1
    return pieces


def _place(address: int) -> bytes:
    return _CONSTANT + _signed(address) + _END


def _section(kind: int, items: Sequence[bytes]) -> bytes:
    content = _vector(items)
    return bytes([kind]) + _number(len(content)) + content


def _vector(items: Sequence[bytes]) -> bytes:
    return _number(len(items)) + b"".join(items)


def _name(name: str) -> bytes:
    return _number(len(name.encode())) + name.encode()


def _number(value: int) -> bytes:
    """An unsigned number, 7 bits a byte."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _signed(value: int) -> bytes:
    """A number of 32 bits, with the sign of its last byte."""
    value = value - (1 << 32) if value >> 31 else value
    written = bytearray()
    while not -64 <= value < 64:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value & 0x7F])
