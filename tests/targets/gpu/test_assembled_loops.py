"""Kernels of loops as PTX, and as machine code of each architecture: barriers, registers for two blocks, no spill."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest
from scan_models import MODELS, program_of

from compiler import driver
from compiler.driver import Options
from compiler.machine import Machine
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.targets.gpu.device import SM_75, SM_80
from compiler.targets.gpu.loop_steps import Steps, outermost_loops
from compiler.targets.gpu.toolkit import assembled, tool
from compiler.targets.registry import kernel_target_of

ARCHITECTURES = {"sm_75": SM_75} | dict.fromkeys(("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"), SM_80)
MOST_REGISTERS = 128
FENCE, ADDITION = r"fence\.acq_rel\.gpu", r"atom(?:\.relaxed\.gpu)?\.global\.add\.u32"
LOOK = r"ld\.relaxed\.gpu\.global\.b32"


@cache
def loops(model: str, machine: Machine) -> dict[str, tuple[str, int]]:
    """The PTX of each kernel of a loop by its symbol, and how many barriers a step of it has."""
    program = program_of(MODELS[model])
    options = driver.options_of(program, Options(batch=48, target="gpu"))
    ready, target = prepared(graph_of(program, TRAINING, options), options), kernel_target_of(options)
    chosen = replace(machine, persistent_loops=True)
    lowered = target.lower(ready, scheduled(ready, options, chosen), chosen, options.batch)
    steps = dict(outermost_loops(lowered.manifest))
    kernels = lowered.manifest.loop_kernels
    return {k.symbol: (target.ptx(lowered.texts[k.symbol], chosen), barriers_of(steps[k.line])) for k in kernels}


def barriers_of(steps: Steps) -> int:
    """One behind each level, but where a loop stands in it, whose own last barrier is enough."""
    inner = [item for level in steps.levels for item in level if isinstance(item, Steps)]
    return sum(not isinstance(level[-1], Steps) for level in steps.levels) + sum(map(barriers_of, inner))


@pytest.mark.parametrize("machine", [SM_75, SM_80], ids=lambda machine: machine.name)
@pytest.mark.parametrize("model", MODELS)
def test_ptx_has_the_barriers_that_the_memory_model_asks_for(model: str, machine: Machine) -> None:
    """Each has a fence, an addition to the counter, a look at it, and a fence; nothing is read as if none wrote it."""
    for ptx, barriers in loops(model, machine).values():
        order = re.findall(f"{FENCE}|{ADDITION}|{LOOK}", ptx)
        assert len(order) == 4 * barriers
        for place, pattern in enumerate((FENCE, ADDITION, LOOK, FENCE)):
            assert all(re.fullmatch(pattern, found) for found in order[place::4])
        assert ".nc" not in ptx


@pytest.mark.skipif(tool("ptxas") is None, reason="needs ptxas: the extra gpu-test")
@pytest.mark.parametrize("model", MODELS)
def test_loops_keep_to_registers(model: str) -> None:
    for architecture, machine in ARCHITECTURES.items():
        for ptx, _ in loops(model, machine).values():
            made = assembled(ptx, architecture)
            (registers,) = map(int, re.findall(r"Used (\d+) registers", made.report))
            assert registers <= MOST_REGISTERS, architecture
            assert "0 bytes spill stores, 0 bytes spill loads" in made.report
