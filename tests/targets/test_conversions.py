"""Every conversion between two element types, at extreme numbers: NumPy's, on every machine and as a constant."""

from __future__ import annotations

import numpy as np
import pytest
from conversions import PAIRS, TYPES, all_conversions, assert_converted, expected, extremes, given

from compiler.errors.diagnostics import UsageError
from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.interface import Options
from compiler.machine import CHOICES
from compiler.ops.elementwise import Cast
from compiler.ops.sources import Constant
from compiler.pipeline import optimise_graph
from compiler.programs.executables import executable
from compiler.targets.llvm.host import machine_of
from compiler.types import STORED, DType, TensorType, widens


def test_the_meaning_of_all_conversions() -> None:
    assert_converted(evaluate(all_conversions(), given(), 1))


@pytest.mark.parametrize("machine", CHOICES)
def test_every_machine_converts_alike(machine: str) -> None:
    try:
        machine_of(machine)
    except UsageError:
        pytest.skip("this processor has another instruction set")
    assert_converted(executable(all_conversions(), Options(machine=machine)).call(given()))


def test_scalars_convert_as_vectors_do() -> None:
    """One number at a time, without lanes; results of 64 bits keep all of them."""
    builder = GraphBuilder("scalars")
    for dtype in TYPES:
        value = builder.input(dtype.value, Role.DATA, TensorType(dtype))
        for target in TYPES:
            builder.output(f"{dtype.value} to {target.value}", Role.OUTPUT, builder.emit(Cast(target), value))
    compiled = executable(builder.build(), Options(threads=1))
    for place in (0, 7, 31, -1):
        found = compiled.call({dtype.value: extremes(dtype)[place % len(extremes(dtype))] for dtype in TYPES})
        for source, target in PAIRS:
            name = f"{source.value} to {target.value}"
            wanted = expected(source, target)[place % len(extremes(source))]
            np.testing.assert_array_equal(found[name], wanted, err_msg=f"{name} at {place}")


@pytest.mark.parametrize("stored", STORED)
def test_constants_are_folded_as_values_are(stored: DType) -> None:
    for number in (0.1, 1.5, 100.0, 65519.0):
        builder = GraphBuilder("constants")
        first = builder.emit(Cast(stored), builder.emit(Constant(number, DType.F32)))
        builder.output("y", Role.OUTPUT, builder.emit(Cast(DType.F64), first))
        graph = builder.build()
        (node,) = optimise_graph(graph).nodes
        assert isinstance(node.op, Constant)
        assert node.op.value == evaluate(graph, {}, 1)["y"].item()


def test_a_conversion_that_loses_nothing_is_passed_over() -> None:
    """`widens` says for each pair whether all numbers survive, and two conversions become one exactly there."""
    for source, middle in PAIRS:
        if source is middle:
            continue
        values = extremes(source)
        with np.errstate(all="ignore"):
            back = evaluate(_there_and_back(source, middle), {"x": values}, 1)["y"]
        assert not widens(source, middle) or np.array_equal(back, values, equal_nan=source.is_float), (source, middle)
        casts = [node for node in optimise_graph(_there_and_back(source, middle)).nodes]
        assert (len(casts) == 0) is widens(source, middle), (source, middle)


def _there_and_back(source: DType, middle: DType) -> Graph:
    builder = GraphBuilder("there and back")
    value = builder.input("x", Role.DATA, TensorType(source, extremes(source).shape))
    builder.output("y", Role.OUTPUT, builder.emit(Cast(source), builder.emit(Cast(middle), value)))
    return builder.build()
