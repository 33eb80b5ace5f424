"""A loop of the execution plan as one kernel, as LLVM text: its blocks go through the steps, and wait for each other.

The nests of its calls are written one behind the other into the same function, each with names of its own. A block of
the loop does the blocks of a call by turns, beginning where the call before left off, so that none has more than one
more than another in a level. Words of calls stand one behind the other in the kernel's parameter, as in the first step;
those that move are computed from the number of the step where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from compiler.nest import ir
from compiler.support.record import mutable_record, record
from compiler.targets.gpu.device import BLOCK_THREADS
from compiler.targets.gpu.grid_barrier import Waiting, grid_barrier, open_barriers
from compiler.targets.gpu.loop_steps import Steps
from compiler.targets.gpu.text import shared_bytes
from compiler.targets.llvm.text import NAMES, Text
from compiler.targets.llvm.to_llvm import WRITERS, Names, Walk, Writers
from compiler.types import BatchExtent, Extent

COPY = "dlc_copy"


@record(eq=False)
class LoopCall:
    """A call in a loop: its blocks, the first of its words, by how much each moves with each step of the loops around
    it, and its nest, or None for one that copies bytes."""

    extent: Extent
    chunk: int
    factor: int
    first: int
    advances: tuple[tuple[int, ...], ...]
    nest: ir.Nest | None

    @property
    def words(self) -> int:
        """Behind them stands the extent, where it depends on the batch."""
        return len(self.advances) + isinstance(self.extent, BatchExtent)


@record(eq=False)
class LoopPlan:
    """What the text of a loop is made of: its steps, its calls by their lines, and all words, of which the last is the
    address of the counter."""

    steps: Steps
    calls: Mapping[int, LoopCall]

    @property
    def words(self) -> int:
        return sum(call.words for call in self.calls.values()) + 1

    @property
    def joined(self) -> ir.Nest:
        """A nest with the statements of all calls, for questions about what they need; it does not run."""
        nests = [call.nest for call in self.calls.values() if call.nest is not None]
        body = [statement for nest in nests for statement in nest.body]
        scratch = max((nest.scratch_bytes for nest in nests), default=0)
        return ir.Nest((), ir.Items(1), body, 0, frozenset(), scratch, 0)


@mutable_record
class _CallWalk(Walk):
    """The walk over the nest of a call. Its instructions name no line, as they are of several kernels."""

    call: LoopCall = field(kw_only=True)
    block: str = field(kw_only=True)
    steps: Sequence[str] = field(kw_only=True)  # the numbers of the steps of the loops around it

    def at(self, line: int) -> None:
        pass


def write_loop(text: Text, plan: LoopPlan, writers: Writers, waiting: Waiting) -> None:
    """The body of a function with `%args`, `%thread`, `%block` and `%blocks`, where it is and how many there are."""
    place = text.let(f"getelementptr i64, ptr %args, i64 {plan.words - 1}", "a")
    text.line(f"%counter = load ptr, ptr {place}, align 8")
    open_barriers(text)
    _Loop(text, plan, writers, waiting).steps(plan.steps, ())


@record(eq=False)
class _Loop:
    text: Text
    plan: LoopPlan
    writers: Writers
    waiting: Waiting

    def steps(self, steps: Steps, around: Sequence[str]) -> None:
        def step(index: str, _: list[str]) -> list[str]:
            for level in steps.levels:
                self.level(level, (*around, index))
            return []

        self.text.loop("0", str(steps.count), 1, [], step)

    def level(self, level: Sequence[int | Steps], around: Sequence[str]) -> None:
        place, is_shared = "%block", False
        for item in level:
            if isinstance(item, Steps):
                self.steps(item, around)
                continue
            call = self.plan.calls[item]
            place = self.blocks(call, place, around, is_shared)
            is_shared |= call.nest is not None and shared_bytes(call.nest) > 0
        if not isinstance(level[-1], Steps):  # whose last level ends with a barrier
            grid_barrier(self.text, self.waiting)

    def blocks(self, call: LoopCall, place: str, around: Sequence[str], is_shared: bool) -> str:
        """The blocks of a call that are this block's, from `place` on; its place among those of the next call.

        `is_shared`: whether a call before it in the level uses the memory of a block.
        """
        if call.nest is None:
            self.copy(call, around)
            return place
        text = self.text
        count, nest = self.count(call), call.nest
        before, (head, inside, leave) = text.block, map(text.label, ("blocks", "block", "done"))
        text.line(f"br label %{head}")
        text.start(head)
        block, following = text.fresh("b"), text.fresh("n")
        mark = len(text.lines)
        text.lines.append("")
        text.line(f"br i1 {text.let(f'icmp slt i64 {block}, {count}')}, label %{inside}, label %{leave}")
        text.start(inside)
        if shared_bytes(nest):  # which threads may still read, where it was used since the last barrier
            is_next = "true" if is_shared else text.let(f"icmp ne i64 {block}, {place}")
            text.when(is_next, lambda: self.waiting.meet(text))
        given = zip(ir.GIVEN, ("%begin", "%end", "%scratch"), strict=True)
        writers = {**WRITERS, **self.writers, ir.Given: ("", _given), ir.Ordinal: ("", _ordinal)}
        writers[ir.Barrier] = ("", self.barrier)
        _CallWalk(text, Names(given), writers, call=call, block=block, steps=around).all(nest.body)
        text.line(f"{following} = add i64 {block}, %blocks")
        text.lines[mark] = f"  {block} = phi i64 [ {place}, %{before} ], [ {following}, %{text.block} ]"
        text.line(f"br label %{head}")
        text.start(leave)
        return text.let(f"sub i64 {block}, {count}")

    def barrier(self, walk: Walk, _: ir.Barrier) -> None:
        self.waiting.meet(walk.text)

    def count(self, call: LoopCall) -> str:
        """How many blocks a call has."""
        text, extent = self.text, call.extent
        if isinstance(extent, int):
            return str(-(-extent // call.chunk) * call.factor)
        count = word(text, call.first + len(call.advances), "i64")
        if call.chunk > 1:
            count = text.let(f"udiv i64 {text.let(f'add i64 {count}, {call.chunk - 1}')}, {call.chunk}")
        return count if call.factor == 1 else text.let(f"mul i64 {count}, {call.factor}")

    def copy(self, call: LoopCall, around: Sequence[str]) -> None:
        """All blocks copy bytes together."""
        text, types = self.text, ("ptr", "ptr", "i64")
        target, source, size = (moved(text, call, slot, type_, around) for slot, type_ in enumerate(types))
        before = text.let(f"mul i64 %block, {BLOCK_THREADS}")
        first, step = text.let(f"add i64 {before}, %thread"), text.let(f"mul i64 %blocks, {BLOCK_THREADS}")
        text.line(f"call void @copy(ptr {target}, ptr {source}, i64 {size}, i64 {first}, i64 {step})")


def word(text: Text, number: int, type_: str) -> str:
    return text.let(f"load {type_}, ptr {text.let(f'getelementptr i64, ptr %args, i64 {number}', 'a')}, align 8")


def moved(text: Text, call: LoopCall, slot: int, type_: str, steps: Sequence[str]) -> str:
    """A word of a call at its place of the loops around it."""
    terms = [(step, by) for step, by in zip(steps, call.advances[slot], strict=False) if by]
    if not terms:
        return word(text, call.first + slot, type_)
    products = [text.let(f"mul i64 {step}, {by}") for step, by in terms]
    distance = products[0]
    for product in products[1:]:
        distance = text.let(f"add i64 {distance}, {product}")
    if type_ == "ptr":
        return text.let(f"getelementptr i8, ptr {word(text, call.first + slot, type_)}, i64 {distance}")
    found = text.let(f"add i64 {word(text, call.first + slot, 'i64')}, {distance}")
    return found if type_ == "i64" else text.let(f"trunc i64 {found} to {type_}")


def _given(walk: _CallWalk, statement: ir.Given) -> None:
    type_ = NAMES[statement.result.type]
    walk.names[statement.result] = moved(walk.text, walk.call, statement.slot, type_, walk.steps)


def _ordinal(walk: _CallWalk, statement: ir.Ordinal) -> None:
    walk.names[statement.result] = walk.block if statement.of == "block" else f"%{statement.of}"


def copies_bytes(plan: LoopPlan) -> bool:
    return any(call.nest is None for call in plan.calls.values())
