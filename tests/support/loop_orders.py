"""The loop orders of products, each named by the pass that makes it."""

from __future__ import annotations

from compiler.loops.ir import ContractionKernel
from compiler.targets.cpu.products.ir import Circumstances
from compiler.targets.cpu.products.passes import PASSES, definition

LOOP_ORDERS = ("put_vectors_along_rows", "block_long_sum", "copy_both_operands", "block_rows_and_sum", "make_items")


def loop_order_of(kernel: ContractionKernel, lasts: bool, given: Circumstances) -> str:
    """The only one of these passes that turns the loops of the product."""
    product, found = definition(kernel, lasts), list[str]()
    for each in PASSES:
        following = each.run(product, given)
        found += [each.name] if following != product and each.name in LOOP_ORDERS else []
        product = following
    (name,) = found
    return name
