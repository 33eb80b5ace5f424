"""The text of the elementary functions: it assembles for every machine, calls nothing, and costs what it should."""

from __future__ import annotations

import re

import pytest
from native_functions import FUNCTIONS, loop_text

from compiler.errors.diagnostics import CompilerBug
from compiler.machine import AVX512, MACHINES, Machine
from compiler.nest.ir import vector
from compiler.targets.llvm.emit_compute import compute
from compiler.targets.llvm.jit import assembly
from compiler.targets.llvm.text import Text
from compiler.types import DType

CALL = re.compile(r"^\s+(call|callq|bl|blr)\s", re.MULTILINE)
FUSED = {"avx512": "vfmadd", "avx2": "vfmadd", "neon": "fmla", "apple-m1": "fmla"}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64], ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_calls_a_library(name: str, dtype: DType, machine: Machine) -> None:
    for lanes in (1, machine.lanes(dtype)):
        text = assembly(loop_text(name, dtype, lanes), machine)
        assert not CALL.search(text)
        assert not re.search(r"\b(exp|log|sin|cos|tanh|erf|pow|fma)f?@?(PLT)?\b", text)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_exp_uses_the_machines_fused_multiply_add(machine: Machine) -> None:
    assert FUSED[machine.name] in assembly(loop_text("exp", DType.F32, machine.lanes(DType.F32)), machine)


@pytest.mark.parametrize(("name", "most"), [("exp", 15), ("sigmoid", 17), ("tanh", 22), ("erf", 32), ("log", 31)])
def test_instructions_for_sixteen_lanes(name: str, most: int) -> None:
    text = assembly(loop_text(name, DType.F32, 16), AVX512)
    loop = text[text.index(".LBB0_1:") : text.index("\tj")]
    vector_instructions = [line for line in loop.splitlines() if line.startswith("\tv")]
    assert len(vector_instructions) <= most + 2  # a load and a store


def test_an_unknown_function_is_a_bug() -> None:
    with pytest.raises(CompilerBug, match="no instructions for the op 'gamma' of f64"):
        compute(Text(), "gamma", [(vector(DType.F64, 4), "%x")], DType.F64)
