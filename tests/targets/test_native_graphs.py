"""Random graphs run natively: the meaning of the reference, and the same bits however they are compiled and run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import pytest
from comparisons import Array, assert_same_outputs
from native import EVERY_KERNEL_PARALLEL, Native, compiled
from random_graphs import random_graph
from small_networks import BATCH, Network

from compiler.errors.diagnostics import CompilerBug
from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph.op import Op
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Maximum, Multiply
from compiler.ops.movement import Broadcast, Reshape, Transpose
from compiler.ops.reduction import ArgMax, Max, Sum
from compiler.pipeline import optimise_graph
from compiler.schedule.fusion import legality
from compiler.targets.cpu.runner import PARALLEL
from compiler.types import BatchExtent, DType, TensorType, at_batch

SIZE = 25
SIZES = (1, 5, 16, 33)  # of batches; one program runs them all


@dataclass(frozen=True, slots=True)
class Case:
    """A graph, compiled for many threads, and its inputs for each of SIZES."""

    graph: Graph
    native: Native
    inputs: dict[int, dict[str, Array]]


def inputs_for(graph: Graph, inputs: Mapping[str, Array], batch: int) -> dict[str, Array]:
    """Inputs like the given ones, for another number of rows."""
    random = np.random.default_rng(batch)
    found: dict[str, Array] = {}
    for entry in graph.inputs:
        like, shape = inputs[entry.name], at_batch(entry.value.type.shape, batch)
        if like.dtype.kind == "f":
            found[entry.name] = random.uniform(-1.5, 1.5, shape).astype(like.dtype)
        else:
            found[entry.name] = random.integers(0, like.max() + 1, shape).astype(like.dtype)
    return found


@pytest.fixture(scope="module", params=range(14))
def case(request: pytest.FixtureRequest) -> Case:
    graph, inputs, _ = random_graph(request.param, SIZE)
    native = compiled(graph, batch=EVERY_KERNEL_PARALLEL)
    return Case(graph, native, {size: inputs_for(graph, inputs, size) for size in SIZES})


def assert_same_bits(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), f"the bits of {name} differ"


def test_one_program_serves_every_batch_size(case: Case) -> None:
    executable = case.native.executable()
    for size in (*SIZES, SIZES[0]):  # and a small batch after larger ones
        assert_same_outputs(executable.call(case.inputs[size], size), evaluate(case.graph, case.inputs[size], size))


def test_fusion_keeps_the_bits(case: Case) -> None:
    plain = compiled(case.graph, fuse=False, batch=EVERY_KERNEL_PARALLEL)
    assert len(plain.plan.instances) >= len(case.native.plan.instances)
    for size in (5, 33):
        fused = case.native.executable().call(case.inputs[size], size)
        assert_same_bits(plain.executable().call(case.inputs[size], size), fused)


def test_threads_keep_the_bits(case: Case) -> None:
    assert any(entry.flags & PARALLEL for entry in case.native.lowered.manifest.entries)
    alone = case.native.executable(1).call(case.inputs[33], 33)
    for threads in (2, 3):
        together = case.native.executable(threads)
        for _ in range(5):
            assert_same_bits(together.call(case.inputs[33], 33), alone)


def test_the_nominal_batch_keeps_the_bits(case: Case) -> None:
    small = compiled(case.graph, batch=1)
    for size in (1, 33):
        expected = case.native.executable().call(case.inputs[size], size)
        assert_same_bits(small.executable().call(case.inputs[size], size), expected)


@pytest.mark.parametrize("seed", range(100, 108))
def test_optimised_graphs_in_both_precisions(seed: int) -> None:
    graph, inputs, batch = random_graph(seed, SIZE)
    single = optimise_graph(graph)
    assert_same_outputs(compiled(single).executable(2).call(inputs, batch), evaluate(single, inputs, batch))
    double = to_dtype(single, DType.F64)
    wide = {name: array.astype("f8") if array.dtype.kind == "f" else array for name, array in inputs.items()}
    assert_same_outputs(compiled(double).executable(2).call(wide, batch), evaluate(double, wide, batch))


def test_repeated_pixels_regrouped_in_blocks() -> None:
    """Each pixel thrice, then blocks of 2 x 2: no axis of one lies within the rows of the other."""
    builder, batch = GraphBuilder("blocks"), BatchExtent()
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (batch, 4, 12, 12)))
    repeated = builder.emit(Broadcast((batch, 4, 12, 3, 12, 3), (0, 1, 2, 4)), x)
    thrice = builder.emit(Reshape((batch, 4, 18, 2, 18, 2)), repeated)
    blocks = builder.emit(Transpose((0, 3, 5, 1, 2, 4)), thrice)
    builder.output("y", Role.OUTPUT, builder.emit(Reshape((batch, 16, 18, 18)), blocks))
    graph = optimise_graph(builder.build())
    value = np.random.default_rng(0).standard_normal((2, 4, 12, 12)).astype("f4")
    expected = value.repeat(3, 2).repeat(3, 3).reshape(2, 4, 18, 2, 18, 2).transpose(0, 3, 5, 1, 2, 4)
    assert np.array_equal(compiled(graph).executable().call({"x": value}, 2)["y"], expected.reshape(2, 16, 18, 18))


def test_a_row_repeats_less_than_a_whole_period() -> None:
    """The vectors of 6 columns begin alike after 48, and a row of 24 ends within the second."""
    net = Network("a row of each example, four times")
    x, part = net.data("x", BATCH, 24), net.data("part", BATCH, 6)
    four = net.emit(Reshape((BATCH, 24)), net.emit(Broadcast((BATCH, 4, 6), (0, 2)), part))
    graph = net.graph(y=net.emit(Add(), x, four))
    random = np.random.default_rng(0)
    inputs = {name: random.normal(size=(5, n)).astype("f4") for name, n in (("x", 24), ("part", 6))}
    found = compiled(graph).executable().call(inputs, 5)["y"]
    assert np.array_equal(found, inputs["x"] + np.tile(inputs["part"], 4))


def test_what_repeats_along_the_only_panel_of_a_product() -> None:
    """The 9 columns are less than the panel is wide, and the number of tiles is not known."""
    net = Network("a product with a bias of 3 numbers, thrice")
    x, weight, bias = net.data("x", BATCH, 40), net.data("w", 40, 9), net.data("b", 3)
    thrice = net.emit(Reshape((9,)), net.emit(Broadcast((3, 3), (1,)), bias))
    graph = net.graph(y=net.dense(x, weight, thrice))
    random = np.random.default_rng(0)
    shapes = {entry.name: at_batch(entry.value.type.shape, 20) for entry in graph.inputs}
    inputs = {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    assert_same_outputs(compiled(graph).executable().call(inputs, 20), evaluate(graph, inputs, 20))


def thrice(net: Network, *shape: int) -> Value:
    """Each element of a row three times, in rows that 3 does not divide."""
    part = net.data("part", BATCH, prod(shape) // 3)
    repeated = net.emit(Broadcast((BATCH, prod(shape) // 3, 3), (0, 1)), part)
    return net.emit(Reshape((BATCH, *shape)), repeated)


def assert_means_what_the_reference_does(graph: Graph) -> None:
    random = np.random.default_rng(0)
    inputs = {e.name: random.normal(size=at_batch(e.value.type.shape, 5)).astype("f4") for e in graph.inputs}
    assert_same_outputs(compiled(graph).executable().call(inputs, 5), evaluate(graph, inputs, 5))


REDUCED = (Max((2,)), Sum((2,)), ArgMax(2), Max((1,)), Sum((1,)))


@pytest.mark.parametrize("op", REDUCED, ids=str)
@pytest.mark.parametrize("fused", [False, True])
def test_reductions_of_repeated_elements_in_other_rows(op: Op, fused: bool) -> None:
    net = Network("repeated elements, reduced")
    repeated = thrice(net, 3, 4)
    if fused:
        repeated = net.emit(Add(), repeated, net.data("x", BATCH, 3, 4))
    assert_means_what_the_reference_does(net.graph(y=net.emit(op, repeated)))


def test_repeated_elements_in_the_stages_of_products() -> None:
    """What the two stages read is made in each of them, where their columns allow that."""
    net = Network("repeated elements beside products")
    largest = net.emit(Maximum(), thrice(net, 3, 88), net.data("other", BATCH, 3, 88))
    left, right = net.data("left", BATCH, 3, 40), net.data("right", 40, 88)
    product = net.emit(Contraction((0, 3, 1), (1, 2), (0, 3, 2)), left, right)
    first, second = net.emit(Add(), product, largest), net.emit(Multiply(), net.relu(product), largest)
    assert_means_what_the_reference_does(net.graph(first=first, second=second))


def test_a_walk_that_does_not_divide_an_address_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legality, "divides", lambda *_: True)
    net = Network("repeated elements, reduced")
    graph = net.graph(y=net.emit(Max((2,)), thrice(net, 3, 4)))
    with pytest.raises(CompilerBug, match="rows of 4 elements do not divide"):
        compiled(graph)
