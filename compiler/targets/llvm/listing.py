"""The machine code of a kernel, instruction by instruction, with the line of the printed loops that each serves."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence

from compiler.machine import Machine
from compiler.targets.llvm.host import detect
from compiler.targets.llvm.jit import assembly, compile_module
from compiler.targets.target import MachineInstruction

_LABEL = re.compile(r"([\w.$]+):")
_LOCATION = re.compile(r"\s+\.loc\s+\d+\s+(\d+)")
_NO_INSTRUCTION = ".#;/"  # directives, and comments as the assembly languages write them
_ARM_BYTES = 4  # of each instruction of AArch64
_MARK = "offsets of instructions: "


def listing(ir: str, symbol: str, machine: Machine) -> tuple[MachineInstruction, ...]:
    """The instructions of the function `symbol` of a module, with those of its parts, `symbol.…`."""
    text = assembly(ir, machine).splitlines()
    found = list(_instructions(text, symbol))
    offsets = _offsets(text, [number for number, _, _ in found], machine)
    here = {label for _, _, labels in found for label in labels}
    named = {name for number, _, _ in found for name in re.findall(r"[\w.$]+", text[number]) if name in here}
    return tuple(
        MachineInstruction(offset, text[number].strip(), line, tuple(label for label in labels if label in named))
        for (number, line, labels), offset in zip(found, offsets, strict=True)
    )


def _instructions(text: Sequence[str], symbol: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """The line of each instruction in the assembly, its line in the loops, and the labels before it."""
    inside, line = False, 0
    labels: list[str] = []
    for number, row in enumerate(text):
        if label := _LABEL.match(row):
            begins = label[1].lstrip("_").partition(".")[0] == symbol
            inside = (inside or begins) and "func_end" not in label[1]
            labels = [*labels, label[1]] if inside else []
        elif location := _LOCATION.match(row):
            line = int(location[1])
        elif inside and row.startswith("\t") and row[1] not in _NO_INSTRUCTION:
            yield number, line, tuple(labels)
            labels = []


def _offsets(text: Sequence[str], numbers: Sequence[int], machine: Machine) -> Sequence[int | None]:
    """Where the instructions in these lines begin: the assembly again, with a label at each and a table of them."""
    if machine.is_arm:
        return range(0, _ARM_BYTES * len(numbers), _ARM_BYTES)
    if machine.triple != detect().triple:
        return [None] * len(numbers)  # this LLVM reads assembly of its own computer only
    chosen = {number: f"Loffset{k}" for k, number in enumerate(numbers)}
    rows: list[str] = []
    for number, row in enumerate(text):
        rows += [f"{chosen[number]}:", row] if number in chosen else [row]
    rows += ["\t.data", f'\t.ascii "{_MARK}"', *(f"\t.long {label}-Loffset0" for label in chosen.values())]
    quoted = (row.replace("\\", "\\5C").replace('"', "\\22").replace("\t", "\\09") for row in rows)
    image = compile_module("\n".join(f'module asm "{row}"' for row in quoted), machine)
    return struct.unpack_from(f"<{len(numbers)}i", image, image.index(_MARK.encode()) + len(_MARK))
