"""Triangular products through shared memory: what a mask hides is not added, and whole tiles of it are skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from comparisons import assert_same_bits
from emulated import emulated, lowered_for_device
from masked_products import BATCH, attention, inputs
from native import host

from compiler.driver import Options
from compiler.loops.ir import ContractedAxis, TileContract, Triangle, contraction_of
from compiler.machine import Machine
from compiler.nest import ir
from compiler.nest.builder import Builder
from compiler.nest.ir import Index, Statement, Value
from compiler.programs.executables import executable
from compiler.targets.gpu import lower
from compiler.targets.gpu.block_places import Place
from compiler.targets.gpu.block_shapes import SHAPES, BlockShape
from compiler.targets.gpu.block_sums import SumWalk
from compiler.targets.gpu.device import SM_75, SM_80
from compiler.targets.gpu.text import host_text
from compiler.types import DType, numpy_dtype

DEVICES = pytest.mark.parametrize("machine", [SM_75, SM_80], ids=["sm_75", "sm_80"])
TEXT = partial(host_text, machine=host(), is_strict=True)
NUMBERS = {"add": lambda a, b: a + b, "div": lambda a, b: a // b, "min": min, "max": max}


def expect_bits_of_native_code(
    size: int, depth: int, forward: bool, machine: Machine, dtype: DType = DType.F32
) -> None:
    graph, given = (attention(size, depth, forward, dtype), inputs(size, depth, numpy_dtype(dtype).type))
    given["v"][0, size // 2] = np.inf
    wanted = executable(graph, Options(threads=1, batch=BATCH)).call(given, BATCH)
    lowered = lowered_for_device(graph, BATCH, TEXT, machine)
    in_blocks = [symbol for symbol, tiles in lowered.tiles.items() if "rows x" in tiles]
    contracts = [contraction_of(instance.kernel) for symbol, instance in lowered.instances if symbol in in_blocks]
    assert len({c.triangle for c in contracts if c is not None and c.triangle is not None}) >= 2
    found = emulated(lowered).call(given, BATCH)
    for name, array in wanted.items():
        assert_same_bits(found[name], array)


@DEVICES
@pytest.mark.parametrize("forward", [False, True], ids=["backward", "forward"])
@pytest.mark.parametrize(("size", "depth"), [(33, 17), (71, 40), (72, 40), (132, 16)])
def test_masked_products_have_the_bits_of_native_code(size: int, depth: int, forward: bool, machine: Machine) -> None:
    expect_bits_of_native_code(size, depth, forward, machine)


@DEVICES
@pytest.mark.parametrize("shape", SHAPES)
def test_tiles_of_each_shape(shape: BlockShape, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower, "shape_for", lambda *_: shape)
    for size, forward in ((144, False), (70, True)):
        expect_bits_of_native_code(size, 20, forward, machine)


@DEVICES
def test_masked_products_in_f64(machine: Machine) -> None:
    expect_bits_of_native_code(70, 20, False, machine, DType.F64)


def test_what_the_mask_hides_is_not_added() -> None:
    """A value that is not a number reaches the queries after it, and no others."""
    given = inputs(70, 16)
    given["v"][:, 40] = np.nan
    found = emulated(lowered_for_device(attention(70, 16), BATCH, TEXT)).call(given, BATCH)["y"]
    assert np.isfinite(found[:, :40]).all()
    assert np.isnan(found[:, 40:]).all()


PRODUCT = TileContract(
    lhs=0,
    rhs=1,
    tile=2,
    m=200,
    n=64,
    k=(ContractedAxis(200, 1, 64),),
    outer=(),
    lhs_offset=0,
    rhs_offset=0,
    lhs_m_stride=200,
    rhs_n_stride=1,
    row_m_step=1,
    dtype=DType.F32,
)


def number_of(index: Index, body: Sequence[Statement]) -> int:
    """The index of statements on numbers that are known."""
    if isinstance(index, int):
        return index
    made = next(s for s in body if isinstance(s, ir.Binary) and s.result == index)
    left, right = (number_of(side, body) for side in (made.left, made.right) if isinstance(side, int | Value))
    return NUMBERS[made.op](left, right)


@pytest.mark.parametrize("size", [200, 224])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("triangle", [Triangle.SUM_TO_ROW, Triangle.SUM_FROM_ROW, None])
def test_only_blocks_of_the_sum_are_brought_that_rows_of_the_tile_have(
    triangle: Triangle | None, shape: BlockShape, size: int
) -> None:
    contract = replace(PRODUCT, m=size, k=(ContractedAxis(size, 1, 64),), triangle=triangle)
    for row in range(0, size, shape.height):
        nest = Builder()
        place = Place(nest.fresh(ir.INDEX), size, row, 0, 0, 0, 0, size)
        found = dict[int, bool]()
        for stretch in SumWalk(nest, contract, shape, place).stretches():
            begin, end = (number_of(index, nest.body) for index in (stretch.begin, stretch.end))
            assert not any(block in found for block in range(begin, end))
            found |= dict.fromkeys(range(begin, end), stretch.is_whole)
        wanted = dict[int, bool]()
        rows = range(row, min(row + shape.height, size))
        for block in range(-(-size // shape.depth)):
            terms = range(block * shape.depth, (block + 1) * shape.depth)
            counts = {_counts(triangle, term, place, size) for term in terms for place in rows}
            if True in counts:
                wanted[block] = False not in counts
        assert list(found) == list(wanted)  # in order
        assert all(wanted[block] for block, is_whole in found.items() if is_whole)
        assert sum(found.values()) >= sum(wanted.values()) - shape.height // shape.depth


def _counts(triangle: Triangle | None, term: int, row: int, size: int) -> bool:
    edges = {Triangle.SUM_TO_ROW: term <= row, Triangle.SUM_FROM_ROW: term >= row, None: True}
    return term < size and edges[triangle]
