"""What a kernel stores is checked for NaN and Inf: each output by itself, in every lane, and nowhere beyond a row."""

from __future__ import annotations

import numpy as np
import pytest
from native import EVERY_KERNEL_PARALLEL, compiled

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.interface import Steps
from compiler.ops.elementwise import Multiply
from compiler.ops.mathematics import Exp, Log
from compiler.ops.reduction import Max
from compiler.targets.memory import TensorStore
from compiler.types import BatchExtent, DType, TensorType

BATCH, ROWS = BatchExtent(), 7


def graph_of(width: int, dtype: DType) -> Graph:
    """Three outputs of one kernel, and what its rows give, as scalars and along the columns."""
    builder = GraphBuilder("watched")
    x = builder.input("x", Role.DATA, TensorType(dtype, (BATCH, width)))
    outputs = {"log": builder.emit(Log(), x), "square": builder.emit(Multiply(), x, x), "exp": builder.emit(Exp(), x)}
    outputs |= {"rows": builder.emit(Max((1,)), outputs["exp"]), "columns": builder.emit(Max((0,)), outputs["square"])}
    for name, value in outputs.items():
        builder.output(name, Role.OUTPUT, value)
    return builder.build()


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
@pytest.mark.parametrize("width", [1, 10, 16, 37, 300])
def test_what_is_not_finite_is_named_and_nothing_else(width: int, dtype: DType, fuse: bool) -> None:
    native = compiled(graph_of(width, dtype), fuse=fuse, batch=EVERY_KERNEL_PARALLEL)
    executable = native.executable(2)
    clean = np.random.default_rng(0).uniform(0.5, 2, (ROWS, width)).astype("f4" if dtype is DType.F32 else "f8")
    large = 100.0 if dtype is DType.F32 else 1e3  # its exponential is infinite, its square is not
    for place in {(0, 0), (ROWS - 1, width - 1), (3, width // 2)}:
        for value, expected in (
            (1.0, set[str]()),
            (-1.0, {"log"}),
            (large, {"exp", "rows"}),
            (np.inf, {"log", "square", "exp", "rows", "columns"}),
            (np.nan, {"log", "square", "exp", "rows", "columns"}),
        ):
            x = clean.copy()
            x[place] = value
            found = executable.run(Steps(TensorStore(()), {"x": x}, np.arange(ROWS), ROWS)).nonfinite
            assert {name for name, _ in found} == expected, (place, value)
