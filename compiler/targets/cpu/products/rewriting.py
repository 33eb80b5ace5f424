"""What passes over products share: a walk over all statements, and the nest of loops that leads to a tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from compiler.targets.cpu.products.ir import (
    Axis,
    Join,
    Kind,
    Loop,
    Multiply,
    PackAllPanels,
    ProductLoops,
    Statement,
    When,
)


def statements_of(body: Sequence[Statement]) -> Iterator[Statement]:
    """All statements, each before those that stand in it."""
    for statement in body:
        yield statement
        if isinstance(statement, Loop | Join | When):
            yield from statements_of(statement.body)


def rewritten(body: Sequence[Statement], change: Callable[[Statement], Sequence[Statement]]) -> tuple[Statement, ...]:
    """Each statement replaced by those that `change` makes of it, the inner ones first."""
    found: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop | Join | When):
            statement = replace(statement, body=rewritten(statement.body, change))
        found += change(statement)
    return tuple(found)


def with_multiply(product: ProductLoops, change: Callable[[Multiply], Sequence[Statement]]) -> ProductLoops:
    """Each multiplication replaced."""
    body = rewritten(product.body, lambda s: change(s) if isinstance(s, Multiply) else (s,))
    return replace(product, body=body)


def loops_to_tile(product: ProductLoops) -> tuple[list[Loop], tuple[Statement, ...]]:
    """The loops, each in the one before it, that lead to the statements of a tile, and these."""
    loops, body = list[Loop](), product.body[-1:]
    while len(body) == 1 and isinstance(loop := body[0], Loop):
        loops.append(loop)
        body = loop.body
    return loops, body


def nested(loops: Sequence[Loop], body: Sequence[Statement]) -> Loop:
    """The loops, each in the one before it, around the body."""
    *around, last = loops
    loop = replace(last, body=tuple(body))
    for outer in reversed(around):
        loop = replace(outer, body=(loop,))
    return loop


def loops_over(product: ProductLoops, axis: Axis) -> list[Loop]:
    """The loops over an axis, the outermost first."""
    return [s for s in statements_of(product.body) if isinstance(s, Loop) and s.axis is axis]


def has_loop(product: ProductLoops, axis: Axis) -> bool:
    return bool(loops_over(product, axis))


def packs_all_panels(product: ProductLoops) -> bool:
    return any(isinstance(statement, PackAllPanels) for statement in product.body)


def item_loops(loop: Loop) -> tuple[list[Loop], tuple[Statement, ...]]:
    """The loops of items, each in the one before it, and what an item does."""
    loops, body = [loop], loop.body
    while len(body) == 1 and isinstance(inner := body[0], Loop) and inner.kind is Kind.ITEMS:
        loops.append(inner)
        body = inner.body
    return loops, body
