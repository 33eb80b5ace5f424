"""The origins of each statement of a kernel: those of the node that it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from compiler.graph.ir import Node, Origin
from compiler.loops.ir import (
    BatchCount,
    Compute,
    Kernel,
    Literal,
    Load,
    Position,
    Random,
    Reduce,
    Statement,
    Store,
    TileContract,
    statements_of,
)


def statement_origins(kernel: Kernel, nodes: Mapping[int, Node]) -> tuple[tuple[Origin, ...], ...]:
    """The origins of the statements, in the order of `statements_of`; `nodes` has the node of a statement by its `id`.

    A statement without a node, such as the load of an operand, serves the nodes that use its value.
    """
    served: dict[int, tuple[Origin, ...]] = {}
    found: list[tuple[Origin, ...]] = []
    for statement in reversed(statements_of(kernel)):
        node = nodes.get(id(statement))
        result = -1 if isinstance(statement, Store | TileContract) else statement.result
        origins = served.get(result, ()) if node is None else node.origins
        found.append(origins)
        for value in used_by(statement):
            known = served.get(value, ())
            served[value] = tuple(dict.fromkeys((*known, *origins))) if known else origins
    return tuple(reversed(found))


def used_by(statement: Statement) -> tuple[int, ...]:
    """The values that a statement uses."""
    match statement:
        case Load(index=index):
            return () if index is None else (index,)
        case Compute(operands=operands):
            return operands
        case Random(position=position, seed=seed, step=step):
            return position, seed, step
        case Reduce(operand=operand, factor=factor):
            return (operand,) if factor is None else (operand, factor)
        case Store(value=value, index=index):
            return (value,) if index is None else (value, index)
        case Literal() | Position() | BatchCount() | TileContract():
            return ()
        case _:
            assert_never(statement)
