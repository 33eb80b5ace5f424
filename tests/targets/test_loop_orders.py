"""The loop order of a product follows from its operands, the first that fits being taken; each is taken by some."""

from __future__ import annotations

import pytest

from compiler.loops.ir import ContractedAxis, ContractionKernel, TileContract
from compiler.machine import AVX512
from compiler.targets.cpu.products.emit import LOOP_ORDERS, Product, loop_order_of
from compiler.targets.cpu.tiles import tiling
from compiler.types import BatchExtent, DType, Extent


def contract(m: Extent, n: int, k: tuple[ContractedAxis, ...], lhs_m: int, rhs_n: int, parts: int = 1) -> TileContract:
    return TileContract(0, 1, 2, m, n, k, (), 0, 0, lhs_m, rhs_n, 1, DType.F32, parts)


LARGE = ContractedAxis(2048, 1, 2048)
ALONG_ROWS = ContractedAxis(2048, 2048, 2048)
OVER_BATCH = (ContractedAxis(BatchExtent(1), 9000, 9000), ContractedAxis(9, 1000, 1000))
CASES = {
    "vectors along the rows": (contract(64, 40, OVER_BATCH, 1, 1), False),
    "blocks of a long sum": (contract(64, 40, OVER_BATCH, 9, 1), False),
    "both operands copied": (contract(2048, 2048, (ALONG_ROWS,), 1, 1), False),
    "blocks of rows and sum": (contract(2048, 2048, (LARGE,), 2048, 1), True),
    "tile after tile": (contract(64, 64, (ContractedAxis(64, 1, 64),), 64, 1), False),
}


def test_every_order_has_a_case() -> None:
    assert [order.name for order in LOOP_ORDERS] == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_first_order_that_fits_is_taken(name: str) -> None:
    of, lasts = CASES[name]
    assert (
        loop_order_of(
            Product(ContractionKernel("product", (), (), (), of), tiling(of, AVX512, 32), 32, lasts, AVX512.tuning)
        ).name
        == name
    )
