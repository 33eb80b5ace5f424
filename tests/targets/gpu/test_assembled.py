"""All kernels of the zoo as machine code of each architecture: they keep to registers, and round as they must."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from device_tools import needs_toolkit

from compiler import driver
from compiler.driver import Options
from compiler.inspection.ptx_view import head_of, lines_of_entry
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.support.record import record
from compiler.targets.gpu.toolkit import assembled, disassembled
from compiler.targets.registry import kernel_target_of

ZOO = Path(__file__).parents[3] / "benchmarks/zoo"
MODELS = [path.stem for path in sorted(ZOO.glob("*.dl"))]
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
MOST_REGISTERS = {
    "ContractionKernel": 128,
    "RowKernel": 72,
    "ColumnKernel": 72,
    "FlatKernel": 64,
    "ScatterKernel": 48,
    "PrefixSumKernel": 48,
}
MOST_SPILLED = 8  # bytes of a kernel: some wide products have too few registers, by two at most
LEAST_CHAINED = 0.7  # of the multiply-adds: the assembler joins steps that are written twice
_CODE = re.compile(r"^\.text\.(\w+):\n(.*?)(?=\.text\.\w+:)", re.DOTALL | re.MULTILINE)
_REPORT = re.compile(r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers", re.DOTALL)


@record
class Program:
    """The PTX of each kernel of a step without the head of a module, and the kind of each kernel."""

    head: str
    kernels: dict[str, str]
    kinds: dict[str, str]


@cache
def program(model: str) -> Program:
    found = driver.load(ZOO / f"{model}.dl")
    options = driver.options_of(found, Options(batch=16, target="gpu"))
    ready, target = prepared(graph_of(found, TRAINING, options), options), kernel_target_of(options)
    machine = target.machine(options)
    lowered = target.lower(ready, scheduled(ready, options, machine), machine, options.batch)
    modules = {symbol: target.ptx(text) for symbol, text in lowered.texts.items()}
    kernels = {symbol: "\n".join(row.text for row in lines_of_entry(text)) for symbol, text in modules.items()}
    kinds = {symbol: type(instance.kernel).__name__ for symbol, instance in lowered.instances}
    return Program(head_of(next(iter(modules.values()))), kernels, kinds)


@needs_toolkit
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("model", MODELS)
def test_kernels_keep_to_registers_and_round_each_operation(model: str, architecture: str) -> None:
    given = program(model)
    made = assembled(given.head + "\n".join(given.kernels.values()), architecture)
    reports = {symbol: (int(spilled), int(registers)) for symbol, spilled, registers in _REPORT.findall(made.report)}
    assert reports.keys() == given.kernels.keys()
    for symbol, (spilled, registers) in reports.items():
        assert spilled <= MOST_SPILLED
        assert registers <= MOST_REGISTERS[given.kinds[symbol]]
    code = dict(_CODE.findall(disassembled(made.code) + ".text.end:"))
    for symbol, ptx in given.kernels.items():
        for name in ("mul", "add"):  # in one instruction, a product and a sum would be rounded once
            least = len(re.findall(rf"\b{name}\.rn\.f32", ptx))
            assert _instructions(code[symbol], f"F{name.upper()}") >= least
        if given.kinds[symbol] == "ContractionKernel":
            chained = len(re.findall(r"\bfma\.rn\.f32", ptx))
            assert _instructions(code[symbol], "FFMA") >= LEAST_CHAINED * chained
        assert "FFMA.FTZ" not in code[symbol]


def _instructions(code: str, name: str) -> int:
    """How many results instructions of this name have: some compute two."""
    return len(re.findall(rf"\b{name}\b", code)) + 2 * len(re.findall(rf"\b{name}2\b", code))
