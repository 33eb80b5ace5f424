"""Products of many channels into few: vectors run along lines of pixels, and an image is done at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from comparisons import assert_same
from native import EVERY_KERNEL_PARALLEL, Native, compiled

from compiler.errors.diagnostics import CompilerBug
from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.loops.ir import ContractionKernel, TileContract
from compiler.ops.contraction import Contraction
from compiler.ops.movement import Pad, Slice
from compiler.ops.window import Fold, Window
from compiler.pipeline import optimise_graph
from compiler.schedule.verify import verify_schedule
from compiler.types import BatchExtent, DType, TensorType, at_batch

BATCH = BatchExtent()


@dataclass(frozen=True)
class Case:
    """A convolution of images of `size` with few channels, of which the input gradient is taken; or one to `few`."""

    size: tuple[int, int]
    few: int
    many: int
    kernel: int
    stride: int
    padding: int
    forward: bool = False
    dtype: DType = DType.F32


CASES = (
    Case((24, 64), 3, 16, 7, 2, 3),
    Case((25, 61), 3, 20, 7, 2, 3),  # odd, with a line that some classes do not have
    Case((47, 223), 3, 17, 11, 4, 2),  # some classes have no window in the last columns
    Case((22, 128), 3, 16, 4, 2, 1),  # as a transposed convolution
    Case((34, 96), 1, 32, 5, 1, 2),
    Case((12, 130), 3, 16, 3, 1, 1, forward=True),  # two panels of pixels
    Case((25, 61), 3, 20, 7, 2, 3, dtype=DType.F64),
    Case((5, 48), 8, 16, 3, 1, 1, forward=True, dtype=DType.F64),
)


@cache
def graphs(case: Case) -> tuple[Graph, Graph]:
    builder, (p, k, s) = GraphBuilder("few"), (case.padding, case.kernel, case.stride)
    low, sliding = (0, p, p, 0), ((1, 2), (k, k), (s, s), (1, 1))
    result = tuple((e + 2 * p - k) // s + 1 for e in case.size)
    if case.forward:
        x = builder.input("x", Role.DATA, TensorType(case.dtype, (BATCH, *case.size, case.many)))
        w = builder.input("w", Role.DATA, TensorType(case.dtype, (k, k, case.many, case.few)))
        windows = builder.emit(Window(*sliding), builder.emit(Pad(low, low, 0.0), x))
        value = builder.emit(Contraction((0, 1, 2, 3, 4, 5), (4, 5, 3, 6), (0, 1, 2, 6)), windows, w)
    else:
        x = builder.input("x", Role.DATA, TensorType(case.dtype, (BATCH, *result, case.many)))
        w = builder.input("w", Role.DATA, TensorType(case.dtype, (k, k, case.few, case.many)))
        product = builder.emit(Contraction((0, 1, 2, 6), (4, 5, 3, 6), (0, 1, 2, 3, 4, 5)), x, w)
        edges = (case.size[0] + 2 * p, case.size[1] + 2 * p)
        value = builder.emit(Fold(*sliding, edges), product)
        value = builder.emit(Slice(low, (BATCH, *case.size, case.few), (1, 1, 1, 1)), value)
    builder.output("y", Role.OUTPUT, value)
    graph = builder.build()
    return graph, optimise_graph(graph, verify=True)


def products(native: Native) -> list[TileContract]:
    kernels = [instance.kernel for instance in native.plan.instances]
    return [kernel.contraction for kernel in kernels if isinstance(kernel, ContractionKernel)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vectors_run_along_pixels_with_the_same_bits_whatever_the_schedule(case: Case) -> None:
    graph, optimised = graphs(case)
    native, plain = compiled(optimised, batch=EVERY_KERNEL_PARALLEL), compiled(optimised, fuse=False)
    assert {contract.m for contract in products(native)} == {case.few}
    (chain,) = native.plan.chains
    assert chain.last - chain.first >= len(products(native))
    for batch in (1, 5):
        inputs = inputs_of(graph, case, batch)
        expected = plain.executable().call(inputs, batch)["y"]
        assert_same("y", expected, evaluate(graph, inputs, batch)["y"])
        for threads in (1, 2):
            assert np.array_equal(native.executable(threads).call(inputs, batch)["y"], expected)


def inputs_of(graph: Graph, case: Case, batch: int) -> dict[str, np.ndarray[Any, Any]]:
    random, dtype = np.random.default_rng(batch), "f4" if case.dtype is DType.F32 else "f8"
    shapes = {entry.name: at_batch(entry.value.type.shape, batch) for entry in graph.inputs}
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def padded(native: Native) -> int:
    """The buffer that is filled with zeros before the first step."""
    (buffer,) = {
        b for instance in native.plan.instances if instance.once and not instance.reads for b in instance.writes
    }
    return buffer


@pytest.mark.parametrize("case", CASES[:2], ids=str)
def test_all_images_of_a_thread_are_copied_between_the_same_zeros(case: Case) -> None:
    graph, optimised = graphs(case)
    native, plain = compiled(optimised, batch=EVERY_KERNEL_PARALLEL), compiled(optimised, fuse=False)
    assert padded(native) in native.plan.chains[0].passed_on
    for threads in (1, 2, 3):
        executable = native.executable(threads)
        for batch in (4, 1, 7, 5):
            inputs = inputs_of(graph, case, batch)
            assert np.array_equal(executable.call(inputs, batch)["y"], plain.executable().call(inputs, batch)["y"])


def test_only_what_is_filled_evenly_is_passed_on() -> None:
    plan = compiled(graphs(CASES[0])[1], batch=EVERY_KERNEL_PARALLEL).plan
    fill, *others = plan.instances
    assert fill.once
    half = replace(fill, kernel=replace(fill.kernel, elements=BatchExtent(1)))
    with pytest.raises(CompilerBug, match="is used outside of it"):
        verify_schedule(replace(plan, instances=(half, *others)), EVERY_KERNEL_PARALLEL)


def test_all_residues_of_a_stride_read_one_copy_between_zeros() -> None:
    _, optimised = graphs(CASES[0])
    assert sum(isinstance(node.op, Pad) for node in optimised.nodes) == 1


@pytest.mark.parametrize(
    "case",
    [
        Case((14, 64), 3, 8, 7, 2, 3),  # turning the image would take as long as the product
        Case((14, 64), 9, 16, 7, 2, 3),
        Case((14, 24), 3, 16, 7, 2, 3),  # short lines
    ],
    ids=str,
)
def test_other_products_have_pixels_as_rows(case: Case) -> None:
    _, optimised = graphs(case)
    assert not any(axis.rhs_stride for contract in products(compiled(optimised)) for axis in contract.outer)
