"""Positions of the protocol beside a count of code units, character by character."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("lsprotocol", reason="the extra `lsp` is not installed")

from lsprotocol.types import Position, PositionEncodingKind

from runtime.editor.positions import Positions

TEXT = 'a = 1\r\n\u00e9😀 = "e\u0301𝒳"\n\rb\t= \ud800é\n\n😀'
WIDTHS = {PositionEncodingKind.Utf8: 1, PositionEncodingKind.Utf16: 2, PositionEncodingKind.Utf32: 4}


@pytest.mark.parametrize("encoding", WIDTHS)
def test_units_are_those_of_the_encoding(encoding: PositionEncodingKind) -> None:
    positions = Positions(TEXT, encoding)
    name = f"utf-{8 * WIDTHS[encoding]}{'-le' if WIDTHS[encoding] > 1 else ''}"
    starts = [0, *(match.end() for match in re.finditer("\r\n|\r|\n", TEXT))]
    for offset in range(len(TEXT) + 1):
        line = max(number for number, start in enumerate(starts) if start <= offset)
        units = len(TEXT[starts[line] : offset].encode(name, "surrogatepass")) // WIDTHS[encoding]
        position = Position(line, units)
        assert positions.position_of(offset) == position
        if TEXT[offset : offset + 1] != "\n":  # between \r and \n, a position is that of the \r
            assert positions.offset(*positions.place(position)) == offset


def test_a_place_beyond_a_line_lies_at_its_end() -> None:
    positions = Positions(TEXT)
    assert positions.place(Position(0, 99)) == (1, 6)
    assert positions.place(Position(99, 0)) == (5, 2)
    assert positions.place(Position(1, 2)) == (2, 3), "within the pair of an emoji: behind it"
