"""Faults put into nests: a shifted address, a longer loop, a mask or a guard that is gone, another memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from compiler.nest import ir
from compiler.nest.ir import ADDRESS, TRUTH, Constant, Nest, Statement, Type, Value, Zeros

_NEXT = {"lt": "le", "le": "lt", "gt": "ge", "ge": "gt", "eq": "le", "ne": "lt", "below": "le"}


@dataclass(frozen=True)
class Mutation:
    """Another content for a field of a statement; one of `shifts` adds so much to the index that stands there."""

    kind: str
    nest: Nest
    block: list[Statement]
    statement: Any
    field: str
    content: Any = None
    shift: int = 0

    @contextmanager
    def made(self) -> Generator[None]:
        """Within, the nest is the changed one."""
        before, values = getattr(self.statement, self.field), self.nest.values
        content: Any = before + self.shift if self.shift and isinstance(before, int) else self.content
        if self.shift and isinstance(before, Value):
            content = Value(values, ir.INDEX)
            place = next(k for k, s in enumerate(self.block) if s is self.statement)
            self.block.insert(place, ir.Binary(content, self.statement.line, "add", before, self.shift))
            _set(self.nest, "values", values + 1)
        _set(self.statement, self.field, content)
        try:
            yield
        finally:
            _set(self.statement, self.field, before)
            if self.nest.values != values:
                _set(self.nest, "values", values)
                self.block[:] = [s for s in self.block if getattr(s, "result", None) is not content]


def mutations_of(nest: Nest, random: Random, count: int) -> Iterator[Mutation]:
    """Some of those of a nest and of what runs before it, of each kind as many as of others."""
    by_kind: dict[str, list[Mutation]] = {}
    for part in (nest,) if nest.before is None else (nest.before, nest):
        every = (s for _, s in _statements(part.body) if isinstance(s, ir.Given | ir.Scratch))
        memories = [s for s in every if s.result.type is ADDRESS]
        for block, statement in _statements(part.body):
            for kind, *change in _all_changes(statement, memories):
                by_kind.setdefault(kind, []).append(Mutation(kind, part, block, statement, *change))
    for _ in range(count):
        yield random.choice(by_kind[random.choice(sorted(by_kind))])


def _statements(body: list[Statement]) -> Iterator[tuple[list[Statement], Statement]]:
    for statement in body:
        yield body, statement
        if isinstance(statement, ir.Loop | ir.Guard):
            yield from _statements(statement.body)


def _all_changes(statement: Statement, memories: list[ir.Given | ir.Scratch]) -> Iterator[tuple[Any, ...]]:
    """The kind, the field, and its other content or None with a shift."""
    yield from _changes(statement)
    yield from _other_terms(statement)
    yield from _other_memories(statement, memories)


def _changes(statement: Statement) -> Iterator[tuple[Any, ...]]:
    match statement:
        case ir.Address():
            yield "address shifted", "index", None, 1
            yield "address shifted", "index", None, -1
        case ir.Scratch(start=start):
            yield "address shifted", "start", start + 4
        case ir.Binary(op="add" | "sub" | "mul" | "div" | "rem" | "min" | "max" | "and", right=int() as right):
            yield "constant of an index", "right", right + 1
            yield "constant of an index", "right", right - 1 or 2
        case ir.Loop(step=step, carried=carried):
            yield "loop longer", "stop", None, step
            yield "loop longer by one", "stop", None, 1
            yield "loop shorter", "stop", None, -1
            yield "loop begins later", "start", None, step
            yield "stride of a loop", "step", step * 2
            for k in range(len(carried)):
                following = tuple(carried[k] if n == k else f for n, f in enumerate(statement.following))
                yield "sum lost", "following", following
        case ir.Guard():
            yield "guard dropped", "condition", Constant(TRUTH, True)
            yield "guard never holds", "condition", Constant(TRUTH, False)
        case ir.Store(mask=mask) if mask is not None:
            yield "mask dropped", "mask", None
        case ir.Scatter(mask=mask) | ir.Gather(mask=mask):
            yield "mask dropped", "mask", Constant(ir.type_of(mask), True)
        case (
            ir.Fma(addend=Value(type=Type(lanes=lanes) as type_))
            | ir.PairFma(addend=Value(type=Type(lanes=lanes) as type_))
        ) if lanes > 1:
            yield "sum lost", "addend", Zeros(type_)
        case ir.Compare(relation=relation) if relation in _NEXT:
            yield "comparison", "relation", _NEXT[relation]
        case ir.Select(yes=yes):
            yield "choice dropped", "no", yes
        case ir.Shuffle(picks=picks) if len(set(picks)) > 1:
            yield "lanes turned", "picks", (*picks[1:], picks[0])
        case _:
            pass


def _other_terms(statement: Statement) -> Iterator[tuple[Any, ...]]:
    match statement:
        case ir.Binary(op="mul", right=Value()):
            yield "factor gone", "right", 1
        case ir.Binary(op="add", right=Value()):
            yield "summand gone", "right", 0
        case ir.Store(align=align, value=Value(type=Type(lanes=lanes))) if lanes > 1:
            yield "alignment", "align", 2 * align
        case _:
            pass


def _other_memories(statement: Statement, memories: list[ir.Given | ir.Scratch]) -> Iterator[tuple[Any, ...]]:
    """An access or an address that goes to another memory, which is there before it."""
    if isinstance(statement, ir.Load | ir.Store | ir.Gather | ir.Scatter):
        field = "address"
    elif isinstance(statement, ir.Address):
        field = "base"
    else:
        return
    there = getattr(statement, field)
    for memory in memories:
        if memory.result is not there:
            yield "memory swapped", field, memory.result


def _set(record: Any, field: str, content: Any) -> None:
    """Records are frozen for the type checker alone."""
    setter: Callable[[Any, str, Any], None] = setattr
    setter(record, field, content)
