"""Convolutions and their gradients, compiled: as by definition, and with the same bits however they are scheduled."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from comparisons import Array, assert_same, assert_same_outputs
from kernel_data import made_again
from native import EVERY_KERNEL_PARALLEL, compiled, host
from schedule_interpreter import run_schedule

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.loops.ir import IndexTerm, Kernel, Load, Reduce, RowKernel, StagedKernel, Store, instructions_of
from compiler.loops.printer import print_kernel
from compiler.machine import AVX2, AVX512, NEON
from compiler.ops.autodiff import gradients_of
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Multiply
from compiler.ops.movement import Broadcast, Pad, Reshape
from compiler.ops.reduction import Max, Moments, Sum
from compiler.ops.window import Fold, Window
from compiler.pipeline import optimise_graph
from compiler.schedule.build import schedule
from compiler.targets.cpu.iteration_space import RowBlock, is_row_blocked, row_block_of
from compiler.targets.cpu.lower import lower
from compiler.tuning import Tuning
from compiler.types import BatchExtent, DType, TensorType, at_batch

BATCH = BatchExtent()
BATCHES = (1, 3)
MANY = Tuning().many_registers
APART = Tuning(shared_reads=10**6)  # no rows are computed side by side
STREAMING = Tuning(streamed_caches=0)  # all results are stored past the caches


@dataclass(frozen=True)
class Case:
    """Images of `size`, `channels` to `filters`, in groups; the other numbers are those of both axes."""

    size: tuple[int, int]
    channels: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: int = 0
    groups: int = 1


CASES = (
    Case((8, 8), 16, 16, (3, 3), padding=1),
    Case((7, 9), 3, 16, (3, 3), padding=1),  # few channels in, an odd width
    Case((12, 12), 1, 6, (5, 5), padding=2),  # six channels: two pixels in a vector
    Case((6, 6), 6, 16, (3, 3)),
    Case((9, 8), 5, 33, (3, 2), (2, 2), padding=1),  # a stride that leaves rows over; columns of three vectors
    Case((10, 11), 4, 4, (2, 3), (3, 2), (2, 3), padding=2),  # stride and dilation with a common divisor and without
    Case((6, 7), 40, 24, (1, 1)),
    Case((7, 6), 8, 20, (1, 1), (2, 2)),  # a product of every second pixel
    Case((5, 4), 7, 7, (5, 4)),  # one window
    Case((2, 18), 16, 16, (2, 2), (3, 1), (1, 3), padding=1),  # lines of the image that no window reads
    Case((7, 7), 36, 48, (3, 3), padding=1),  # a block of the sum has two images
    Case((12, 13), 40, 40, (3, 3), padding=1),  # a block of the sum has some lines of an image
    Case((9, 8), 36, 640, (3, 3), padding=1),  # the tiles of rows are shared out between items
    Case((11, 9), 3, 40, (7, 7), (2, 2), padding=3),  # rows of taps that would leave vectors empty; copied columns
    Case((7, 8), 3, 640, (7, 7), padding=3),  # the same, shared out between items
    Case((9, 63), 3, 24, (7, 7), (2, 2), padding=3),  # a gradient along lines of 32 and 31 pixels
    Case((40, 40), 96, 40, (1, 1)),  # rows from beyond the second cache: tiles ask for those of the next one
    Case((6, 6), 8, 12, (3, 3), padding=1, groups=2),
    Case((6, 6), 9, 9, (3, 3), (2, 2), padding=1, groups=9),  # each channel by itself
    Case((3, 11), 144, 144, (3, 3), padding=1, groups=144),
)


class Convolution:
    """A convolution of a case with its loss and gradients, as a graph in the making."""

    def __init__(self, case: Case) -> None:
        self.case, self.builder = case, GraphBuilder("convolution")
        self.x = self.input("x", BATCH, case.channels, *case.size)
        self.w = self.input("w", *case.kernel, case.channels // case.groups, case.filters)

    def input(self, name: str, *shape: int | BatchExtent) -> Value:
        return self.builder.input(name, Role.DATA, TensorType(DType.F32, shape))

    def result(self) -> Value:
        case, emit, p = self.case, self.builder.emit, self.case.padding
        x = emit(Pad((0, 0, p, p), (0, 0, p, p), 0.0), self.x) if p else self.x
        windows = emit(Window((2, 3), case.kernel, case.stride, case.dilation), x)
        if case.groups == 1:
            return emit(Contraction((0, 1, 2, 3, 4, 5), (4, 5, 1, 6), (0, 6, 2, 3)), windows, self.w)
        batch, _, *rest = windows.type.shape
        parts = (case.channels // case.groups, case.filters // case.groups)
        windows = emit(Reshape((batch, case.groups, parts[0], *rest)), windows)
        w = emit(Reshape((*case.kernel, parts[0], case.groups, parts[1])), self.w)
        y = emit(Contraction((0, 7, 1, 2, 3, 4, 5), (4, 5, 1, 7, 6), (0, 7, 6, 2, 3)), windows, w)
        return emit(Reshape((batch, case.filters, *y.type.shape[3:])), y)

    def graph(self) -> Graph:
        y = self.result()
        loss = self.builder.emit(Sum((0, 1, 2, 3)), self.builder.emit(Multiply(), y, y))
        slopes = gradients_of(self.builder, tuple(self.builder.nodes), loss, [self.x, self.w])
        for name, value in (("y", y), ("dx", slopes[0]), ("dw", slopes[1])):
            assert value is not None
            self.builder.output(name, Role.OUTPUT, value)
        return self.builder.build()


@cache
def graphs(case: Case) -> tuple[Graph, Graph]:
    graph = Convolution(case).graph()
    return graph, optimise_graph(graph, verify=True)


def inputs_of(graph: Graph, batch: int) -> dict[str, Array]:
    random = np.random.default_rng(3)
    shapes = {entry.name: at_batch(entry.value.type.shape, batch) for entry in graph.inputs}
    return {name: random.uniform(-1, 1, shape).astype("f4") for name, shape in shapes.items()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_convolution_and_its_gradients_are_what_they_mean(case: Case) -> None:
    graph, optimised = graphs(case)
    executable = compiled(optimised).executable()
    for batch in BATCHES:
        inputs = inputs_of(graph, batch)
        exact = evaluate(graph, inputs, batch)
        assert_same_outputs(evaluate(optimised, inputs, batch), exact)
        found = executable.call(inputs, batch)
        for name, value in exact.items():
            assert_same(f"{name} at {batch}", found[name], value)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_bits_of_a_convolution_depend_on_no_thread_and_no_fusion(case: Case) -> None:
    _, optimised = graphs(case)
    inputs = inputs_of(optimised, 3)
    plain = compiled(optimised, fuse=False).executable().call(inputs, 3)
    native = compiled(optimised, batch=EVERY_KERNEL_PARALLEL)
    for threads in (1, 2, 3):
        found = native.executable(threads).call(inputs, 3)
        for name, value in plain.items():
            assert np.array_equal(found[name], value), f"{name} on {threads} threads"


def depthwise(lines: int, width: int, channels: int, kernel: int) -> Graph:
    """A convolution of each channel by itself, on images with their channels last."""
    builder, pad, taps = GraphBuilder("depthwise"), kernel // 2, (kernel, kernel)
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (BATCH, lines, width, channels)))
    w = builder.input("w", Role.DATA, TensorType(DType.F32, (*taps, channels)))
    windows = builder.emit(
        Window((1, 2), taps, (1, 1), (1, 1)), builder.emit(Pad((0, pad, pad, 0), (0, pad, pad, 0), 0.0), x)
    )
    y = builder.emit(Contraction((0, 1, 2, 3, 4, 5), (4, 5, 3), (0, 1, 2, 3)), windows, w)
    loss = builder.emit(Sum((0, 1, 2, 3)), builder.emit(Multiply(), y, y))
    slopes = gradients_of(builder, tuple(builder.nodes), loss, [x, w])
    for name, value in (("y", y), ("dx", slopes[0]), ("dw", slopes[1])):
        assert value is not None
        builder.output(name, Role.OUTPUT, value)
    return builder.build()


@pytest.mark.parametrize(
    ("lines", "width", "kernel", "many", "few"),  # blocks where registers are many or few
    [
        (3, 8, 3, (1, 4), (1, 4)),
        (3, 7, 3, (1, 7), (1, 7)),
        (3, 5, 3, (1, 5), (1, 5)),
        (5, 9, 3, (1, 3), (1, 3)),
        (3, 11, 3, (1, 1), (1, 1)),
        (8, 6, 3, (4, 2), (2, 2)),
        (4, 4, 5, (4, 2), (2, 2)),
        (6, 14, 3, (2, 7), (2, 2)),
        (4, 7, 5, (2, 7), (2, 7)),
        (4, 8, 7, (2, 4), (2, 2)),  # weights that do not stay in the first-level cache
        (2, 5, 3, (2, 5), (1, 5)),
    ],
)
def test_pixels_side_by_side_have_the_bits_of_single_ones(
    lines: int, width: int, kernel: int, many: tuple[int, int], few: tuple[int, int]
) -> None:
    graph = depthwise(lines, width, 144, kernel)
    optimised = optimise_graph(graph, verify=True)
    inputs, results, kernels = inputs_of(graph, 3), list[dict[str, Array]](), list[Kernel]()
    for registers, block in ((MANY, many), (MANY // 2, few)):
        machine = replace(host(), registers=registers)
        native = compiled(optimised, batch=EVERY_KERNEL_PARALLEL, machine=machine)
        kernels = [instance.kernel for instance in native.plan.instances]
        found = max((row_block_of(kernel, Tuning(), registers) for kernel in kernels), key=lambda block: block.rows)
        assert (found.lines, found.pixels) == block
        results += [native.executable(threads).call(inputs, 3) for threads in (1, 2)]
    assert not any(is_row_blocked(kernel, APART) for kernel in kernels)
    single = compiled(optimised, machine=replace(host(), tuning=APART)).executable().call(inputs, 3)
    for name, value in evaluate(graph, inputs, 3).items():
        assert_same(name, single[name], value)
        assert all(np.array_equal(result[name], single[name]) for result in results), name


def taps_of_single_channels(
    size: int, channels: int, stride: int, dilation: int, of_weights: bool, kernel: int = 3
) -> Graph:
    """A depthwise convolution of images that are given without zeros around, or the gradient of its weights."""
    builder, taps = GraphBuilder("taps"), (kernel, kernel)
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (BATCH, size, size, channels)))
    edges = (0, kernel // 2 * dilation, kernel // 2 * dilation, 0)
    padded = builder.emit(Pad(edges, edges, 0.0), x)
    windows = builder.emit(Window((1, 2), taps, (stride,) * 2, (dilation,) * 2), padded)
    shape = (*windows.type.shape[:3], channels) if of_weights else (*taps, channels)
    other = builder.input("other", Role.DATA, TensorType(DType.F32, shape))
    labels = ((0, 1, 2, 3), (4, 5, 3)) if of_weights else ((4, 5, 3), (0, 1, 2, 3))
    builder.output("y", Role.OUTPUT, builder.emit(Contraction((0, 1, 2, 3, 4, 5), *labels), windows, other))
    return optimise_graph(builder.build(), verify=True)


@pytest.mark.parametrize("of_weights", [False, True])
@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(16, 1, 1), (14, 1, 1), (7, 1, 1), (11, 1, 1), (14, 2, 1), (8, 1, 2)]
)
def test_taps_read_an_image_where_it_lies(size: int, stride: int, dilation: int, of_weights: bool) -> None:
    """No copy between zeros is made. At an edge a zero times an infinite weight is NaN, as it is between zeros."""
    graph = taps_of_single_channels(size, 48, stride, dilation, of_weights)
    native = compiled(graph, batch=EVERY_KERNEL_PARALLEL)
    inputs = inputs_of(graph, 3)
    inputs["other"][1, 0, 5] = np.inf
    plain = compiled(graph, fuse=False)
    assert any("insert" in instance.kernel.name and instance.reads == (0,) for instance in plain.plan.instances)
    kernels = [i.kernel for i in native.plan.instances if 0 in i.reads]
    loads = [i for kernel in kernels for i in instructions_of(kernel) if isinstance(i, Load) and i.edges]
    assert len(kernels) == 1
    assert len(loads) == (5 if stride == 2 else 8)
    assert made_again(kernels[0]) == kernels[0]
    assert " < " in print_kernel(kernels[0])
    expected = plain.executable().call(inputs, 3)["y"]
    assert np.isnan(expected).any()
    with np.errstate(all="ignore"):
        assert_same("interpreted", run_schedule(native.plan, inputs, 3)["y"], expected)
    for threads in (1, 2):
        assert np.array_equal(native.executable(threads).call(inputs, 3)["y"], expected, equal_nan=True)


@pytest.mark.parametrize(
    ("size", "stride", "dilation", "kernel", "block"),
    [(16, 1, 1, 3, (4, 2)), (6, 1, 1, 5, (2, 3)), (8, 2, 2, 3, (1, 4)), (16, 2, 1, 5, (1, 4))],
)
def test_lines_side_by_side_read_an_image_where_it_lies(
    size: int, stride: int, dilation: int, kernel: int, block: tuple[int, int]
) -> None:
    graph = taps_of_single_channels(size, 48, stride, dilation, False, kernel)
    native, inputs = compiled(graph, batch=EVERY_KERNEL_PARALLEL), inputs_of(graph, 3)
    kernels = [i.kernel for i in native.plan.instances if is_row_blocked(i.kernel, Tuning())]
    (found,) = {row_block_of(kernel, Tuning(), MANY) for kernel in kernels}
    assert (found.lines, found.pixels) == block
    results = [native.executable(threads).call(inputs, 3)["y"] for threads in (1, 2)]
    single = compiled(graph, machine=replace(host(), tuning=APART)).executable().call(inputs, 3)["y"]
    assert all(np.array_equal(result, single) for result in results)


@pytest.mark.parametrize(
    ("size", "channels", "stride", "kernel", "step"),
    [
        (16, 48, 1, 3, 16 * 48),  # from line to line of a strip
        (4, 48, 1, 3, 4 * 48),
        (14, 48, 1, 3, 48),  # from pixel to pixel: no strips of four lines
        (16, 48, 1, 5, 48),  # too many taps
        (16, 48, 2, 5, 2 * 48),  # pixels that lie apart
    ],
)
def test_gradients_of_taps_sum_strips_of_lines(size: int, channels: int, stride: int, kernel: int, step: int) -> None:
    graph = taps_of_single_channels(size, channels, stride, 1, True, kernel)
    native, inputs = compiled(graph, batch=EVERY_KERNEL_PARALLEL), inputs_of(graph, 3)
    (summing,) = (i.kernel for i in native.plan.instances if is_row_blocked(i.kernel, Tuning()))
    assert isinstance(summing, StagedKernel)
    image = [i.access for i in summing.stages[0].body if isinstance(i, Load) and i.edges]
    assert {row_block_of(summing, Tuning(), MANY).steps(access)[1] for access in image} == {step}
    found = native.executable(2).call(inputs, 3)["y"]
    assert_same("y", found, evaluate(graph, inputs, 3)["y"])
    assert np.array_equal(found, compiled(graph, fuse=False).executable().call(inputs, 3)["y"])


def test_results_beyond_the_caches_are_stored_past_them() -> None:
    graph = taps_of_single_channels(14, 48, 1, 1, of_weights=False)
    usual, inputs = compiled(graph), inputs_of(graph, 3)
    passing = compiled(graph, machine=replace(host(), tuning=STREAMING))
    assert ["nontemporal" in "".join(n.lowered.texts.values()) for n in (usual, passing)] == [False, True]
    for threads in (1, 2):
        found = passing.executable(threads).call(inputs, 3)["y"]
        assert np.array_equal(found, usual.executable().call(inputs, 3)["y"])


@pytest.mark.parametrize("line", range(4))
def test_walks_keep_apart_what_they_load_and_what_they_just_stored(line: int) -> None:
    """Columns are taken from the last on where loads would meet, up to whole pages, stores past the caches."""
    graph = taps_of_single_channels(14, 64, 1, 1, of_weights=False)
    given, inputs = compiled(graph), inputs_of(graph, 3)
    expected = given.executable().call(inputs, 3)["y"]
    passing = compiled(graph, machine=replace(host(), tuning=STREAMING))
    assert any("ptrtoint" in text and "nontemporal" in text for text in passing.lowered.texts.values())
    room = {name: np.empty(value.size + 64 + 1024, np.float32) for name, value in inputs.items()}
    for name, value in inputs.items():
        start = -room[name].ctypes.data % 256 // 4 + 16 * line
        moved = room[name][start : start + value.size].reshape(value.shape)
        moved[...] = value
        inputs[name] = moved
    assert np.array_equal(passing.executable().call(inputs, 3)["y"], expected)


def test_vectors_of_rows_side_by_side_are_as_wide_as_registers() -> None:
    graph = taps_of_single_channels(14, 48, 1, 1, of_weights=False)
    for machine, lanes in ((AVX512, 16), (AVX2, 8), (NEON, 4)):
        lowered = lower(graph, schedule(graph), machine, 3)
        (text,) = (text for text in lowered.texts.values() if "fma" in text)
        assert set(re.findall(r"@llvm\.fma\.v(\d+)f32", text)) == {str(lanes)}


@pytest.mark.parametrize("count", [3, 4])
def test_several_sums_of_products_with_one_factor_are_chains(count: int) -> None:
    """Fewer would wait for each other's additions: they keep four accumulators."""
    builder = GraphBuilder("sums")
    *others, common = (
        builder.input(n, Role.DATA, TensorType(DType.F32, (BATCH, 6, 5, 32))) for n in "abcde"[-count - 1 :]
    )
    for number, value in enumerate(others):
        total = builder.emit(Sum((0, 1, 2)), builder.emit(Multiply(), value, common))
        builder.output(f"sum{number}", Role.OUTPUT, total)
    graph = optimise_graph(builder.build(), verify=True)
    inputs, native, plain = inputs_of(graph, 3), compiled(graph), compiled(graph, fuse=False)
    instructions = [i for instance in native.plan.instances for i in instructions_of(instance.kernel)]
    factors = [i.factor is not None for i in instructions if isinstance(i, Reduce)]
    assert factors.count(True) == (count if count == 4 else 0)
    expected = evaluate(graph, inputs, 3)
    for name, value in native.executable(2).call(inputs, 3).items():
        assert_same(name, value, expected[name])
        assert np.array_equal(value, plain.executable().call(inputs, 3)[name])


