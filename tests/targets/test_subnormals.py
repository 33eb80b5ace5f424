"""Numbers below the smallest normal one are computed as they are, whatever the mode of the thread that calls."""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from f32_accuracy import REFERENCES
from native import host
from native_functions import native_function

from compiler import driver
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Role
from compiler.interface import Options, Steps
from compiler.ops.elementwise import Multiply
from compiler.programs.executables import executable
from compiler.programs.kinds import TRAINING
from compiler.targets.llvm.jit import Library, compile_module
from compiler.types import BatchExtent, DType, TensorType

FLUSHES, ROUNDS_DOWN = 0x8040, 0x2000  # bits of MXCSR
MODE = """
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse.stmxcsr(ptr)
define void @set(ptr %mode) nounwind {
  call void @llvm.x86.sse.ldmxcsr(ptr %mode)
  ret void
}
define void @get(ptr %mode) nounwind {
  call void @llvm.x86.sse.stmxcsr(ptr %mode)
  ret void
}
"""
DEAD_UNITS = """
model Dead {
    input x: f32[batch, 2]
    output y = x |> dense(3) |> relu |> dense(1)
}

train Dead {
    target wanted: f32[batch, 1]
    loss = mse(y, wanted)
    optimizer = adam(lr = 0.01)
    batch = 4
}
"""


@contextmanager
def mode(bits: int) -> Generator[ctypes.c_uint32]:
    """Sets bits of this thread's MXCSR; the register as it is found behind the calls inside."""
    library = Library([compile_module(MODE, host(), verify=True)], ["set", "get"], host())
    set_, get = (ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library.address(name)) for name in ("set", "get"))
    before, found = ctypes.c_uint32(), ctypes.c_uint32()
    get(ctypes.byref(before))
    set_(ctypes.byref(ctypes.c_uint32(before.value | bits)))
    try:
        yield found
        get(ctypes.byref(found))
    finally:
        set_(ctypes.byref(before))


@pytest.mark.skipif(host().architecture != "x86_64", reason="the register is one of x86-64")
@pytest.mark.parametrize("bits", [FLUSHES, ROUNDS_DOWN], ids=["flushing", "rounding down"])
def test_the_mode_of_the_caller_changes_no_number_and_stays(bits: int) -> None:
    builder = GraphBuilder("products")
    x = builder.input("x", Role.DATA, TensorType(DType.F32, (BatchExtent(), 4)))
    builder.output("square", Role.OUTPUT, builder.emit(Multiply(), x, x))
    products = executable(builder.build(), Options(threads=2))
    given = np.array([[1e-20, 1e-21, -1e-22, 1.1]], np.float32)
    with mode(bits) as register:
        found = products.call({"x": given}, 1)["square"]
    assert found.tobytes() == (given * given).tobytes()
    assert 0 < found[0, 2] < np.finfo(np.float32).tiny
    assert register.value & bits == bits


@pytest.mark.parametrize("name", [name for name in REFERENCES if name not in ("exp", "cos", "sigmoid", "rsqrt", "log")])
def test_functions_give_subnormal_numbers(name: str) -> None:
    """Functions that are near x at 0, where the unit in the last place is the smallest number."""
    x = np.concatenate([np.linspace(s * 1e-45, s * 1.17e-38, 1000) for s in (1, -1)]).astype(np.float32)
    x = np.abs(x) if name == "sqrt" else x
    reference, bound = REFERENCES[name]
    true = reference(x.astype(np.float64))
    unit = np.maximum(np.spacing(np.abs(true).astype(np.float32)).astype(np.float64), 2.0**-149)
    assert np.max(np.abs(native_function(name, DType.F32, 16, host())(x) - true) / unit) <= max(bound, 0.5)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_moments_of_a_dead_unit_end_at_zero(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "dead.dl"
    path.write_text(DEAD_UNITS)
    options = Options(batch=4, dtype=dtype, threads=1)
    program = driver.load(path)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    data = {"x": -np.ones((4, 2), np.float32), "wanted": np.ones((4, 1), np.float32)}
    weights, *moments = (name for name in tensors.names() if tensors[name].shape == (2, 3))
    tensors.write(weights, np.ones((2, 3)))  # so no unit is alive for these inputs
    for name in moments:
        tensors.write(name, np.full((2, 3), np.finfo(tensors[name].dtype).tiny * 1.0001))
    settings = {s.name: float(s.value) for s in program.settings if s.is_runtime and isinstance(s.value, int | float)}
    training = driver.compile_program(program, TRAINING, options)
    training.run(Steps(tensors, data, np.arange(4), 4, settings=settings))
    assert len(moments) == 2
    assert not any(tensors[name].any() for name in moments)
