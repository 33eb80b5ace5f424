"""A static library as a shared one, through a linker of the system."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from compiler.driver import ExportedLibrary
from compiler.errors.diagnostics import UsageError
from compiler.machine import Machine
from runtime.exports.archive import archive
from runtime.support.files import write_bytes

_EXPORTED = "{{ global: {}_*; local: *; }};\n"


def shared_library(library: ExportedLibrary) -> bytes:
    """The shared library of ELF systems, which offers nothing but the model's functions.

    For this processor `cc` links it; without one, and for others, the linker of ziglang. Raises UsageError.
    """
    if "-linux-" not in library.machine.triple:
        raise UsageError(f"a shared library for {library.machine.name} is not made: only those of Linux are", _FIX)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        name = f"lib{library.prefix}"
        write_bytes(folder / f"{name}.a", *archive(library))
        (folder / "exported").write_text(_EXPORTED.format(library.prefix), encoding="utf-8")
        options = ["-shared", "-o", f"{name}.so", "-Wl,--version-script=exported", "-Wl,--whole-archive", f"{name}.a"]
        command = [*_linker(library.machine), *options, "-Wl,--no-whole-archive"]
        linked = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if linked.returncode:
            raise UsageError(f"{command[0]} cannot link the library:\n{linked.stderr.strip()}", _FIX)
        return (folder / f"{name}.so").read_bytes()


_FIX = "export with `--to c`, and link the static library where the program is built"


def _linker(machine: Machine) -> list[str]:
    """A command that links. LLVM's triples name a vendor, `x86_64-unknown-linux-gnu`, which Zig's do not."""
    is_native = machine.architecture == platform.machine()
    if is_native and shutil.which("cc"):
        return ["cc"]
    if importlib.util.find_spec("ziglang") is None:
        there = "there is no `cc`" if is_native else f"`cc` does not link for {machine.triple}"
        raise UsageError(f"{there}, and ziglang is not installed", f"pip install ziglang, or {_FIX}")
    architecture, _, system = machine.triple.split("-", 2)
    return [sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-{system}"]
