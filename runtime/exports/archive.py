"""Static libraries: archives in the form that the linkers of ELF systems read (`ar`, with GNU's index of symbols)."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.driver import LibraryMember

_MAGIC = b"!<arch>\n"
_HEADER = 60  # bytes in front of each member


def archive(members: Sequence[LibraryMember]) -> bytes:
    """The archive of some objects, with no time or owner in it."""
    names = b"".join(f"{member.name}/\n".encode() for member in members)
    symbols = [(symbol, number) for number, member in enumerate(members) for symbol in member.symbols]
    index_size = 4 + 4 * len(symbols) + sum(len(symbol) + 1 for symbol, _ in symbols)
    place = len(_MAGIC) + _HEADER + _even(index_size) + _HEADER + _even(len(names))
    places: list[int] = []
    for member in members:
        places.append(place)
        place += _HEADER + _even(len(member.content))
    index = len(symbols).to_bytes(4, "big") + b"".join(places[number].to_bytes(4, "big") for _, number in symbols)
    index += b"".join(symbol.encode() + b"\0" for symbol, _ in symbols)
    pieces = [_MAGIC, _member("/", index), _member("//", names)]
    offset = 0
    for member in members:
        pieces.append(_member(f"/{offset}", member.content))
        offset += len(member.name) + 2
    return b"".join(pieces)


def _even(size: int) -> int:
    return size + size % 2


def _member(name: str, content: bytes) -> bytes:
    """A member behind its header: name, time, owner, group, mode (octal), size; filled up to an even size."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)
