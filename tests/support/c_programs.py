"""C programs around exported libraries, built and run for this processor, or for another under emulation."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from compiler.support.record import record

Array: TypeAlias = np.ndarray[Any, Any]
STRICT = ("-Wall", "-Wextra", "-Werror")


@record
class Toolchain:
    """A compiler of C for a machine of `compiler/machine`, and the command that runs its programs."""

    machine: str | None
    compiler: str
    runner: tuple[str, ...] = ()

    @property
    def is_there(self) -> bool:
        return all(shutil.which(command) for command in (self.compiler, *self.runner[:1]))

    def build(self, folder: Path, source: str, *options: str) -> Path:
        """The program of the file `source` in the folder of an exported library."""
        program = folder / Path(source).stem
        linked = ("-static",) if self.runner else ()
        command = [self.compiler, "-std=c99", *STRICT, *options, *linked, source, "libmodel.a", "-o", program.name]
        built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        return program

    def run(self, program: Path, given: bytes = b"", arguments: Sequence[str] = ()) -> bytes:
        ran = subprocess.run([*self.runner, str(program), *arguments], input=given, capture_output=True)
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout


HERE = Toolchain(None, "cc")
TOOLCHAINS = (
    HERE,
    Toolchain("avx2", "cc"),
    Toolchain("neon", "aarch64-linux-gnu-gcc", ("qemu-aarch64",)),
    Toolchain("rvv", "riscv64-linux-gnu-gcc", ("qemu-riscv64", "-cpu", "rv64,v=true,vlen=128,vext_spec=v1.0")),
)


def different_numbers(expected: Array, got: io.BytesIO) -> int:
    """How many of the next numbers have other bits; those of a NaN are the processor's."""
    read = np.frombuffer(got.read(expected.nbytes), expected.dtype).reshape(expected.shape)
    bits = np.dtype(f"u{expected.dtype.itemsize}")
    if expected.dtype.kind != "f":
        return int(np.sum(read != expected))
    return int(np.sum((read.view(bits) != expected.view(bits)) & ~(np.isnan(read) & np.isnan(expected))))
