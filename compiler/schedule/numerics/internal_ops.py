"""The ops that a graph has only after its order is fixed: `fix_numerics` and `rematerialise` introduce them."""

from __future__ import annotations

from compiler.graph.op import Op
from compiler.schedule.numerics.internal_op import After, Copy
from compiler.schedule.numerics.ordered import OrderedContraction
from compiler.schedule.numerics.placement import Empty, Insert, Pick
from compiler.schedule.numerics.product_sum import ProductSum
from compiler.schedule.numerics.split_k import SplitContraction

INTERNAL_OPS: tuple[type[Op], ...] = (
    Copy,
    Empty,
    Insert,
    Pick,
    SplitContraction,
    OrderedContraction,
    ProductSum,
    After,
)
