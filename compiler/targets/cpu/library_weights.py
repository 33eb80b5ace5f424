"""The weights of a library as an object of its own, in pieces, since a copy of large weights takes long."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np

from compiler.errors.diagnostics import CompilerBug
from compiler.machine import Machine
from compiler.targets.cpu.library_layout import rounded_up
from compiler.targets.llvm.jit import compile_module
from compiler.targets.memory import SLACK
from compiler.targets.target import LibraryMember, Pieces

Array: TypeAlias = np.ndarray[Any, Any]
_UNIT = 4096  # rooms that differ by a multiple of it are alike in alignment
_MOST_BYTES = (1 << 31) - (1 << 20)  # so that a number of four bytes in an object stays one


def weights_in_pieces(arrays: Sequence[Array]) -> tuple[list[int], Pieces]:
    """Where each array lies, and the content behind each other, readable beyond the end as kernels may read."""
    places: list[int] = []
    pieces: list[bytes | memoryview] = []
    place = 0
    for array in arrays:
        places.append(place)
        pieces.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        pieces.append(bytes(rounded_up(array.nbytes) - array.nbytes))
        place += rounded_up(array.nbytes)
    return places, (*pieces, bytes(SLACK))


def weights_member(symbol: str, content: Pieces, machine: Machine) -> LibraryMember:
    """The object of the weights: LLVM makes room behind a mark, since it would take long to read them as text."""
    size = sum(len(piece) for piece in content)
    before, behind = around_large_room(symbol, size, machine) or around_room(symbol, size, machine)
    return LibraryMember("weights.o", (before, *content, behind), (symbol,))


def around_large_room(symbol: str, size: int, machine: Machine) -> tuple[bytes, bytes] | None:
    """As `around_room`, without the room: from the objects of two small rooms, which tell what numbers grow with it.

    None for a small room, for one of 2 GiB, and where the objects differ in other ways too, as in a checksum.
    """
    if not 4 * _UNIT <= size <= _MOST_BYTES:
        return None
    small = 2 * _UNIT + size % _UNIT
    one, other = (around_room(symbol, room, machine) for room in (small, small + _UNIT))
    before, behind = (_grown(*parts, size - small) for parts in zip(one, other, strict=True))
    return None if before is None or behind is None else (before, behind)


def _grown(one: bytes, other: bytes, growth: int) -> bytes | None:
    """The bytes of `one`, that of a room smaller by a unit than that of `other`, for a room larger by `growth`.

    None where they differ in more than numbers of four bytes that have grown by a unit, whose lowest byte is then 0.
    """
    made, place = bytearray(one), 0
    while (place := _first_difference(one, other, place)) < len(one):
        if min(len(one), len(other)) < place + 3:
            return None
        before, behind = (int.from_bytes(part[place - 1 : place + 3], "little") for part in (one, other))
        if behind - before != _UNIT:
            return None
        made[place - 1 : place + 3] = (before + growth).to_bytes(4, "little")
        place += 3
    return bytes(made) if len(one) == len(other) else None


def _first_difference(one: bytes, other: bytes, start: int) -> int:
    """The first place from `start` on where they differ, or the length of `one`."""
    pairs = enumerate(zip(one[start:], other[start:], strict=False), start)
    return next((place for place, (a, b) in pairs if a != b), len(one))


def around_room(symbol: str, size: int, machine: Machine) -> tuple[bytes, bytes]:
    """The object of a constant of so many bytes, without them: the bytes before and behind."""
    mark = sha256(symbol.encode()).digest()
    rest = size - len(mark)
    room = f"{{ [{len(mark)} x i8], [{rest} x i8] }}"
    value = f'{{ [{len(mark)} x i8] c"{escaped(mark)}", [{rest} x i8] zeroinitializer }}'
    made = compile_module(f"@{symbol} = hidden constant {room} {value}, align 64\n", machine)
    before, found, behind = made.partition(mark)
    if not found or mark in behind or behind[:rest].count(0) != rest:
        raise CompilerBug("library", f"the object has no room for {size} bytes of weights")
    return before, behind[rest:]


def escaped(content: bytes) -> str:
    """Bytes as LLVM writes them in a string, of which there is at least one."""
    return "\\" + content.hex("\\")
