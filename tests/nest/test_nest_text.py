"""The nests of the zoo: they pass the verifier, and are read as they were printed. Broken ones are refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from native import host
from nest_reader import read_nest

from compiler import driver
from compiler.driver import Options
from compiler.errors.diagnostics import CompilerBug
from compiler.machine import CHOICES
from compiler.nest import ir
from compiler.nest.ir import Statement
from compiler.nest.printer import print_nest
from compiler.nest.verify import verify_nest
from compiler.nest.verify_memory import unproved
from compiler.ops import OPS
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.targets.cpu.lower import lower
from compiler.targets.gpu.text import DEVICE_WRITERS, HOST_WRITERS
from compiler.targets.llvm.to_llvm import WRITERS, to_llvm
from compiler.targets.lowered import Lowered
from compiler.targets.verify_nests import calls_of, verify_nests

ZOO = Path(__file__).parents[2] / "benchmarks/zoo"
MODELS = ("mlp_small", "lenet5", "lstm")
MACHINES = ("avx512", "avx2", "neon")
SMALL = """nest: items 4 by 1 times 1; scratch 64 and 0*batch bytes; lines 1 2
  p3 = buffer 0  @1
  p4 = buffer 1
  p5 = scratch 64 bytes from 0
  for item i6 in begin..end:
    i7 = i6 * 16  @2
    p8 = &p3[i7] f32
    v9: f32x16 = load p8, align 4
    v10: f32x16 = v9 * v9 + f32x16(1.0)
    store v10 to p5, align 64
    v11: f32x16 = maximum(v10, f32x16(zeros))
    p12 = &p4[i7] f32
    store v11 to p12, align 4
"""
LAST = "    store v11 to p12, align 4\n"
BROKEN = {
    "used where it is not defined": (LAST, f"{LAST}    if bool(true):\n      i13 = 1 + 1\n    i14 = i13 + 1\n"),
    "is f32x16, not f64x16": ("v10: f32x16 = v9", "v10: f64x16 = v9"),
    "no power of two": ("store v10 to p5, align 64", "store v10 to p5, align 3"),
}


@cache
def lowered(model: str, machine: str) -> Lowered:
    program = driver.load(ZOO / f"{model}.dl")
    options = driver.options_of(program, Options(batch=program.plan.usual_rows if program.plan else 1))
    ready = prepared(graph_of(program, TRAINING, options), options)
    chosen = CHOICES[machine]
    plan = scheduled(ready, options, chosen)
    return lower(ready, plan, chosen, options.batch, keeps_nests=True)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("model", MODELS)
def test_nests_of_the_zoo_are_right_and_read_as_printed(model: str, machine: str) -> None:
    found = lowered(model, machine)
    verify_nests(found)
    for nest in found.nests.values():
        text = print_nest(nest)
        read = read_nest(text, OPS)
        assert print_nest(read) == text
        assert to_llvm(read, CHOICES[machine]) == to_llvm(nest, CHOICES[machine])
        assert "%" not in text.replace(" % ", ""), "no text of LLVM"


def test_names_of_buffers_are_remarks() -> None:
    nest = read_nest(SMALL, OPS)
    named = print_nest(nest, ("x", "y"))
    assert "p3 = buffer 0  # x" in named
    assert print_nest(read_nest(named, OPS)) == SMALL
    verify_nest(nest)
    assert "call <16 x float> @llvm.fma.v16f32" in to_llvm(nest, host())


@pytest.mark.parametrize("message", BROKEN)
def test_broken_nests_are_refused(message: str) -> None:
    right, wrong = BROKEN[message]
    assert right in SMALL
    with pytest.raises(CompilerBug, match=message):
        verify_nest(read_nest(SMALL.replace(right, wrong), OPS))


def test_what_is_no_nest_is_refused() -> None:
    for right, wrong in (("i7 = i6 * 16", "i7 = i6 ? 16"), ("v9 * v9", "v9 * v33"), ("p4 =", "p14 =")):
        with pytest.raises(CompilerBug):
            read_nest(SMALL.replace(right, wrong), OPS)


def test_every_statement_is_written_as_llvm() -> None:
    def types(union: object) -> set[object]:
        parts = get_args(union)
        return {union} if not parts else set[object]().union(*map(types, parts))

    # A device has statements of its own, and its assembler is told which loops stay loops.
    for writers, others in ((DEVICE_WRITERS, {ir.Loop}), (HOST_WRITERS, set[object]())):
        assert types(Statement) == {*WRITERS, *writers}
        assert {*WRITERS} & {*writers} == others


@pytest.mark.parametrize(("model", "machine"), [("mlp_small", "neon"), ("lenet5", "avx2")])
def test_all_laws_of_memory_are_proved(model: str, machine: str) -> None:
    found = lowered(model, machine)
    doubts = {(symbol, doubt.law) for symbol, call in calls_of(found) for doubt in unproved(found.nests[symbol], call)}
    assert not doubts
