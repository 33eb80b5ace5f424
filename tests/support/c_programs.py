"""C programs around exported libraries, built and run for this processor, or for another under emulation."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np

from compiler.support.record import record
from runtime.exports.c_library import c_files
from runtime.exports.model_library import model_library
from runtime.runs.trained import Trained

Array: TypeAlias = np.ndarray[Any, Any]
STRICT = ("-Wall", "-Wextra", "-Werror")


@record
class Toolchain:
    """A compiler of C for a machine of `compiler/machine`, and the command that runs its programs."""

    machine: str | None
    compiler: str
    runner: tuple[str, ...] = ()
    ending: ClassVar[str] = ""

    @property
    def is_there(self) -> bool:
        return all(shutil.which(command) for command in (self.compiler, *self.runner[:1]))

    def build(self, folder: Path, source: str, *options: str, library: Sequence[str] = ("libmodel.a",)) -> Path:
        """The program of the file `source` in the folder of an exported library."""
        program = folder / f"{Path(source).stem}{self.ending}"
        linked = ("-static",) if self.runner else ()
        command = [self.compiler, "-std=c99", *STRICT, *options, *linked, source, *library, "-o", program.name]
        built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        return program

    def run(self, program: Path, given: bytes = b"", arguments: Sequence[str] = ()) -> bytes:
        quiet = {**os.environ, "WINEDEBUG": "-all"}
        ran = subprocess.run([*self.runner, str(program), *arguments], input=given, capture_output=True, env=quiet)
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout


@record
class Windows(Toolchain):
    """A compiler for Windows, whose programs read and write bytes as they are."""

    ending = ".exe"

    def build(self, folder: Path, source: str, *options: str, library: Sequence[str] = ("libmodel.a",)) -> Path:
        (folder / "binary.c").write_text(_BINARY)
        return Toolchain.build(self, folder, source, *options, "binary.c", library=library)


@record
class Board(Toolchain):
    """A computer without a system, under emulation: what it reads and writes are files of the one that emulates it."""

    options: tuple[str, ...] = ()

    def build(self, folder: Path, source: str, *options: str, library: Sequence[str] = ("libmodel.a",)) -> Path:
        (folder / "board.c").write_text(_START)
        (folder / "board.ld").write_text(_LAYOUT)
        program = folder / f"{Path(source).stem}.elf"
        sources = (source, "board.c", *library, "-lm", "-T", "board.ld", "--specs=rdimon.specs")
        command = [self.compiler, "-std=c99", "-Os", *STRICT, *self.options, *options, *sources, "-o", program.name]
        built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        return program

    def run(self, program: Path, given: bytes = b"", arguments: Sequence[str] = ()) -> bytes:
        assert not arguments
        (program.parent / "input").write_bytes(given)
        ran = subprocess.run([*self.runner, program.name], cwd=program.parent, capture_output=True, timeout=600)
        assert ran.returncode == 0, ran.stderr.decode()
        return (program.parent / "output").read_bytes()


_BINARY = """
#include <fcntl.h>
#include <io.h>
#include <stdio.h>

__attribute__((constructor)) static void make_binary(void) {
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
}
"""
_START = """
#include <stdio.h>
extern unsigned stack_top;
extern void _start(void);

void reset(void);
void reset(void) {
    *(volatile unsigned *)0xE000ED88 |= 0xF << 20; /* switches the float unit on */
    __asm__ volatile("dsb\\nisb");
    _start();
}

struct vectors {
    unsigned *stack;
    void (*reset)(void);
};
__attribute__((section(".vectors"), used)) const struct vectors vectors = {&stack_top, reset};

__attribute__((constructor)) static void open_files(void) {
    if (freopen("input", "rb", stdin) == NULL || freopen("output", "wb", stdout) == NULL) perror("board");
}
"""
_LAYOUT = """
ENTRY(reset)
MEMORY {
  flash (rx) : ORIGIN = 0, LENGTH = 4M
  ram (rwx) : ORIGIN = 0x20000000, LENGTH = 4M
}
SECTIONS {
  .text : {
    KEEP(*(.vectors)) *(.text*) *(.rodata*) KEEP(*(.init)) KEEP(*(.fini))
    . = ALIGN(8);
    __init_array_start = .; KEEP(*(.init_array*)) __init_array_end = .;
    __fini_array_start = .; KEEP(*(.fini_array*)) __fini_array_end = .;
    . = ALIGN(8);
  } > flash
  .ARM.exidx : { __exidx_start = .; *(.ARM.exidx*) __exidx_end = .; } > flash
  .data : { *(.data*) . = ALIGN(8); } > ram
  .bss : { __bss_start__ = .; *(.bss*) *(COMMON) . = ALIGN(8); __bss_end__ = .; end = .; __end__ = .; } > ram
  stack_top = ORIGIN(ram) + LENGTH(ram);
}
"""
_BOARD = ("qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none")
CORTEX_M4 = Board(
    "cortex-m4",
    "arm-none-eabi-gcc",
    (*_BOARD, "-semihosting-config", "enable=on,target=native", "-kernel"),
    options=("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
)
_WINE = shutil.which("wine") or "/usr/lib/wine/wine64"
WINDOWS = Windows("avx2-windows", "x86_64-w64-mingw32-gcc", (_WINE,))
HERE = Toolchain(None, "cc")
TOOLCHAINS = (
    HERE,
    Toolchain("avx2", "cc"),
    Toolchain("neon", "aarch64-linux-gnu-gcc", ("qemu-aarch64",)),
    Toolchain("rvv", "riscv64-linux-gnu-gcc", ("qemu-riscv64", "-cpu", "rv64,v=true,vlen=128,vext_spec=v1.0")),
    CORTEX_M4,
    WINDOWS,
)


def write_library(folder: Path, trained: Trained, machine: str | None, with_training: bool) -> None:
    """The files of a model's library for a machine of `compiler/machine`, or for this one."""
    chosen = replace(trained, options=replace(trained.options, machine=machine))
    for name, content in c_files(trained.program, *model_library(chosen, with_training, generates=True), {}).items():
        (folder / name).write_bytes(b"".join(content))


def different_numbers(expected: Array, got: io.BytesIO) -> int:
    """How many of the next numbers have other bits; those of a NaN are the processor's."""
    read = np.frombuffer(got.read(expected.nbytes), expected.dtype).reshape(expected.shape)
    bits = np.dtype(f"u{expected.dtype.itemsize}")
    if expected.dtype.kind != "f":
        return int(np.sum(read != expected))
    return int(np.sum((read.view(bits) != expected.view(bits)) & ~(np.isnan(read) & np.isnan(expected))))
