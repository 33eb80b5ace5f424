"""The ops that a graph has only after its order is fixed: `fix_numerics` and `rematerialise` introduce them."""

from __future__ import annotations

from compiler.graph.op import Op
from compiler.schedule.after import After
from compiler.schedule.copy import Copy
from compiler.schedule.ordered import OrderedContraction
from compiler.schedule.placement import Empty, Insert, Pick
from compiler.schedule.product_sum import ProductSum
from compiler.schedule.split_k import SplitContraction

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
