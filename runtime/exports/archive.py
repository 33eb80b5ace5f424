"""Static libraries: archives (`ar`) in the forms that linkers read, GNU's for ELF and COFF, BSD's for Mach-O."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.driver import ExportedLibrary, LibraryMember, Pieces

_MAGIC = b"!<arch>\n"
_HEADER = 60  # bytes in front of each member
_BSD_NAME = 20  # bytes that hold a name behind the header, so that what follows begins at a multiple of 8
_BSD_INDEX = "__.SYMDEF"


def archive(library: ExportedLibrary) -> Pieces:
    """The archive of a library's objects in pieces, with no time or owner in it."""
    return _bsd(library.members) if library.machine.is_apple else _gnu(library.members)


def _gnu(members: Sequence[LibraryMember]) -> Pieces:
    names = b"".join(f"{member.name}/\n".encode() for member in members)
    symbols = [(symbol, number) for number, member in enumerate(members) for symbol in member.symbols]
    index_size = 4 + 4 * len(symbols) + sum(len(symbol) + 1 for symbol, _ in symbols)
    place = len(_MAGIC) + _HEADER + _filled(index_size, 2) + _HEADER + _filled(len(names), 2)
    places: list[int] = []
    for member in members:
        places.append(place)
        place += _HEADER + _filled(member.size, 2)
    index = len(symbols).to_bytes(4, "big") + b"".join(places[number].to_bytes(4, "big") for _, number in symbols)
    index += b"".join(symbol.encode() + b"\0" for symbol, _ in symbols)
    pieces: list[bytes | memoryview] = [_MAGIC, *_member("/", (index,)), *_member("//", (names,))]
    offset = 0
    for member in members:
        pieces += _member(f"/{offset}", member.content)
        offset += len(member.name) + 2
    return tuple(pieces)


def _bsd(members: Sequence[LibraryMember]) -> Pieces:
    """Symbols of Mach-O begin with an underscore; 64-bit objects begin at multiples of 8."""
    symbols = sorted((f"_{symbol}", number) for number, member in enumerate(members) for symbol in member.symbols)
    names = b"".join(symbol.encode() + b"\0" for symbol, _ in symbols)
    names += b"\0" * (_filled(len(names), 8) - len(names))
    place = len(_MAGIC) + _HEADER + _BSD_NAME + 4 + 8 * len(symbols) + 4 + len(names)
    places: list[int] = []
    for member in members:
        places.append(place)
        place += _HEADER + _BSD_NAME + _filled(member.size, 8)
    index, offset = (8 * len(symbols)).to_bytes(4, "little"), 0
    for symbol, number in symbols:
        index += offset.to_bytes(4, "little") + places[number].to_bytes(4, "little")
        offset += len(symbol) + 1
    index += len(names).to_bytes(4, "little") + names
    pieces: list[bytes | memoryview] = [_MAGIC, *_bsd_member(_BSD_INDEX, (index,))]
    for number, member in enumerate(members):
        filling = b"\n" * (_filled(member.size, 8) - member.size)
        pieces += _bsd_member(f"member{number}.o", (*member.content, filling))
    return tuple(pieces)


def _filled(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _member(name: str, content: Pieces) -> Pieces:
    """A member behind its header: name, time, owner, group, mode (octal), size; filled up to an even size."""
    size = sum(len(piece) for piece in content)
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{size:<10}`\n".encode()
    return (header, *content, b"\n" * (size % 2))


def _bsd_member(name: str, content: Pieces) -> Pieces:
    return _member(f"#1/{_BSD_NAME}", (name.encode().ljust(_BSD_NAME, b"\0"), *content))
