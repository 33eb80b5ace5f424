"""NVIDIA's assembler and disassembler, where this machine has them: PTX to code of a device, and that code as text."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from compiler.errors.diagnostics import UsageError
from compiler.support.record import record

PACKAGES = {"ptxas": "nvidia-cuda-nvcc", "nvdisasm": "nvidia-cuda-nvdisasm"}
_ELSE = "; --stage ptx needs neither"


@record
class Assembled:
    """Code of a device, and what the assembler told of it: registers, bytes of spills."""

    code: bytes
    report: str


def tool(name: str) -> str | None:
    """The path of a program of CUDA: from NVIDIA's wheel in this Python, or else from PATH."""
    spec = find_spec("nvidia")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for found in sorted(Path(folder).glob(f"*/bin/{name}*"), reverse=True):
            if found.stem == name:
                return str(found)
    return shutil.which(name)


def assembled(ptx: str, architecture: str) -> Assembled:
    """A module of PTX for an architecture, such as `sm_75`. Raises UsageError where that cannot be done here."""
    with tempfile.TemporaryDirectory() as folder:
        text, code = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        text.write_text(ptx)
        report = _run("ptxas", "-v", "-lineinfo", "-arch", architecture, str(text), "-o", str(code))
        return Assembled(code.read_bytes(), report)


def disassembled(code: bytes) -> str:
    """The instructions of code of a device, with the lines that they belong to. Raises UsageError as `assembled`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(code)
        return _run("nvdisasm", "-c", "-g", str(file))


def _run(name: str, *words: str) -> str:
    """Both streams of a program that ended well."""
    path = tool(name)
    if path is None:
        missing = [package for tool_, package in PACKAGES.items() if tool(tool_) is None]
        install = f"python -m pip install {' '.join(missing)}"
        raise UsageError(f"machine code of a GPU needs NVIDIA's {name}, which is not here", f"{install}{_ELSE}")
    try:
        done = subprocess.run([path, *words], capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise UsageError(f"{path} does not run: {error.strerror}", _instead(name)) from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UsageError(f"{path} fails: {said[0] if said else f'exit status {done.returncode}'}", _instead(name))
    return done.stdout + done.stderr


def _instead(name: str) -> str:
    return f"python -m pip install {PACKAGES[name]}{_ELSE}"
