"""The lanes of vectors that something uses, where they are fewer than all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from compiler.nest import ir
from compiler.nest.ir import Constant, Operand, Statement, Value
from compiler.support.record import record

_Lanes: TypeAlias = frozenset[int]


@record
class Used:
    """Lanes that something uses: of them, those where `mask` holds, if there is one."""

    lanes: _Lanes = frozenset()
    mask: Value | None = None

    def __or__(self, other: Used) -> Used:
        if not self.lanes or not other.lanes:
            return self if self.lanes else other
        return Used(self.lanes | other.lanes, self.mask if self.mask is other.mask else None)


def used_lanes(body: Sequence[Statement]) -> dict[int, Used]:
    """By the number of a value. Results are used behind their statements, so the last one is looked at first."""
    used: dict[int, Used] = {}
    for statement in reversed([*all_statements(body)]):
        for operand, use in _uses(statement, used):
            if isinstance(operand, Value):
                used[operand.number] = used.get(operand.number, Used()) | use
    return used


def all_statements(body: Sequence[Statement]) -> Iterator[Statement]:
    """The statements of a body, each behind those inside of it."""
    for statement in body:
        if isinstance(statement, ir.Loop | ir.Guard):
            yield from all_statements(statement.body)
        yield statement


def _uses(statement: Statement, used: dict[int, Used]) -> Iterable[tuple[Operand, Used]]:
    """The operands of a statement with the lanes that it uses, as far as they may be vectors."""
    match statement:
        case ir.Shuffle(result=result, left=left, right=right, picks=picks):
            lanes = ir.type_of(left).lanes
            taken = [picks[k] for k in used.get(result.number, Used()).lanes]
            below, beyond = (frozenset(k for k in some if k >= 0) for some in (taken, (k - lanes for k in taken)))
            sides = (left, Used(frozenset(k for k in below if k < lanes))), (right, Used(beyond))
            return [(side, use) for side, use in sides if side is not None]
        case ir.Store(value=value, mask=mask) | ir.Scatter(value=value, mask=mask):
            return [(value, _kept(mask, Used(_all(value)))), *([] if mask is None else [(mask, Used(_all(mask)))])]
        case ir.CopyAhead(targets=targets, sources=sources, kept=kept):
            return [(operand, Used(_all(operand))) for operand in (targets, sources, kept)]
        case ir.MultiplyMatrices(left=left, right=right, sums=sums):
            return [(operand, Used(_all(operand))) for operand in (*left, *right, *sums)]
        case ir.Binary(op="and", result=result, left=left, right=Constant() as right):
            return [(left, _kept(right, used.get(result.number, Used())))]
        case ir.Select(result=result, condition=condition, yes=yes, no=no) if ir.type_of(condition).lanes > 1:
            use = used.get(result.number, Used())
            return [(condition, use), (yes, _kept(condition, use)), (no, use)]
        case ir.Select(condition=condition, yes=yes, no=no):
            operands = condition, yes, no
        case ir.Binary(left=left, right=right) | ir.Compare(left=left, right=right):
            operands = left, right
        case ir.Fma(left=left, right=right, addend=addend) | ir.PairFma(left=left, right=right, addend=addend):
            operands = left, right, addend
        case ir.Elementwise(operands=operands):
            pass
        case ir.Convert(value=value) | ir.RoundFactor(value=value):
            operands = (value,)
        case ir.Any(mask=value) | ir.Lane(vector=value) | ir.Bits(value=value) | ir.Rounded(value=value):
            return [(value, Used(_all(value)))]
        case ir.Loop(initial=initial, following=following):
            return [(operand, Used(_all(operand))) for operand in (*initial, *following)]
        case _:
            return []
    return [(operand, used.get(statement.result.number, Used())) for operand in operands]


def _all(operand: Operand) -> _Lanes:
    return frozenset(range(ir.type_of(operand).lanes))


def _kept(mask: Operand | None, use: Used) -> Used:
    """What a mask leaves of the use of a result."""
    if isinstance(mask, Value):
        return Used(use.lanes, mask)
    if isinstance(mask, Constant) and isinstance(mask.value, tuple):
        return Used(use.lanes & frozenset(k for k, is_kept in enumerate(mask.value) if is_kept), use.mask)
    return use
