"""The law that computes values of constants alone at compile time."""

from __future__ import annotations

import numpy as np

from compiler.graph.ir import Node, Value
from compiler.graph.op import Op
from compiler.graph_passes.convert_dtype import converted, converted_op
from compiler.graph_passes.law import Workbench
from compiler.ops.build import spread
from compiler.ops.elementwise import (
    Abs,
    Add,
    And,
    Cast,
    Divide,
    Equal,
    Floor,
    FloorDivide,
    FusedMultiplyAdd,
    Less,
    LessEqual,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Not,
    NotEqual,
    Or,
    Subtract,
    Where,
)
from compiler.ops.mathematics import Sqrt
from compiler.ops.sources import Constant
from compiler.ops.spreading import Broadcast
from compiler.types import DType, numpy_dtype

# Only ops whose result is exactly rounded: NumPy and machine code then agree to the bit, so that a setting gives the
# same bits whether it is a constant of the program or an argument.
_EXACT: frozenset[type[Op]] = frozenset(
    (
        Abs,
        Add,
        And,
        Cast,
        Divide,
        Equal,
        Floor,
        FloorDivide,
        FusedMultiplyAdd,
        Less,
        LessEqual,
        Maximum,
        Minimum,
        Multiply,
        Negate,
        Not,
        NotEqual,
        Or,
        Sqrt,
        Subtract,
        Where,
    )
)


def fold_constants(bench: Workbench, node: Node) -> Value | None:
    """op(constants) -> constant, broadcast to the shape if the constants were."""
    builder = bench.builder
    if node.op.__class__ not in _EXACT:
        return None
    constants: list[Constant] = []
    for operand in node.operands:
        definition = builder.definition(operand)
        if definition is not None and isinstance(definition.op, Broadcast):
            definition = builder.definition(definition.operands[0])
        if definition is None or not isinstance(definition.op, Constant) or definition.op.dtype is DType.BF16:
            return None
        constants.append(definition.op)
    type_ = node.results[0].type
    op = node.op
    if bench.becomes_double:
        op = converted_op(op, DType.F64)
        constants = [Constant(c.value, converted(c.dtype, DType.F64)) for c in constants]
    operands = [np.array(c.value, numpy_dtype(c.dtype)) for c in constants]
    with np.errstate(all="ignore"):
        (result,) = op.evaluate(operands, 1)
    return spread(builder, builder.emit(Constant(result.item(), type_.dtype)), type_.shape)
