"""Compares processors: training steps and predictions of exported libraries have the bits of this one elsewhere.

    python tests/stress/check_processors.py [--machines neon,rvv] [--models digits,gpt_mini]
    python tests/stress/check_processors.py --networks 100 [--first 0] [--machines neon,rvv]

Models are those of the zoo and of the examples, networks are random ones (`check_networks.py --show` prints one). Each
is exported with its training step; its calls are some updates on made-up rows, an evaluation and a prediction, and all
they give is compared, the weights and moments behind them too. `--machines` are those of C programs, which cross
compilers build and QEMU or Wine run (neon, rvv, cortex-m4, avx2, avx2-windows; Debian: gcc-aarch64-linux-gnu,
gcc-riscv64-linux-gnu, qemu-user), modules of WebAssembly in wasmtime (wasm, wasm-simd128), and the files for the web in
Node (node, node-simd128). A difference, and a program that ends by itself, give exit status 1; one during which the
emulator ends by an assertion of its own is told as `not run`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "benchmarks"), str(_ROOT / "tests" / "support")]

import numpy as np  # noqa: E402
from c_programs import TOOLCHAINS  # noqa: E402
from exported_programs import NODE, ExportedProgram, exported_network, exported_program  # noqa: E402
from keep_bits import rows_of  # noqa: E402
from random_networks import random_network  # noqa: E402

from compiler import driver  # noqa: E402
from compiler.driver import Options  # noqa: E402
from compiler.errors.diagnostics import DlcError  # noqa: E402
from runtime.analysis.made_up_steps import synthetic  # noqa: E402
from runtime.data.dimensions import dimensions_if_there  # noqa: E402
from runtime.data.part import Part, at_epoch, in_precision, numbered  # noqa: E402
from runtime.exports.web_library import MACHINES  # noqa: E402
from starts import Source, sources  # noqa: E402

_MOST_ROWS = 8


def of_source(source: Source, steps: int) -> ExportedProgram:
    """A model of the zoo or of the examples, which makes so many steps on the same made-up rows."""
    program = driver.load(source.file, source.experiment, (), dimensions_if_there)
    rows = min(rows_of(program), _MOST_ROWS)
    options = driver.options_of(program, Options(batch=rows))
    seed = program.plan.seed if program.plan is not None else 0
    part = in_precision(Part(synthetic(program.inputs, rows, seed), np.arange(rows)), options.dtype)
    data = part.arrays if program.plan is None else at_epoch(numbered(program, part).arrays, 0)
    return exported_program(program, options, [data] * steps)


def differences(program: ExportedProgram, machine: str) -> list[str]:
    """A line for each array that has other bits, and for a program that fails. Raises EmulatorError."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return program.differences(machine, Path(folder))
        except AssertionError as error:
            line = (str(error).strip() or "a call failed").splitlines()[0]
            if re.match(r"qemu-\w+: .*Assertion", line):
                raise EmulatorError(line) from error
            return [line]


class EmulatorError(Exception):
    """An assertion of the emulator."""


class Tally:
    """What was found so far."""

    def __init__(self) -> None:
        self.same = self.different = self.not_run = self.steps = 0

    def compare(self, what: str, program: ExportedProgram, machines: list[str]) -> None:
        """Run a program on all machines, and print a line."""
        found: list[str] = []
        for machine in machines:
            try:
                lines = differences(program, machine)
            except EmulatorError as error:
                self.not_run += 1
                found.append(f"{machine}: not run: {error}")
                continue
            self.same, self.different = self.same + (not lines), self.different + bool(lines)
            self.steps += sum(call.name == "step" for call in program.calls)
            found += [f"{machine}: {line}" for line in lines]
        print(f"{what}: {'; '.join(found) or 'the same bits'}", flush=True)


def cases(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Callable[[], ExportedProgram]]]:
    """What is compared, by its name."""
    if arguments.networks:
        for seed in range(arguments.first, arguments.first + arguments.networks):
            yield f"network {seed}", lambda seed=seed: exported_network(random_network(seed), seed)
        return
    chosen = None if arguments.models is None else arguments.models.split(",")
    for source in sources(folder).values():
        if chosen is None or source.name.removeprefix("zoo/") in chosen:
            yield source.name, lambda source=source: of_source(source, arguments.steps)


def expect_machines(machines: list[str]) -> None:
    """End where a machine is unknown, or has no compiler or emulator here."""
    toolchains = {toolchain.machine: toolchain for toolchain in TOOLCHAINS}
    for machine in machines:
        toolchain = toolchains.get(machine)
        if toolchain is None and machine not in (*MACHINES, *NODE):
            known = [name for name in toolchains if name is not None]
            sys.exit(f"no machine {machine}; there are {', '.join([*known, *MACHINES, *NODE])}")
        if toolchain is not None and not toolchain.is_there:
            sys.exit(f"{machine} needs {' and '.join([toolchain.compiler, *toolchain.runner[:1]])}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", default="neon,rvv", help="separated by commas")
    parser.add_argument("--models", help="names of models, separated by commas (default: all)")
    parser.add_argument("--steps", type=int, default=3, help="updates of each model")
    parser.add_argument("--networks", type=int, default=0, help="compare so many random networks instead")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first network")
    arguments = parser.parse_args()
    machines = arguments.machines.split(",")
    expect_machines(machines)
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = name  # programs that are used once
        for what, made in cases(arguments, Path(name)):
            try:
                program = made()
            except DlcError as error:
                print(f"{what}: left out: {error}", flush=True)
                continue
            tally.compare(what, program, machines)
    ran = tally.same + tally.different
    print(f"{ran} runs of {tally.steps} steps: {tally.different} with other bits; {tally.not_run} not run")
    return int(tally.different > 0)


if __name__ == "__main__":
    sys.exit(main())
