"""PTX, the assembly language that drivers of NVIDIA compile for the device at hand."""

from __future__ import annotations

from compiler.targets.gpu.device import DEVICE
from compiler.targets.llvm.jit import assembly


def ptx_of(text: str) -> str:
    """The module of a kernel that was written by `device_text`; its entry has the kernel's symbol."""
    return assembly(text, DEVICE, verify=False)
