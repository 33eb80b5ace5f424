"""The lines of an execution plan, with marks around those that a loop repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace

from compiler.schedule.ir import Loop
from compiler.support.record import mutable_record
from compiler.targets.manifest import CHAIN, CHAIN_END, END, LOOP, Entry


@mutable_record
class _Block:
    """The lines inside a loop, and the loops among them."""

    loop: int
    items: list[Entry | _Block] = field(default_factory=list["Entry | _Block"])

    def inner(self, loop: int) -> _Block:
        """The block of `loop`, which stands last here."""
        last = self.items[-1] if self.items else None
        if not isinstance(last, _Block) or last.loop != loop:
            last = _Block(loop)
            self.items.append(last)
        return last


class ExecutionPlan:
    """Takes lines in order, each with the loops around it."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops = loops
        self._root = _Block(-1)

    def add(self, entry: Entry, path: Sequence[int]) -> None:
        """Append a line inside the loops of `path`, the outermost first."""
        self._block(path).items.append(entry)

    def add_before(self, entry: Entry, path: Sequence[int]) -> None:
        """Put a line just before the innermost loop of `path`, in which the next line will stand."""
        outer = self._block(path[:-1])
        outer.inner(path[-1])
        outer.items.insert(len(outer.items) - 1, entry)

    def entries(self, first: int) -> tuple[Entry, ...]:
        """All lines, for a table in which `first` others stand before them."""
        lines: list[Entry] = []
        self._write(self._root, lines, first)
        begin = 0
        for number, line in enumerate(lines):
            if line.function == CHAIN:
                begin = number
            elif line.function == CHAIN_END:
                lines[begin] = replace(lines[begin], first_argument=first + number)
                lines[number] = replace(line, first_argument=first + begin)
        return tuple(lines)

    def _block(self, path: Sequence[int]) -> _Block:
        block = self._root
        for loop in path:
            block = block.inner(loop)
        return block

    def _write(self, block: _Block, lines: list[Entry], first: int) -> None:
        for item in block.items:
            if isinstance(item, Entry):
                lines.append(item)
                continue
            steps, begin = self._loops[item.loop].steps, len(lines)
            lines.append(Entry(LOOP, 0, steps, 1, 1, 0))
            self._write(item, lines, first)
            lines[begin] = Entry(LOOP, first + len(lines), steps, 1, 1, 0)
            lines.append(Entry(END, first + begin, steps, 1, 1, 0))
