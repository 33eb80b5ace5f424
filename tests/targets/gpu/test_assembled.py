"""All kernels of the zoo as machine code of each architecture: they keep to registers, and round as they must."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from golden import Golden

from compiler import driver
from compiler.driver import Options
from compiler.inspection.ptx_view import head_of, lines_of_entry
from compiler.machine import Machine
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.support.record import record
from compiler.targets.gpu import toolkit
from compiler.targets.gpu.copied_operands import STAGES
from compiler.targets.gpu.device import SM_75, SM_80
from compiler.targets.gpu.toolkit import assembled, disassembled
from compiler.targets.registry import kernel_target_of

ZOO = Path(__file__).parents[3] / "benchmarks/zoo"
MODELS = [path.stem for path in sorted(ZOO.glob("*.dl"))]
ARCHITECTURES = {"sm_75": SM_75} | dict.fromkeys(("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"), SM_80)
MOST_REGISTERS = {
    "ContractionKernel": 128,
    "RowKernel": 72,
    "ColumnKernel": 72,
    "FlatKernel": 64,
    "ScatterKernel": 48,
    "PrefixSumKernel": 48,
}
LEAST_CHAINED = 0.7  # of the multiply-adds: the assembler joins steps that are written twice
_CODE = re.compile(r"^\.text\.(\w+):\n(.*?)(?=\.text\.\w+:)", re.DOTALL | re.MULTILINE)
_ENTRY = "Compiling entry function"
_WIDTH = 56


@record
class Program:
    """The PTX of each kernel of a step without the head of a module, its kind, and the name of its first call."""

    head: str
    kernels: dict[str, str]
    kinds: dict[str, str]
    names: dict[str, str]


@record
class Report:
    """What the assembler says of a kernel: registers of a thread, and bytes of shared memory and of spills."""

    symbol: str
    registers: int
    shared: int
    spilled: int


@cache
def program(model: str, machine: Machine) -> Program:
    found = driver.load(ZOO / f"{model}.dl")
    options = driver.options_of(found, Options(batch=16, target="gpu"))
    ready, target = prepared(graph_of(found, TRAINING, options), options), kernel_target_of(options)
    lowered = target.lower(ready, scheduled(ready, options, machine), machine, options.batch)
    modules = {symbol: target.ptx(text, machine) for symbol, text in lowered.texts.items()}
    kernels = {symbol: "\n".join(row.text for row in lines_of_entry(text)) for symbol, text in modules.items()}
    kinds = {symbol: type(instance.kernel).__name__ for symbol, instance in lowered.instances}
    names = {symbol: instance.kernel.name for symbol, instance in reversed(lowered.instances) if symbol in kernels}
    return Program(head_of(next(iter(modules.values()))), kernels, kinds, dict(reversed(names.items())))


@pytest.mark.parametrize("model", MODELS)
def test_kernels_keep_to_registers_and_round_each_operation(model: str, golden: Golden) -> None:
    """Registers are those of the golden file, where this assembler wrote it; no kernel keeps any in memory."""
    name = f"registers/{model}.txt"
    golden.used.add(name)
    if toolkit.tool("ptxas") is None:
        pytest.skip("needs ptxas: the extra gpu-test")
    tables = dict[str, dict[str, Report]]()
    for architecture, machine in ARCHITECTURES.items():
        given = program(model, machine)
        made = assembled(given.head + "\n".join(given.kernels.values()), architecture)
        reports = {r.symbol: r for r in map(_report, made.report.split(_ENTRY)[1:])}
        assert reports.keys() == given.kernels.keys()
        tables[architecture] = {name: reports[symbol] for symbol, name in given.names.items()}
        for symbol, found in reports.items():
            assert found.spilled == 0, (architecture, given.names[symbol])
            assert found.registers <= MOST_REGISTERS[given.kinds[symbol]], (architecture, given.names[symbol])
        if toolkit.tool("nvdisasm") is not None:
            code = dict(_CODE.findall(disassembled(made.code) + ".text.end:"))
            _expect_rounded(given, code)
            _expect_copied(given, code)
    head = f"ptxas {_version()}, registers of a thread by architecture, and shared bytes of a block on sm_75 and later"
    if golden.update or head in (golden.folder / name).read_text().splitlines():
        golden(name, "\n".join([head, "", *_rows(tables)]))
    if toolkit.tool("nvdisasm") is None:
        pytest.skip("registers are as they must be; to see how operations round needs nvdisasm: the extra gpu-test")


def _expect_copied(given: Program, code: Mapping[str, str]) -> None:
    """What text begins to copy, the device copies by itself: in each round, and before them where there are so many."""
    for symbol, ptx in given.kernels.items():
        begun, found = ptx.count("cp.async.cg.shared.global"), _instructions(code[symbol], "LDGSTS")
        assert (found >= begun // STAGES) if begun else not found, given.names[symbol]


def _expect_rounded(given: Program, code: Mapping[str, str]) -> None:
    for symbol, ptx in given.kernels.items():
        for name in ("mul", "add"):  # in one instruction, a product and a sum would be rounded once
            least = len(re.findall(rf"\b{name}\.rn\.f32", ptx))
            assert _instructions(code[symbol], f"F{name.upper()}") >= least
        if given.kinds[symbol] == "ContractionKernel":
            chained = len(re.findall(r"\bfma\.rn\.f32", ptx))
            assert _instructions(code[symbol], "FFMA") >= LEAST_CHAINED * chained
        assert "FFMA.FTZ" not in code[symbol]


def _rows(tables: Mapping[str, Mapping[str, Report]]) -> Iterator[str]:
    """A kernel may stand for fewer calls where some of them copy."""
    yield " ".join(["kernel".ljust(_WIDTH), *(f"{name:>6}" for name in tables), "shared  later"])
    for name in dict.fromkeys(name for table in tables.values() for name in table):
        found = [table.get(name) for table in tables.values()]
        numbers = [None if each is None else each.registers for each in found]
        numbers += [None if each is None else each.shared for each in (found[0], found[-1])]
        yield " ".join([name.ljust(_WIDTH), *(f"{'-' if number is None else number:>6}" for number in numbers)])


def _report(text: str) -> Report:
    spilled, registers = (re.search(p, text) for p in (r"(\d+) bytes spill stores", r"Used (\d+) registers"))
    shared, named = re.search(r"(\d+) bytes smem", text), re.match(r" '(\w+)'", text)
    assert spilled
    assert registers
    assert named
    return Report(named[1], int(registers[1]), int(shared[1]) if shared else 0, int(spilled[1]))


def _version() -> str:
    ptxas = toolkit.tool("ptxas")
    assert ptxas is not None
    said = subprocess.run([ptxas, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+\.\d+)", said)
    assert found
    return found[1]


def _instructions(code: str, name: str) -> int:
    """How many results instructions of this name have: some compute two."""
    return len(re.findall(rf"\b{name}\b", code)) + 2 * len(re.findall(rf"\b{name}2\b", code))
