"""Static libraries: archives (`ar`) in the forms that linkers read, GNU's for ELF and COFF, BSD's for Mach-O."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.driver import ExportedLibrary, LibraryMember

_MAGIC = b"!<arch>\n"
_HEADER = 60  # bytes in front of each member
_BSD_NAME = 20  # bytes that hold a name behind the header, so that what follows begins at a multiple of 8
_BSD_INDEX = "__.SYMDEF"


def archive(library: ExportedLibrary) -> bytes:
    """The archive of a library's objects, with no time or owner in it."""
    return _bsd(library.members) if library.machine.is_apple else _gnu(library.members)


def _gnu(members: Sequence[LibraryMember]) -> bytes:
    names = b"".join(f"{member.name}/\n".encode() for member in members)
    symbols = [(symbol, number) for number, member in enumerate(members) for symbol in member.symbols]
    index_size = 4 + 4 * len(symbols) + sum(len(symbol) + 1 for symbol, _ in symbols)
    place = len(_MAGIC) + _HEADER + _filled(index_size, 2) + _HEADER + _filled(len(names), 2)
    places: list[int] = []
    for member in members:
        places.append(place)
        place += _HEADER + _filled(len(member.content), 2)
    index = len(symbols).to_bytes(4, "big") + b"".join(places[number].to_bytes(4, "big") for _, number in symbols)
    index += b"".join(symbol.encode() + b"\0" for symbol, _ in symbols)
    pieces = [_MAGIC, _member("/", index), _member("//", names)]
    offset = 0
    for member in members:
        pieces.append(_member(f"/{offset}", member.content))
        offset += len(member.name) + 2
    return b"".join(pieces)


def _bsd(members: Sequence[LibraryMember]) -> bytes:
    """Symbols of Mach-O begin with an underscore; 64-bit objects begin at multiples of 8."""
    symbols = sorted((f"_{symbol}", number) for number, member in enumerate(members) for symbol in member.symbols)
    names = b"".join(symbol.encode() + b"\0" for symbol, _ in symbols)
    names += b"\0" * (_filled(len(names), 8) - len(names))
    place = len(_MAGIC) + _HEADER + _BSD_NAME + 4 + 8 * len(symbols) + 4 + len(names)
    places: list[int] = []
    for member in members:
        places.append(place)
        place += _HEADER + _BSD_NAME + _filled(len(member.content), 8)
    index, offset = (8 * len(symbols)).to_bytes(4, "little"), 0
    for symbol, number in symbols:
        index += offset.to_bytes(4, "little") + places[number].to_bytes(4, "little")
        offset += len(symbol) + 1
    index += len(names).to_bytes(4, "little") + names
    pieces = [_MAGIC, _bsd_member(_BSD_INDEX, index)]
    for number, member in enumerate(members):
        content = member.content + b"\n" * (_filled(len(member.content), 8) - len(member.content))
        pieces.append(_bsd_member(f"member{number}.o", content))
    return b"".join(pieces)


def _filled(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _member(name: str, content: bytes) -> bytes:
    """A member behind its header: name, time, owner, group, mode (octal), size; filled up to an even size."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def _bsd_member(name: str, content: bytes) -> bytes:
    return _member(f"#1/{_BSD_NAME}", name.encode().ljust(_BSD_NAME, b"\0") + content)
