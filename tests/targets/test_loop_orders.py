"""The loop order of a product follows from its operands: which passes turn its loops, each of which serves some."""

from __future__ import annotations

import pytest
from loop_orders import LOOP_ORDERS, loop_order_of

from compiler.loops.ir import ContractedAxis, ContractionKernel, TileContract
from compiler.machine import AVX512
from compiler.targets.cpu.products.ir import Circumstances
from compiler.types import BatchExtent, DType, Extent


def contract(m: Extent, n: int, k: tuple[ContractedAxis, ...], lhs_m: int, rhs_n: int, parts: int = 1) -> TileContract:
    return TileContract(0, 1, 2, m, n, k, (), 0, 0, lhs_m, rhs_n, 1, DType.F32, parts)


LARGE = ContractedAxis(2048, 1, 2048)
ALONG_ROWS = ContractedAxis(2048, 2048, 2048)
OVER_BATCH = (ContractedAxis(BatchExtent(1), 9000, 9000), ContractedAxis(9, 1000, 1000))
CASES = {
    "put_vectors_along_rows": (contract(64, 40, OVER_BATCH, 1, 1), False),
    "block_long_sum": (contract(64, 40, OVER_BATCH, 9, 1), False),
    "copy_both_operands": (contract(2048, 2048, (ALONG_ROWS,), 1, 1), False),
    "block_rows_and_sum": (contract(2048, 2048, (LARGE,), 2048, 1), True),
    "make_items": (contract(64, 64, (ContractedAxis(64, 1, 64),), 64, 1), False),
}


def test_every_order_has_a_case() -> None:
    assert tuple(CASES) == LOOP_ORDERS


@pytest.mark.parametrize("name", CASES)
def test_a_product_is_turned_by_the_pass_for_its_operands(name: str) -> None:
    of, lasts = CASES[name]
    kernel = ContractionKernel("product", (), (), (), of)
    assert loop_order_of(kernel, lasts, Circumstances(AVX512, 32)) == name
