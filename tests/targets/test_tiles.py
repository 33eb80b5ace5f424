"""How products are cut into tiles: what a single row costs is the memory that its weights are read from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compiler.loops.ir import ContractedAxis, OuterAxis, TileContract
from compiler.machine import AVX2, AVX512, CORTEX_M4, NEON, WASM, Machine
from compiler.support.numerics import LANES
from compiler.targets.cpu.products.ask_ahead import streams
from compiler.targets.cpu.products.block_rows_and_sum import fall_together
from compiler.targets.cpu.products.put_vectors_along_rows import runs_along_rows, strip_shape
from compiler.targets.cpu.tiles import TileShape, tiling
from compiler.types import BatchExtent, DType


def product(m: int, n: int, k: int, outer: tuple[OuterAxis, ...] = ()) -> TileContract:
    return TileContract(0, 1, 2, m, n, (ContractedAxis(k, 1, n),), outer, 0, 0, k, 1, 1, DType.F32)


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON], ids=lambda machine: machine.triple)
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("columns", [256, 320, 384, 512, 640, 768, 1024, 1536, 3072])
def test_threads_read_equally_much_of_the_weights_of_few_rows(columns: int, rows: int, machine: Machine) -> None:
    cut = tiling(product(rows, columns, 384), machine, 1)
    assert cut.shape.rows == rows
    assert cut.panels % 2 == 0
    assert cut.panels * cut.shape.width <= 1.07 * columns, "a panel is read to its end"


def test_a_narrow_product_is_one_panel() -> None:
    assert tiling(product(1, 65, 384), AVX512, 1).panels == 1


def test_products_that_differ_by_head_read_whole_rows() -> None:
    """Such an operand is not packed: the stretches of a row that lie side by side are as long as registers allow."""
    heads = (OuterAxis(6, 64, 64 * 256, 1),)
    assert tiling(product(1, 256, 64, heads), AVX512, 1).shape.width == 256


def test_rows_compete_for_the_first_cache_by_its_ways() -> None:
    """48 KiB of 12 ways have a place for each of 4 KiB: rows 8 KiB apart meet there, and those of 6 KiB do not."""
    machine = replace(AVX512, l1_bytes=48 << 10, l1_ways=12)
    assert fall_together(product(2048, 2048, 2048), 14, machine)
    assert not fall_together(product(2048, 2048, 2048), 11, machine), "so many lines have room"
    assert not fall_together(product(2048, 2048, 1536), 14, machine)


def test_rows_side_by_side_share_lines() -> None:
    """They take one line or two, however few ways there are: what copies rows takes them for far from one another."""
    turned = replace(product(1024, 1024, 1024), lhs_m_stride=1, k=(ContractedAxis(1024, 1024, 1),))
    assert not fall_together(turned, 14, replace(AVX512, l1_bytes=48 << 10, l1_ways=12))


def weight_gradient(rows: int, columns: int, pixel: int) -> TileContract:
    """A sum over pixels of images of 32 x 32, the next of which is `pixel` elements away."""
    axes = tuple(
        ContractedAxis(extent, places * pixel, places * columns)
        for extent, places in ((BatchExtent(), 1024), (32, 32), (32, 1))
    )
    return TileContract(0, 1, 2, rows, columns, axes, (), 0, 0, 1, 1, 1, DType.F32)


@pytest.mark.parametrize(
    ("rows", "columns", "shape"),
    [(192, 64, TileShape(8, 3)), (768, 256, TileShape(8, 3)), (256, 64, TileShape(8, 2)), (48, 16, TileShape(8, 3))],
)
def test_strips_of_weight_gradients_leave_little_over(rows: int, columns: int, shape: TileShape) -> None:
    contract = weight_gradient(rows, columns, rows)
    assert runs_along_rows(contract, AVX512.tuning)
    assert strip_shape(contract, AVX512) == shape


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON], ids=lambda machine: machine.triple)
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_the_sums_of_a_strip_stay_in_registers(machine: Machine, dtype: DType) -> None:
    shape = strip_shape(replace(weight_gradient(192, 64, 64), dtype=dtype), machine)
    assert shape is not None
    vectors = shape.vectors * LANES * dtype.size * 8 // machine.vector_bits
    assert (shape.rows + 1) * vectors + 1 <= machine.registers, "sums, rows, and an element of a column"


@pytest.mark.parametrize(("machine", "dtype"), [(WASM, DType.F64), (CORTEX_M4, DType.F32)])
def test_where_sums_do_not_fit_into_registers_there_are_no_strips(machine: Machine, dtype: DType) -> None:
    assert strip_shape(replace(weight_gradient(192, 64, 64), dtype=dtype), machine) is None


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON], ids=lambda machine: machine.triple)
@pytest.mark.parametrize(("rows", "columns"), [(768, 256), (256, 64), (192, 64), (48, 16)])
def test_the_sums_of_a_strip_do_not_wait_for_themselves(machine: Machine, rows: int, columns: int) -> None:
    """Two multiplications a cycle, each of which takes four, need eight sums, and more where one comes late."""
    shape = strip_shape(weight_gradient(rows, columns, rows), machine)
    assert shape is not None
    assert shape.rows * shape.vectors * LANES * 32 // machine.vector_bits >= 10


def test_rows_that_would_leave_vectors_empty_are_broadcast() -> None:
    assert not runs_along_rows(weight_gradient(21, 64, 6), AVX512.tuning)  # 7 x 7 taps of 3 channels


def test_tiles_ask_for_rows_that_lie_beyond_the_second_cache() -> None:
    for rows, asks in ((25088, True), (64, False)):
        contract = product(rows, 64, 256)
        assert streams(contract, tiling(contract, AVX512, 1), AVX512.tuning) == asks
