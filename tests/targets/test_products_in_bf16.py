"""Products whose factors are rounded to bf16: their definition, their nests, and native code, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import schedule_interpreter
from native import compiled, host
from nest_interpreter import fused
from nest_reader import read_nest
from nests import KernelAsNest
from product_numbers import extreme, plain

from compiler.errors.diagnostics import UsageError
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.interface import Options
from compiler.machine import AVX2, AVX512, GENERIC, Bf16
from compiler.nest.printer import print_nest
from compiler.nest.verify import verify_nest
from compiler.ops import OPS
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add
from compiler.ops.movement import Broadcast
from compiler.ops.rules import round_to_bf16
from compiler.schedule.build import schedule
from compiler.schedule.numerics.internal_ops import RoundedContraction, product_in_bf16, without_subnormal
from compiler.schedule.numerics.round_products import round_products
from compiler.support.arrays import Array
from compiler.targets.cpu.bf16_products import why_no_bf16
from compiler.targets.registry import TARGETS, target_of
from compiler.types import BatchExtent, DType, Shape, TensorType, at_batch

BATCH = 7
_ROWS = BatchExtent()
WHY_NOT = why_no_bf16(host(), runs=True)
MACHINES = {
    Bf16.TILES: replace(AVX512, features="+amx-bf16,+amx-tile,+avx512bf16"),
    Bf16.PAIRS: replace(AVX512, features="+avx512bf16"),
}
CASES: dict[str, tuple[str, Shape, Shape]] = {
    "rows of the batch": ("bk,kn->bn", (_ROWS, 40), (40, 24)),
    "few of everything": ("bk,kn->bn", (_ROWS, 3), (3, 2)),
    "gradient of weights": ("bm,bn->mn", (_ROWS, 20), (_ROWS, 24)),
    "gradient of an input": ("bn,kn->bk", (_ROWS, 24), (40, 24)),
    "blocks of the sum": ("bk,kn->bn", (_ROWS, 2100), (2100, 5)),
    "scores of heads": ("bhic,bhjc->bhij", (_ROWS, 2, 18, 33), (_ROWS, 2, 18, 33)),
    "values of heads": ("bhij,bhjc->bhic", (_ROWS, 2, 18, 17), (_ROWS, 2, 17, 20)),
    "windows": ("bykc,kcn->byn", (_ROWS, 5, 3, 16), (3, 16, 18)),
    "narrow windows": ("bykc,kcn->byn", (_ROWS, 5, 3, 6), (3, 6, 18)),
    "gradient of a kernel": ("bykc,byn->kcn", (_ROWS, 5, 3, 16), (_ROWS, 5, 18)),
}


def product(case: str) -> Graph:
    """The product and a bias, which stands behind it in the same kernel."""
    pattern, left, right = CASES[case]
    factors, out = pattern.split("->")
    labels = [tuple(map(ord, names)) for names in (*factors.split(","), out)]
    builder = GraphBuilder("product")
    operands = [builder.input(n, Role.DATA, TensorType(DType.F32, s)) for n, s in zip("lr", (left, right), strict=True)]
    result = builder.emit(Contraction(*labels), *operands)
    bias = builder.input("bias", Role.DATA, TensorType(DType.F32, (result.type.shape[-1],)))
    repeated = builder.emit(Broadcast(result.type.shape, (result.type.rank - 1,)), bias)
    builder.output("y", Role.OUTPUT, builder.emit(Add(), result, repeated))
    return round_products(builder.build())


def given_and_expected(graph: Graph, draw: Callable[..., Array]) -> tuple[dict[str, Array], Array]:
    random = np.random.default_rng(3)
    given = {i.name: draw(random, at_batch(i.value.type.shape, BATCH)) for i in graph.inputs}
    (op,) = (node.op for node in graph.nodes if isinstance(node.op, RoundedContraction))
    with np.errstate(all="ignore"):
        return given, op.evaluate((given["l"], given["r"]), BATCH)[0] + given["bias"]


def same_bits(found: Array, expected: Array) -> bool:
    """Which NaN it is decides the processor."""
    nan = np.isnan(expected)
    bits = (np.where(nan, np.float32(0), array).view(np.int32) for array in (found, expected))
    left, right = bits
    return bool(np.array_equal(np.isnan(found), nan)) and np.array_equal(left, right)


@pytest.mark.parametrize("draw", [plain, extreme])
def test_the_definition_is_a_sequence_of_fused_multiply_adds(draw: Callable[..., Array]) -> None:
    random = np.random.default_rng(4)
    left, right = draw(random, (3, 70)), draw(random, (70, 5))
    rows, columns = (round_to_bf16(without_subnormal(x)) for x in (left, right))
    with np.errstate(all="ignore"):
        for m in range(3):
            total = np.zeros(5, np.float32)
            for first in range(0, 70, 32):
                chains = [np.zeros(5, np.float32), np.zeros(5, np.float32)]
                for k in range(first, min(first + 32, 70)):
                    term = fused(np.repeat(rows[m, k], 5), columns[k], chains[k % 2])
                    chains[k % 2] = without_subnormal(term)
                total = without_subnormal(total + without_subnormal(chains[0] + chains[1]))
            assert same_bits(product_in_bf16(left, right)[m] + np.float32(0), total + np.float32(0))


def test_it_is_the_product_of_rounded_factors() -> None:
    random = np.random.default_rng(5)
    left, right = plain(random, (6, 90)), plain(random, (90, 7))
    exact = round_to_bf16(left).astype("f8") @ round_to_bf16(right).astype("f8")
    found = product_in_bf16(left, right)
    assert np.allclose(found, exact, rtol=1e-5, atol=1e-5)
    assert np.abs(found - left @ right).max() > 1e-3  # the rounding of the factors is seen


def test_which_products_are_rounded() -> None:
    for case in CASES:
        assert [type(n.op) for n in product(case).nodes].count(RoundedContraction) == 1
    builder = GraphBuilder("others")
    rows = builder.input("rows", Role.DATA, TensorType(DType.F32, (4, 6)))
    vector = builder.input("vector", Role.DATA, TensorType(DType.F32, (6,)))
    wide = builder.input("wide", Role.DATA, TensorType(DType.F64, (4, 6)))
    builder.output("a", Role.OUTPUT, builder.emit(Contraction((0, 1), (1,), (0,)), rows, vector))
    builder.output("b", Role.OUTPUT, builder.emit(Contraction((0, 1), (0, 1), (0,)), rows, rows))
    builder.output("c", Role.OUTPUT, builder.emit(Contraction((0, 1), (2, 1), (0, 2)), wide, wide))
    assert round_products(builder.build()).nodes == tuple(builder.nodes)


def test_what_is_subnormal_when_rounded_is_zero() -> None:
    """The smallest normal number less a quarter of the last digit below it stays it, less three quarters is 0."""
    left, right = np.array([[2.0**-63, 0, 2.0**-76]], np.float32), np.array([[2.0**-63], [0], [0]], np.float32)
    for less, found in ((2.0**-152, 2.0**-126), (2.0**-151, 2.0**-126), (1.5 * 2.0**-151, 0.0), (2.0**-150, 0.0)):
        right[2] = -less * 2.0**76
        assert product_in_bf16(left, right)[0, 0] == np.float32(found)


@pytest.mark.parametrize("how", MACHINES)
@pytest.mark.parametrize("case", CASES)
def test_nests_compute_the_definition(case: str, how: Bf16, monkeypatch: pytest.MonkeyPatch) -> None:
    """On any processor: what is packed, multiplied and stored is interpreted in memory whose ends are watched."""
    graph = product(case)
    given, expected = given_and_expected(graph, extreme)
    kernel = KernelAsNest(MACHINES[how], 32, parts=2)
    monkeypatch.setattr(schedule_interpreter, "run_kernel", kernel)
    found = schedule_interpreter.run_schedule(schedule(graph, batch=32), given, BATCH)["y"]
    assert same_bits(found, expected)
    (nest,) = kernel.nests
    verify_nest(nest)
    assert print_nest(read_nest(print_nest(nest), OPS)) == print_nest(nest)


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
@pytest.mark.parametrize("case", CASES)
def test_native_code_computes_the_definition(case: str) -> None:
    graph = product(case)
    made = compiled(graph, batch=32)
    for draw in (plain, extreme):
        given, expected = given_and_expected(graph, draw)
        for threads in (1, 2):
            assert same_bits(made.executable(threads).call(given, BATCH)["y"], expected)


def natively(left: Array, right: Array) -> Array:
    """The product of two matrices as native code computes it."""
    builder = GraphBuilder("product")
    given = {"l": left, "r": right}
    operands = [builder.input(n, Role.DATA, TensorType(DType.F32, array.shape)) for n, array in given.items()]
    builder.output("y", Role.OUTPUT, builder.emit(Contraction((0, 1), (1, 2), (0, 2)), *operands))
    return compiled(round_products(builder.build())).executable(2).call(given)["y"]


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_native_code_rounds_before_it_looks_for_subnormal_numbers() -> None:
    """Sums of the smallest normal number and of a term that is less than its last digit."""
    random = np.random.default_rng(7)
    left, right = np.zeros((128, 3), np.float32), np.zeros((3, 128), np.float32)
    left[:, 0] = right[0] = 2.0**-63
    left[:, 2], right[2] = -(2.0 ** random.uniform(-76, -75, 128)), 2.0 ** random.uniform(-77, -74, 128)
    expected = product_in_bf16(left, right)
    assert same_bits(natively(left, right), expected)
    exact = round_to_bf16(left).astype("f8") @ round_to_bf16(right).astype("f8")
    assert {*np.unique(expected[exact.astype("f4") == 2.0**-126])} == {0, np.float32(2.0**-126)}


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
@pytest.mark.parametrize("shape", [(40, 70, 1100), (70, 2100, 40), (1, 64, 64), (16, 32, 16), (33, 33, 513)])
def test_products_of_several_blocks(shape: tuple[int, int, int]) -> None:
    rows, depth, columns = shape
    random = np.random.default_rng(6)
    given = {"l": plain(random, (rows, depth)), "r": plain(random, (depth, columns))}
    found = natively(given["l"], given["r"])
    if rows == 1:
        assert np.allclose(found, given["l"] @ given["r"], rtol=1e-4, atol=1e-4)  # a product with a vector
    else:
        assert same_bits(found, product_in_bf16(given["l"], given["r"]))


def test_a_processor_multiplies_in_tiles_or_else_in_pairs() -> None:
    for how, machine in MACHINES.items():
        assert machine.bf16 is how
        assert why_no_bf16(machine, runs=False) is None
    assert why_no_bf16(MACHINES[Bf16.PAIRS], runs=True) is None


def test_other_machines_are_refused_with_the_reason() -> None:
    reason = "neither AMX nor AVX512-BF16, and products in bf16 are compiled for these alone"
    assert why_no_bf16(AVX512, runs=False) == f"the processor has {reason}"
    for machine in (AVX2, replace(MACHINES[Bf16.TILES], name="avx2"), replace(GENERIC, features="+avx512bf16")):
        assert why_no_bf16(machine, runs=False) == f"code for `{machine.name}` has {reason}"
    for name in TARGETS:
        target_of(Options(target=name)).expect_products(Options(target=name))
    for products in ("bf16", "tf32"):
        target_of(Options(target="gpu-emulator")).expect_products(Options(target="gpu-emulator", products=products))
        old = Options(target="gpu", machine="sm_75", products=products)
        with pytest.raises(
            UsageError, match=f"`precision = {products}` needs a GPU of compute capability 8.0 or later"
        ):
            target_of(old).expect_products(old, runs=False)
        target_of(old).expect_products(replace(old, machine="sm_80"), runs=False)
        target_of(old).expect_products(replace(old, products="f32"), runs=False)
    with pytest.raises(UsageError, match="no processor has products of tf32"):
        target_of(Options()).expect_products(Options(products="tf32"))
