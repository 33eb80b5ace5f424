"""Walks that passes over products share: over all statements, and along the loops that lead to a tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from compiler.targets.cpu.products import ir


def statements_of(body: Sequence[ir.Statement]) -> Iterator[ir.Statement]:
    """All statements, each before those that stand in it."""
    for statement in body:
        yield statement
        if isinstance(statement, ir.Compound):
            yield from statements_of(statement.body)


def rewritten(
    body: Sequence[ir.Statement], change: Callable[[ir.Statement], Sequence[ir.Statement]]
) -> tuple[ir.Statement, ...]:
    """Each statement replaced by those that `change` makes of it, the inner ones first."""
    found: list[ir.Statement] = []
    for statement in body:
        if isinstance(statement, ir.Compound):
            statement = replace(statement, body=rewritten(statement.body, change))
        found += change(statement)
    return tuple(found)


def with_multiply(product: ir.ProductLoops, change: Callable[[ir.Multiply], Sequence[ir.Statement]]) -> ir.ProductLoops:
    """Each multiplication replaced."""
    body = rewritten(product.body, lambda s: change(s) if isinstance(s, ir.Multiply) else (s,))
    return replace(product, body=body)


def loops_to_tile(product: ir.ProductLoops) -> tuple[list[ir.Loop], tuple[ir.Statement, ...]]:
    """The loops, each in the one before it, that lead to the statements of a tile, and these."""
    loops, body = list[ir.Loop](), product.body[-1:]
    while len(body) == 1 and isinstance(loop := body[0], ir.Loop):
        loops.append(loop)
        body = loop.body
    return loops, body


def nested(loops: Sequence[ir.Loop], body: Sequence[ir.Statement]) -> ir.Loop:
    """The loops, each in the one before it, around the body."""
    *around, last = loops
    loop = replace(last, body=tuple(body))
    for outer in reversed(around):
        loop = replace(outer, body=(loop,))
    return loop


def loops_over(product: ir.ProductLoops, axis: ir.Axis) -> list[ir.Loop]:
    """The loops over an axis, the outermost first."""
    return [s for s in statements_of(product.body) if isinstance(s, ir.Loop) and s.axis is axis]


def has_loop(product: ir.ProductLoops, axis: ir.Axis) -> bool:
    return bool(loops_over(product, axis))


def packs_all_panels(product: ir.ProductLoops) -> bool:
    return any(isinstance(statement, ir.PackAllPanels) for statement in product.body)


def item_loops(loop: ir.Loop) -> tuple[list[ir.Loop], tuple[ir.Statement, ...]]:
    """The loops of items, each in the one before it, and the statements of an item."""
    loops, body = [loop], loop.body
    while len(body) == 1 and isinstance(inner := body[0], ir.Loop) and inner.kind is ir.Kind.ITEMS:
        loops.append(inner)
        body = inner.body
    return loops, body