def test_pixels_stand_side_by_side_only_within_lines_of_all_that_they_move() -> None:
    """What is written in lines of four pixels allows two of them, though lines of six are read."""
    optimised = optimise_graph(depthwise(4, 6, 144, 3), verify=True)
    kernels = (i.kernel for i in compiled(optimised).plan.instances if isinstance(i.kernel, RowKernel))
    *_, kernel = (kernel for kernel in kernels if is_row_blocked(kernel, Tuning()))
    assert row_block_of(kernel, Tuning(), MANY) == RowBlock(4, 2, 6)
    (stage,) = kernel.stages
    *body, store = stage.body
    assert isinstance(store, Store)
    lines = (IndexTerm(4, None, 4 * 160), IndexTerm(1, 4, 144))
    moved = replace(store, access=replace(store.access, rows=lines))
    moved_elsewhere = replace(kernel, stages=(replace(stage, body=(*body, moved)),))
    assert row_block_of(moved_elsewhere, Tuning(), MANY) == RowBlock(1, 2, 4)


def test_input_gradients_are_products() -> None:
    """No fold is left where the other operand of the product has the taps, also with a stride."""
    for case in (CASES[0], CASES[4], CASES[7]):
        _, optimised = graphs(case)
        assert not any(isinstance(node.op, Fold) for node in optimised.nodes)


