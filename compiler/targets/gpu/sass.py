"""The machine code of a GPU, instruction by instruction, with the line of the printed loops that each serves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compiler.targets.gpu.toolkit import assembled, disassembled
from compiler.targets.target import MachineInstruction

_INSTRUCTION = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;")
_LABEL = re.compile(r"([\w.$]+):")
_LOCATION = re.compile(r'\s*//## File ".*", line (\d+)')
_JUMP = re.compile(r"`\(([\w.$]+)\)")
_PREDICATE = re.compile(r"(@!?\w+)\s+")


def listing(ptx: str, architecture: str) -> tuple[MachineInstruction, ...]:
    """The instructions of a module with one kernel. Raises UsageError where no assembler is at hand."""
    text = disassembled(assembled(ptx, architecture).code)
    return tuple(instructions(text))


def instructions(text: str) -> Iterator[MachineInstruction]:
    """Those of disassembled text; jumps name their labels."""
    named = set(_JUMP.findall(text))
    line, labels = 0, list[str]()
    for row in text.splitlines():
        if located := _LOCATION.match(row):
            line = int(located[1])
        elif (label := _LABEL.match(row)) and label[1] in named:
            labels.append(label[1])
        elif found := _INSTRUCTION.match(row):
            yield MachineInstruction(int(found[1], 16), _in_columns(found[2]), line, tuple(labels))
            labels = []


def _in_columns(text: str) -> str:
    """An instruction with a tab before its operands; the condition stays with the operation."""
    text = _PREDICATE.sub(r"\1 ", _JUMP.sub(r"\1", text))
    parts = text.split(" ", 2 if text.startswith("@") else 1)
    return "\t".join([" ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 + text.startswith("@") else text
