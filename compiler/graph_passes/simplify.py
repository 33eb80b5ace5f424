"""Applies the laws of the table below until none applies, in one walk: operands are simple before their users."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.graph.ir import Graph
from compiler.graph.op import Category, Op
from compiler.graph_passes import arithmetic_laws as arithmetic
from compiler.graph_passes import movement_laws as movement
from compiler.graph_passes import sum_laws as sums
from compiler.graph_passes.law import Law, Workbench
from compiler.graph_passes.movement_laws import pull_reshapes, push_broadcasts
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops import OPS, elementwise
from compiler.ops.contraction import Contraction
from compiler.ops.indexing import ScatterAdd
from compiler.ops.mathematics import Log, Power
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import Sum
from compiler.ops.sources import Iota

_LAWS: dict[type[Op], tuple[Law, ...]] = {
    elementwise.Add: (arithmetic.add, movement.sum_of_pads, movement.add_of_pads),
    elementwise.Subtract: (arithmetic.subtract,),
    elementwise.Negate: (arithmetic.negate,),
    elementwise.Multiply: (arithmetic.multiply,),
    elementwise.Divide: (arithmetic.divide,),
    Power: (arithmetic.power,),
    Log: (arithmetic.logarithm,),
    elementwise.Abs: (arithmetic.absolute,),
    elementwise.Maximum: (arithmetic.with_itself,),
    elementwise.Minimum: (arithmetic.with_itself,),
    elementwise.And: (arithmetic.with_itself, arithmetic.logic),
    elementwise.Or: (arithmetic.with_itself, arithmetic.logic),
    elementwise.Not: (arithmetic.negation,),
    elementwise.Where: (arithmetic.where,),
    elementwise.Cast: (arithmetic.cast,),
    Reshape: (movement.reshape,),
    Broadcast: (movement.broadcast,),
    Transpose: (movement.transpose,),
    Slice: (movement.slice_,),
    Pad: (movement.pad_of_empty, movement.pad),
    Concat: (movement.concat_of_empty, movement.concat),
    Reverse: (movement.reverse,),
    Iota: (movement.iota,),
    Contraction: (movement.sum_of_empty,),
    ScatterAdd: (movement.scatter_of_empty,),
    Sum: (
        movement.sum_of_empty,
        sums.sum_over_units,
        sums.sum_of_sum,
        sums.sum_of_broadcast,
        sums.sum_of_transpose,
        sums.sum_of_reshape,
        sums.sum_of_negation,
        sums.sum_of_scaled,
        sums.sum_of_product,
    ),
}


def _laws_of(op: type[Op]) -> tuple[Law, ...]:
    """An elementwise op folds constants first; last it computes before tensors are broadcast or reshaped."""
    own = _LAWS.get(op, ())
    if op.category is not Category.ELEMENTWISE:
        return own
    return arithmetic.fold_constants, *own, push_broadcasts, pull_reshapes


LAWS: Mapping[type[Op], tuple[Law, ...]] = {op: _laws_of(op) for op in OPS}


def simplify(graph: Graph, becomes_double: bool = False) -> Graph:
    """`becomes_double`: each f32 will be an f64, so constants keep the digits that only these have."""
    rewriting = Rewriting(graph)
    return rewriting.each(Workbench(rewriting.builder, LAWS, becomes_double).simplified)
