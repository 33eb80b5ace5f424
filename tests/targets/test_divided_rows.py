"""Divisions by a factor and a shift are exact below 2^31, so a step has no more rows than these can number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from native import compiled

from compiler.errors.diagnostics import CompilerBug, UsageError
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.ops.elementwise import Add
from compiler.ops.movement import Broadcast
from compiler.pipeline import optimise_graph
from compiler.targets.cpu.specialisation import factor_of
from compiler.targets.manifest import expect_rows, most_divided
from compiler.types import BatchExtent, DType, TensorType

BATCH, WIDTH = BatchExtent(), 4099


def repeated(times: int) -> Graph:
    """The rows of the batch, which stand `times` times, added to others."""
    b = GraphBuilder("repeated")
    x = b.input("x", Role.DATA, TensorType(DType.F32, (BATCH, WIDTH)))
    y = b.input("y", Role.DATA, TensorType(DType.F32, (BATCH, times, WIDTH)))
    b.output("z", Role.OUTPUT, b.emit(Add(), y, b.emit(Broadcast((BATCH, times, WIDTH), (0, 2)), x)))
    return optimise_graph(b.build())


def test_a_factor_is_exact_up_to_the_last_number_that_is_allowed() -> None:
    last = (1 << 31) - 1
    for divisor in (3, 7, 11, 50_176, 65_537, last):
        factor, shift = factor_of(divisor)
        for number in (*range(3), divisor - 1, divisor, last // divisor * divisor - 1, last // divisor * divisor, last):
            assert number * factor >> shift == number // divisor
            assert number * factor < 1 << 63
    factor, shift = factor_of(3)
    assert ((1 << 32) - 1) * factor >= 1 << 63, "larger ones leave 64 bits"


def test_a_step_has_no_more_rows_than_divisions_can_number() -> None:
    manifest = compiled(repeated(23)).executable(1).manifest
    divided = [most_divided(replace(manifest, divided=n)) for n in (0, 1, 50_176)]
    assert divided == [(1 << 63) - 1, 1 << 31, (1 << 31) // 50_176]
    assert manifest.divided in (0, 23)
    expect_rows(replace(manifest, divided=50_176), 42_799)
    with pytest.raises(UsageError, match="a step of 42800 rows has more positions than kernels of repeated can number"):
        expect_rows(replace(manifest, divided=50_176), 42_800)
    with pytest.raises(CompilerBug, match="pairs of rows have places for 8"):
        expect_rows(replace(manifest, most_rows=8), 9)


def test_kernels_that_divide_the_numbers_of_their_rows_are_counted() -> None:
    found = {compiled(repeated(times)).executable(1).manifest.divided for times in (5, 23)}
    assert found == {5, 23}
