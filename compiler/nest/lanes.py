"""The lanes of vectors that something uses, where they are fewer than all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from compiler.nest import ir
from compiler.nest.ir import Constant, Operand, Statement, Value

_Lanes: TypeAlias = frozenset[int]


def used_lanes(body: Sequence[Statement]) -> dict[int, _Lanes]:
    """By the number of a value. Results are used behind their statements, so the last one is looked at first."""
    used: dict[int, _Lanes] = {}
    for statement in reversed([*all_statements(body)]):
        for operand, lanes in _uses(statement, used):
            if isinstance(operand, Value):
                used[operand.number] = used.get(operand.number, frozenset()) | lanes
    return used


def all_statements(body: Sequence[Statement]) -> Iterator[Statement]:
    """The statements of a body, each behind those inside of it."""
    for statement in body:
        if isinstance(statement, ir.Loop | ir.Guard):
            yield from all_statements(statement.body)
        yield statement


def _uses(statement: Statement, used: dict[int, _Lanes]) -> Iterable[tuple[Operand, _Lanes]]:
    """The operands of a statement with the lanes that it uses, as far as they may be vectors."""
    match statement:
        case ir.Shuffle(result=result, left=left, right=right, picks=picks):
            lanes = ir.type_of(left).lanes
            taken = [picks[k] for k in used.get(result.number, ())]
            below, beyond = (frozenset(k for k in some if k >= 0) for some in (taken, (k - lanes for k in taken)))
            return [(left, frozenset(k for k in below if k < lanes)), *([] if right is None else [(right, beyond)])]
        case ir.Store(value=value, mask=mask) | ir.Scatter(value=value, mask=mask):
            return [(value, _kept(mask, value)), *([] if mask is None else [(mask, _all(mask))])]
        case ir.Binary(op="and", result=result, left=left, right=Constant() as right):
            return [(left, used.get(result.number, frozenset()) & _kept(right, left))]
        case ir.Binary(left=left, right=right) | ir.Compare(left=left, right=right):
            operands = left, right
        case ir.Fma(left=left, right=right, addend=addend):
            operands = left, right, addend
        case ir.Elementwise(operands=operands):
            pass
        case ir.Convert(value=value):
            operands = (value,)
        case ir.Select(condition=condition, yes=yes, no=no):
            operands = condition, yes, no
        case ir.Any(mask=mask):
            return [(mask, _all(mask))]
        case ir.Loop(initial=initial, following=following):
            return [(operand, _all(operand)) for operand in (*initial, *following)]
        case ir.Lane(vector=vector):
            return [(vector, _all(vector))]
        case ir.Bits(value=value) | ir.Rounded(value=value):
            return [(value, _all(value))]
        case _:
            return []
    return [(operand, used.get(statement.result.number, frozenset())) for operand in operands]


def _all(operand: Operand) -> _Lanes:
    return frozenset(range(ir.type_of(operand).lanes))


def _kept(mask: Operand | None, value: Operand) -> _Lanes:
    """The lanes that a mask leaves; all of them where it is no constant."""
    if isinstance(mask, Constant) and isinstance(mask.value, tuple):
        return frozenset(k for k, is_kept in enumerate(mask.value) if is_kept)
    return _all(value)
