"""Whether a processor can multiply numbers of bf16, and the permission of the system to use tile registers (AMX)."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

from compiler.errors.diagnostics import CompilerBug
from compiler.machine import AVX512, Bf16, Machine

_KNOWN = tuple(how.value for how in Bf16)
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64


def why_no_bf16(machine: Machine, runs: bool) -> str | None:
    """Why a process cannot multiply in bf16 on a machine, for a reader; None where it can.

    Where the code `runs`, asks the system for the permission to use tiles, which holds for all threads of the process.
    """
    if machine.bf16 is None:
        lacks = "the processor has" if machine.name == AVX512.name else f"code for `{machine.name}` has"
        return f"{lacks} neither {' nor '.join(_KNOWN)}, and products in bf16 are compiled for these alone"
    return _refusal() if runs and machine.bf16 is Bf16.TILES else None


def bf16_of(machine: Machine) -> Bf16:
    """How it multiplies numbers of bf16. Raises CompilerBug where it cannot, which `why_no_bf16` finds before."""
    if machine.bf16 is None:
        raise CompilerBug("emit", f"{machine.name} multiplies no numbers of bf16")
    return machine.bf16


@cache
def _refusal() -> str | None:
    if not sys.platform.startswith("linux"):
        return "tiles of bf16 (AMX) are used under Linux alone"
    system = ctypes.CDLL(None, use_errno=True)
    if system.syscall(ctypes.c_long(_ARCH_PRCTL), ctypes.c_long(_REQUEST_PERMISSION), ctypes.c_long(_TILE_DATA)):
        return "the system gives no permission for tiles of bf16 (AMX)"
    return None
