"""PTX, the assembly language that drivers of NVIDIA compile for the device at hand."""

from __future__ import annotations

from compiler.machine import Machine
from compiler.targets.llvm.jit import assembly


def ptx_of(text: str, machine: Machine) -> str:
    """The module of a kernel that was written by `device_text`; its entry has the kernel's symbol."""
    return assembly(text, machine, verify=False)
