"""Products through shared memory: operands that lie in any way, sums over several axes, tiles that hang over."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from comparisons import assert_same_bits

from compiler.driver import Options
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.loops.ir import contraction_of
from compiler.machine import Machine
from compiler.nest import ir
from compiler.nest.lanes import all_statements
from compiler.ops.contraction import Contraction
from compiler.programs.executables import executable
from compiler.programs.stages import prepared, scheduled
from compiler.targets.gpu.block_shapes import SHAPES, shape_for
from compiler.targets.gpu.device import DEVICES
from compiler.targets.registry import kernel_target_of
from compiler.types import BatchExtent, DType, TensorType

BATCH = BatchExtent(1)
PLAIN, TURNED_LEFT, TURNED_RIGHT = ((0, 1), (1, 2)), ((1, 0), (1, 2)), ((0, 1), (2, 1))
IMAGES, HEADS, TWO_SUMS = ((0, 3, 1), (1, 2)), ((3, 0, 1), (3, 1, 2)), ((4, 1, 0), (4, 1, 2))
SIZES = {0: 70, 1: 33, 2: 50, 3: 3, 4: 2}


def graph_of(labels: tuple[tuple[int, ...], tuple[int, ...]], batch: int | None, dtype: DType) -> Graph:
    """The product of both operands over the labels that the result lacks; one label may be the batch."""
    left, right = labels
    kept: dict[object, tuple[int, ...]] = {IMAGES: (0, 3, 2), HEADS: (3, 0, 2)}
    out = kept.get(labels, (0, 2))
    builder = GraphBuilder("product")
    types = [TensorType(dtype, tuple(BATCH if k == batch else SIZES[k] for k in side)) for side in labels]
    inputs = [builder.input(name, Role.DATA, type_) for name, type_ in zip("xy", types, strict=True)]
    builder.output("z", Role.OUTPUT, builder.emit(Contraction(left, right, out), *inputs))
    return builder.build()


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
@pytest.mark.parametrize(
    ("labels", "batch"),
    [
        *((labels, batch) for labels in (PLAIN, TURNED_LEFT, TURNED_RIGHT) for batch in (None, 0, 1)),
        *((labels, batch) for labels in (IMAGES, HEADS) for batch in (0, 3)),
        *((TWO_SUMS, batch) for batch in (None, 0, 4)),
    ],
)
def test_a_product_has_the_bits_of_native_code(
    labels: tuple[tuple[int, ...], tuple[int, ...]], batch: int | None, dtype: DType
) -> None:
    graph, random = graph_of(labels, batch, dtype), np.random.default_rng(0)
    native, emulated = (
        executable(graph, Options(threads=1, batch=64, target=target)) for target in ("native", "gpu-emulator")
    )
    for rows in (1, 37) if batch is not None else (1,):
        shapes = [tuple(rows if k == batch else SIZES[k] for k in side) for side in labels]
        given = {
            name: random.normal(size=shape).astype("f4" if dtype is DType.F32 else "f8")
            for name, shape in zip("xy", shapes, strict=True)
        }
        given["x"].flat[::97], given["y"].flat[::89] = np.inf, -0.0
        expected, found = native.call(given, rows)["z"], emulated.call(given, rows)["z"]
        assert_same_bits(found, expected)


@pytest.mark.parametrize("machine", DEVICES.values(), ids=lambda machine: machine.name)
def test_large_products_take_large_tiles_within_the_memory_of_a_block(machine: Machine) -> None:
    options = Options(target="gpu", batch=1)
    builder = GraphBuilder("large")
    inputs = [builder.input(name, Role.DATA, TensorType(DType.F32, (2048, 2048))) for name in "xy"]
    builder.output("z", Role.OUTPUT, builder.emit(Contraction((0, 1), (1, 2), (0, 2)), *inputs))
    ready, target = prepared(builder.build(), options), kernel_target_of(options)
    found = target.lower(ready, scheduled(ready, options, machine), machine, 1, keeps_nests=True)
    ((symbol, instance),) = [(s, i) for s, i in found.instances if contraction_of(i.kernel)]
    contract = contraction_of(instance.kernel)
    assert contract is not None
    assert shape_for(contract, 1) == SHAPES[0]
    statements = [*all_statements(found.nests[symbol].body)]
    assert any(isinstance(s, ir.Barrier) for s in statements)
    shape = SHAPES[0]
    assert sum(isinstance(s, ir.Fma) for s in statements) == prod((shape.rows, shape.vectors, shape.depth))
    assert "ld.shared.v4" in target.ptx(found.texts[symbol], machine)
    assert "8 x 4 a thread" in found.tiles[symbol]
