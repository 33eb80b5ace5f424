"""Products with factors in bf16 or tf32, by instructions of a GPU for matrices: bits, waits, machine code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from device_tools import needs_toolkit
from emulated import emulated, lowered_for_device
from native import host
from nest_interpreter import fused
from nest_reader import read_nest
from product_numbers import extreme, plain

from compiler import driver
from compiler.driver import Options
from compiler.errors.diagnostics import CompilerBug
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.loops.ir import contraction_of
from compiler.machine import Machine
from compiler.nest import ir, matrices
from compiler.nest.lanes import all_statements
from compiler.nest.printer import print_nest
from compiler.nest.verify import verify_nest
from compiler.ops import OPS
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add
from compiler.ops.movement import Broadcast
from compiler.ops.rules import ROUNDINGS
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.schedule.numerics.internal_ops import CHAINED, Chained, chain_of_rounded
from compiler.schedule.numerics.round_products import round_products
from compiler.support.arrays import Array
from compiler.targets.cpu.products.printer import print_product
from compiler.targets.cpu.products.reader import read_product
from compiler.targets.gpu import lower
from compiler.targets.gpu.block_shapes import MATRIX_PADDING, SHAPES, BlockShape
from compiler.targets.gpu.device import SM_75, SM_80
from compiler.targets.gpu.ptx import ptx_of
from compiler.targets.gpu.text import device_text, host_text
from compiler.targets.gpu.toolkit import assembled, disassembled
from compiler.types import BatchExtent, DType, Rounding, Shape, TensorType, at_batch

ZOO = Path(__file__).parents[3] / "benchmarks/zoo"
BATCH = 37
RARELY_INFINITE = partial(extreme, share=0.002)  # long sums would all be so
_ROWS = BatchExtent()
DIGITS = {Rounding.BF16: 8, Rounding.TF32: 11}
INSTRUCTION = {Rounding.BF16: "m16n8k16.row.col.f32.bf16.bf16.f32", Rounding.TF32: "m16n8k8.row.col.f32.tf32.tf32.f32"}
SASS = {Rounding.BF16: "HMMA.16816.F32.BF16", Rounding.TF32: "HMMA.1688.F32.TF32"}
CASES: dict[str, tuple[str, Shape, Shape]] = {
    "rows of the batch": ("bk,kn->bn", (_ROWS, 40), (40, 24)),
    "few of everything": ("bk,kn->bn", (_ROWS, 3), (3, 2)),
    "gradient of weights": ("bm,bn->mn", (_ROWS, 36), (_ROWS, 24)),
    "gradient of an input": ("bn,kn->bk", (_ROWS, 24), (40, 24)),
    "two turned operands": ("kb,nk->bn", (34, 48), (32, 34)),
    "scores of heads": ("bhic,bhjc->bhij", (_ROWS, 2, 34, 20), (_ROWS, 2, 18, 20)),
    "values of heads": ("bhij,bhjc->bhic", (_ROWS, 2, 34, 17), (_ROWS, 2, 17, 20)),
    "windows": ("bykc,kcn->byn", (_ROWS, 5, 3, 16), (3, 16, 18)),
    "gradient of a kernel": ("bykc,byn->kcn", (_ROWS, 5, 3, 16), (_ROWS, 5, 18)),
    "in no pieces": ("mk,kn->mn", (50, 33), (33, 35)),
}


def product(case: str, rounded: Chained) -> Graph:
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
    return round_products(builder.build(), rounded)


def of_matrices(rows: int, depth: int, columns: int, rounded: Chained) -> Graph:
    builder = GraphBuilder("product")
    shapes = (rows, depth), (depth, columns)
    inputs = [builder.input(n, Role.DATA, TensorType(DType.F32, s)) for n, s in zip("lr", shapes, strict=True)]
    builder.output("y", Role.OUTPUT, builder.emit(rounded((0, 1), (1, 2), (0, 2)), *inputs))
    return builder.build()


def given_to(graph: Graph, draw: Callable[..., Array]) -> dict[str, Array]:
    random = np.random.default_rng(3)
    return {i.name: draw(random, at_batch(i.value.type.shape, BATCH)) for i in graph.inputs}


def definition(graph: Graph, given: dict[str, Array]) -> Array:
    (op,) = (node.op for node in graph.nodes if isinstance(node.op, CHAINED))
    with np.errstate(all="ignore"):
        return op.evaluate((given["l"], given["r"]), BATCH)[0] + given.get("bias", np.float32(0))


def expect_same_bits(found: Array, expected: Array) -> None:
    """Which NaN it is decides the device."""
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    left, right = (np.where(nan, np.float32(0), array).view(np.int32) for array in (found, expected))
    np.testing.assert_array_equal(left, right)


def text_by(**how: bool | int) -> Callable[[ir.Nest], str]:
    return partial(host_text, machine=host(), is_strict=True, **how)  # type: ignore[arg-type]


def multiplies(nest: ir.Nest) -> int:
    return sum(isinstance(statement, ir.MultiplyMatrices) for statement in all_statements(nest.body))


def rounded_by_hand(values: Array, rounding: Rounding) -> Array:
    """The multiples of the last digit next to finite numbers, by arithmetic of f64."""
    digits = DIGITS[rounding]
    exponents = np.maximum(np.frexp(values.astype(np.float64))[1], -125) - digits
    units = np.abs(values.astype(np.float64)) * 2.0**-exponents
    whole = np.rint(units) if rounding is Rounding.BF16 else np.floor(units + 0.5)
    with np.errstate(over="ignore"):
        return np.copysign(whole * 2.0**exponents, values).astype(np.float32)


@pytest.mark.parametrize("rounding", Rounding)
def test_factors_are_rounded_to_the_nearest_number_of_so_many_digits(rounding: Rounding) -> None:
    random = np.random.default_rng(1)
    bits = random.integers(0, 1 << 32, 200_000, np.uint32, endpoint=False)
    ties = (bits & np.uint32(-1 << (24 - DIGITS[rounding]) & 0xFFFFFFFF)) | np.uint32(1 << (23 - DIGITS[rounding]))
    values = np.concatenate([bits, ties]).view(np.float32)
    finite = values[np.isfinite(values)]
    expect_same_bits(ROUNDINGS[rounding](finite), rounded_by_hand(finite, rounding))
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], np.float32)
    expect_same_bits(ROUNDINGS[rounding](special), special)


@pytest.mark.parametrize("draw", [plain, RARELY_INFINITE])
@pytest.mark.parametrize("rounding", Rounding)
def test_the_definition_is_one_chain_of_fused_multiply_adds(rounding: Rounding, draw: Callable[..., Array]) -> None:
    random = np.random.default_rng(4)
    left, right = draw(random, (3, 70)), draw(random, (70, 5))
    rows, columns = (ROUNDINGS[rounding](x) for x in (left, right))
    with np.errstate(all="ignore"):
        for m in range(3):
            total = np.zeros(5, np.float32)
            for k in range(70):
                total = fused(np.repeat(rows[m, k], 5), columns[k], total)
            expect_same_bits(chain_of_rounded(left, right, rounding)[m], total + np.float32(0))


@pytest.mark.parametrize("machine", [SM_80, replace(SM_80, cpu="sm_75")], ids=["copied", "loaded"])
@pytest.mark.parametrize("rounded", CHAINED, ids=lambda op: op.name)
@pytest.mark.parametrize("case", CASES)
def test_products_have_the_bits_of_the_definition(case: str, rounded: Chained, machine: Machine) -> None:
    graph = product(case, rounded)
    lowered = lowered_for_device(graph, BATCH, text_by(), machine)
    for nest in lowered.nests.values():
        verify_nest(nest)
    assert any(map(multiplies, lowered.nests.values())) is (case != "few of everything")
    for draw in (plain, RARELY_INFINITE):
        given = given_to(graph, draw)
        expect_same_bits(emulated(lowered).call(given, BATCH)["y"], definition(graph, given))


@pytest.mark.parametrize("rounded", CHAINED, ids=lambda op: op.name)
def test_a_long_sum_with_few_results_is_split_as_in_f32(rounded: Chained) -> None:
    """Each part of the batch is a chain of its own; sums of parts go into four accumulators."""
    builder = GraphBuilder("product")
    shapes = (_ROWS, 64, 40), (_ROWS, 64, 20)
    inputs = [builder.input(n, Role.DATA, TensorType(DType.F32, s)) for n, s in zip("lr", shapes, strict=True)]
    builder.output("y", Role.OUTPUT, builder.emit(rounded((0, 1, 2), (0, 1, 3), (2, 3)), *inputs))
    lowered = lowered_for_device(builder.build(), BATCH, text_by())
    (splits,) = {contract.splits for _, i in lowered.instances if (contract := contraction_of(i.kernel))}
    assert splits == 16
    assert any(map(multiplies, lowered.nests.values()))
    given = given_to(builder.build(), plain)
    sums = [np.zeros((40, 20), np.float32) for _ in range(4)]
    for part in range(splits):
        kept = slice(BATCH * part // splits, BATCH * (part + 1) // splits)
        left, right = given["l"][kept].reshape(-1, 40).T, given["r"][kept].reshape(-1, 20)
        sums[part % 4] += chain_of_rounded(left, right, rounded.rounding)
    expect_same_bits(emulated(lowered).call(given, BATCH)["y"], (sums[0] + sums[1]) + (sums[2] + sums[3]))


@pytest.mark.parametrize("rounded", CHAINED, ids=lambda op: op.name)
@pytest.mark.parametrize("shape", SHAPES[:-1], ids=lambda shape: f"{shape.height}x{shape.width}")
def test_tiles_of_each_shape_in_any_order_of_threads(
    shape: BlockShape, rounded: Chained, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = replace(shape, padding=MATRIX_PADDING[rounded.rounding])
    monkeypatch.setattr(lower, "shape_for", lambda *_: shape)
    for rows, depth, columns in ((132, 20, 68), (36, 4, 16)):
        graph = of_matrices(rows, depth, columns, rounded)
        given = given_to(graph, plain)
        for how in ({"copies_early": False}, {"copies_early": True, "order": 255}, {"order": 6, "backwards": True}):
            found = emulated(lowered_for_device(graph, BATCH, text_by(**how))).call(given, BATCH)["y"]
            expect_same_bits(found, definition(graph, given))


@pytest.mark.parametrize("rounded", CHAINED, ids=lambda op: op.name)
def test_results_are_as_near_as_their_digits_say(rounded: Chained) -> None:
    """A factor is off by half a unit of its last digit, and each sum by half a unit of that of f32."""
    graph = of_matrices(96, 200, 80, rounded)
    given = given_to(graph, plain)
    left, right = (given[name].astype(np.float64) for name in "lr")
    found = emulated(lowered_for_device(graph, BATCH, text_by())).call(given, BATCH)["y"]
    unit = 2.0 ** -DIGITS[rounded.rounding]
    bound = (2 * unit + unit**2 + 201 * 2.0**-24) * (np.abs(left) @ np.abs(right))
    off = np.abs(found - left @ right)
    assert (off <= bound).all()
    assert off.max() > 0.01 * unit * np.sqrt(200)  # the rounding of the factors is seen


def test_a_sum_that_underflows_is_positive_zero_in_each_way() -> None:
    """The last block of matrices is filled with zeros, which would make +0 of -0 there alone."""
    for rounded in CHAINED:
        for rows in (64, 3):
            graph = of_matrices(rows, 20, 24, rounded)
            given = {"l": np.full((rows, 20), 1e-30, np.float32), "r": np.full((20, 24), -1e-30, np.float32)}
            expected = definition(graph, given)
            assert not np.signbit(expected).any()
            expect_same_bits(emulated(lowered_for_device(graph, BATCH, text_by())).call(given, BATCH)["y"], expected)


def test_small_products_are_chains_over_rounded_factors_as_large_ones_are() -> None:
    """The same rows have the same bits, whichever way a batch of another size takes."""
    for rounded in CHAINED:
        large, small = (of_matrices(rows, 20, 24, rounded) for rows in (64, 3))
        given = given_to(large, plain)
        found = []
        for graph, rows in ((large, 64), (small, 3)):
            lowered = lowered_for_device(graph, BATCH, text_by())
            assert any(map(multiplies, lowered.nests.values())) is (rows == 64)
            found.append(emulated(lowered).call(given | {"l": given["l"][:rows]}, BATCH)["y"])
        expect_same_bits(found[0][:3], found[1])


def without_barrier(nest: ir.Nest, number: int, order: int, copies_early: bool) -> str:
    """The text of a nest in which one barrier is left out."""
    places = [
        (body, place)
        for body in (nest.body, *(s.body for s in nest.body if isinstance(s, ir.Loop)))
        for place, statement in enumerate(body)
        if isinstance(statement, ir.Barrier)
    ]
    body, place = places[number]
    left_out = body.pop(place)
    text = text_by(order=order, copies_early=copies_early)(nest)
    body.insert(place, left_out)
    return text


@pytest.mark.parametrize("machine", [SM_80, replace(SM_80, cpu="sm_75")], ids=["copied", "loaded"])
@pytest.mark.parametrize("rounded", CHAINED, ids=lambda op: op.name)
def test_each_barrier_is_found_that_is_left_out(rounded: Chained, machine: Machine) -> None:
    graph = of_matrices(80, 200, 40, rounded)
    given = given_to(graph, plain)
    expected = definition(graph, given).tobytes()

    def result(text_of: Callable[[ir.Nest], str]) -> bytes:
        lowered = lowered_for_device(graph, BATCH, text_of, machine)
        (nest,) = lowered.nests.values()
        assert sum(isinstance(s, ir.Barrier) for s in all_statements(nest.body)) == 3
        return emulated(lowered).call(given, BATCH)["y"].tobytes()

    assert result(text_by()) == expected
    for number in range(3):
        ways = [(order, early) for order in (0, 255) for early in (False, True)]
        missing = (partial(without_barrier, number=number, order=o, copies_early=e) for o, e in ways)
        assert any(result(text_of) != expected for text_of in missing), number


def test_threads_read_shared_memory_from_different_banks() -> None:
    """The 32 threads of a warp, for each fragment of an operand whose lines lie together."""
    for rounding, padding in MATRIX_PADDING.items():
        for width in (32, 64, 128):
            threads = [divmod(t, matrices.QUAD) for t in range(32)]
            places = {line + matrices.IN_REGISTER[rounding] * k * (width + padding) for line, k in threads}
            assert len({place % 32 for place in places}) == 32


@needs_toolkit
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("rounded", CHAINED, ids=lambda op: op.name)
def test_machine_code_multiplies_matrices_and_spills_nothing(rounded: Chained, turned: bool) -> None:
    rounding = rounded.rounding
    labels = ((1, 0), (2, 1), (0, 2)) if turned else ((0, 1), (1, 2), (0, 2))
    for size, copied in ((2048, True), (2047, False), (96, True)):
        builder = GraphBuilder("product")
        inputs = [builder.input(n, Role.DATA, TensorType(DType.F32, (size, size))) for n in "lr"]
        builder.output("y", Role.OUTPUT, builder.emit(rounded(*labels), *inputs))
        lowered = lowered_for_device(builder.build(), 1, device_text)
        ((symbol, text),) = lowered.texts.items()
        assert ("copied ahead" in lowered.tiles[symbol]) is copied
        assert f"multiplied by warps in {rounding.value}" in lowered.tiles[symbol]
        assert ("128 rows x 64 columns a block" in lowered.tiles[symbol]) is (size > 96)
        count, ptx = multiplies(lowered.nests[symbol]), ptx_of(text, SM_80)
        assert ptx.count(f"mma.sync.aligned.{INSTRUCTION[rounding]}") == count > 0
        for architecture in ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"):
            made = assembled(ptx, architecture)
            assert "0 bytes spill stores, 0 bytes spill loads" in made.report
            assert disassembled(made.code).count(SASS[rounding]) >= count


@needs_toolkit
@pytest.mark.parametrize(("precision", "architecture"), [("bf16", "sm_80"), ("tf32", "sm_120")])
def test_products_of_a_training_step_spill_nothing(precision: str, architecture: str) -> None:
    """With the elementwise stages of the model, optimizer included."""
    found = driver.load(ZOO / "gpt_mini.dl", None, (("precision", precision),))
    options = driver.with_products(found, TRAINING, driver.options_of(found, Options(batch=16, target="gpu")))
    ready = prepared(graph_of(found, TRAINING, options), options)
    lowered = lower.lower(ready, scheduled(ready, options, SM_80), SM_80, 16, device_text, keeps_nests=True)
    symbols = {s for s, instance in lowered.instances if contraction_of(instance.kernel) and s in lowered.texts}
    assert len(symbols) >= 10
    for symbol in sorted(symbols):
        assert multiplies(lowered.nests[symbol])
        report = assembled(ptx_of(lowered.texts[symbol], SM_80), architecture).report
        assert "0 bytes spill stores, 0 bytes spill loads" in report
        registers = re.search(r"Used (\d+) registers", report)
        assert registers
        assert int(registers[1]) <= 128


def test_a_small_product_is_read_as_it_is_printed() -> None:
    for rounded in CHAINED:
        (text,) = lowered_for_device(of_matrices(3, 20, 24, rounded), 1, text_by()).tiles.values()
        assert f"factors in {rounded.rounding.value}" in text
        assert print_product(read_product(text)) == text


def test_a_nest_of_matrices_is_read_as_it_is_printed() -> None:
    for rounded in CHAINED:
        for rows in (64, 3):
            lowered = lowered_for_device(of_matrices(rows, 20, 24, rounded), 1, text_by())
            (nest,) = lowered.nests.values()
            assert print_nest(read_nest(print_nest(nest), OPS)) == print_nest(nest)


def test_wrong_matrices_are_found() -> None:
    lowered = lowered_for_device(of_matrices(64, 20, 24, CHAINED[0]), 1, text_by())
    (nest,) = lowered.nests.values()
    (loop,) = (s for s in nest.body if isinstance(s, ir.Loop))
    place, made = next((k, s) for k, s in enumerate(loop.body) if isinstance(s, ir.MultiplyMatrices))
    for wrong in (
        replace(made, rounding=Rounding.TF32),
        replace(made, left=made.left[1:]),
        replace(made, sums=(0, *made.sums[1:])),
        replace(made, results=(made.results[0], *made.results[:-1])),
    ):
        loop.body[place] = wrong
        with pytest.raises(CompilerBug):
            verify_nest(nest)
    loop.body[place] = made
    verify_nest(nest)


def test_code_for_older_devices_has_no_matrices() -> None:
    assert not SM_75.multiplies_matrices
    assert SM_80.multiplies_matrices