def block() -> Graph:
    """Convolution, normalisation over the batch, a shortcut and a maximum over windows: values that layouts pass."""
    of = Convolution(Case((8, 8), 16, 16, (3, 3), padding=1))
    emit, y = of.builder.emit, of.result()
    mean, variance = of.builder.emit_all(Moments((0, 2, 3)), y)
    for number in (mean, variance):
        y = emit(Add(), y, emit(Broadcast(y.type.shape, (1,)), number))
    y = emit(Add(), emit(Multiply(), y, y), of.x)
    y = emit(Max((4, 5)), emit(Window((2, 3), (3, 3), (2, 2), (1, 1)), y))
    loss = emit(Sum((0, 1, 2, 3)), emit(Multiply(), y, y))
    slopes = gradients_of(of.builder, tuple(of.builder.nodes), loss, [of.x, of.w])
    for name, value in (("y", y), ("dx", slopes[0]), ("dw", slopes[1])):
        assert value is not None
        of.builder.output(name, Role.OUTPUT, value)
    return of.builder.build()


def test_a_block_of_layers_is_what_it_means_with_the_same_bits_fused_or_not() -> None:
    graph = block()
    optimised = optimise_graph(graph, verify=True)
    inputs = inputs_of(graph, 3)
    exact = evaluate(graph, inputs, 3)
    plain = compiled(optimised, fuse=False).executable().call(inputs, 3)
    native = compiled(optimised, batch=EVERY_KERNEL_PARALLEL)
    for threads in (1, 2):
        found = native.executable(threads).call(inputs, 3)
        for name, value in exact.items():
            assert_same(name, found[name], value)
            assert np.array_equal(found[name], plain[name]), f"{name} on {threads} threads"
