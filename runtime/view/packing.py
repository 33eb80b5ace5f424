"""Data of a page as short text, which the page's `packed` module reads: JSON, and the code of kernels in columns.

Lines of code are alike but for their numbers: `%v572 = mul i64 %v110, %a16` has the form `%v· = mul i64 %v·, %a·`. So a
stage has its distinct forms once, and beside them columns of integers: the form of each line; its numbers, each as the
difference from the number at that place in the line of the same form before; and what else is known of lines, as
differences from line to line. Integers are zigzag LEB128, and columns are deflated.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from runtime.support.files import JsonObject, JsonValue

HOLE = "\0"  # in the form of a line, for a number
_NUMBER = re.compile(r"(?<![0-9])(?:0|[1-9][0-9]{0,8})(?![0-9])")
_NOTHING: JsonObject = {"text": ""}  # of a kernel that lacks a stage
_OF_LINES = ("statements", "origins", "offsets")


def packed_json(value: JsonValue) -> str:
    """Base64 of deflated JSON."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _packed(text.encode("utf-8", "backslashreplace"))


def packed_code(code: Mapping[str, JsonObject]) -> JsonObject:
    """The code of kernels: their symbols, and by stage forms, labels, `sizes` (lines and numbers) and columns."""
    stages = dict.fromkeys(stage for stages in code.values() for stage in stages)
    found: dict[str, JsonValue] = {"symbols": list(code)}
    for stage in stages:
        found[stage] = _packed_stage([kernel.get(stage, _NOTHING) for kernel in code.values()])
    return found


def _packed_stage(kernels: Sequence[JsonValue]) -> JsonObject:
    forms: dict[str, int] = {}
    chosen: list[int] = []
    numbers: list[int] = []
    sizes: list[int] = []
    columns: dict[str, list[int]] = {name: [] for name in _OF_LINES}
    labels: list[JsonValue] = []
    for kernel in kernels:
        assert isinstance(kernel, dict)
        lines, before = str(kernel["text"]).split("\n"), len(numbers)
        chosen += _lines_to_numbers(lines, forms, numbers)
        sizes += [len(lines), len(numbers) - before]
        labels.append(kernel.get("labels"))
        for name, column in columns.items():
            column += _differences(kernel.get(name), len(lines))
    written = {"sizes": sizes, "chosen": chosen, "numbers": numbers, **columns}
    packed: dict[str, JsonValue] = {name: _packed(varints(column)) for name, column in written.items()}
    has_offsets = any(isinstance(kernel, dict) and "offsets" in kernel for kernel in kernels)
    return {"forms": packed_json(list(forms)), "labels": packed_json(labels), "offset": has_offsets, **packed}


def _lines_to_numbers(lines: Sequence[str], forms: dict[str, int], numbers: list[int]) -> list[int]:
    """The form of each line; `forms` gets the new ones, and `numbers` all numbers of the lines."""
    chosen: list[int] = []
    before: dict[int, list[int]] = {}
    for line in lines:
        own = [int(text) for text in _NUMBER.findall(line)]
        form = forms.setdefault(_NUMBER.sub(HOLE, line), len(forms))
        last = before.get(form)
        numbers += own if last is None else [new - old for new, old in zip(own, last, strict=True)]
        before[form] = own
        chosen.append(form)
    return chosen


def _differences(values: JsonValue, count: int) -> Iterable[int]:
    """From each value to the next, beginning at 0; no value counts as -1."""
    whole = [value if isinstance(value, int) else -1 for value in values] if isinstance(values, list) else [-1] * count
    return (new - old for old, new in pairwise((0, *whole)))


def varints(values: Iterable[int]) -> bytes:
    """Zigzag LEB128: seven bits a byte, the lowest first."""
    out = bytearray()
    for value in values:
        rest = value << 1 if value >= 0 else (-value << 1) - 1
        while rest >= 128:
            out.append(rest & 127 | 128)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()
