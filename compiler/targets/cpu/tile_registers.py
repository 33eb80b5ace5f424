"""Tile registers of a processor (AMX): whether it has them, and the permission of the system to use them."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

from compiler.machine import Machine

_FEATURES = ("+amx-tile", "+amx-bf16", "+avx512bf16")
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64


def why_no_tiles(machine: Machine, runs: bool) -> str | None:
    """Why a process cannot multiply in tiles of bf16 on a machine, for a reader; None where it can.

    Where the code `runs`, asks the system for the permission, which holds for all threads of the process.
    """
    if not {*_FEATURES} <= {*machine.features.split(",")}:
        return "the processor has no tiles of bf16 (AMX), without which such products are slower than those of f32"
    if machine.name != "avx512":
        return f"code for `{machine.name}` has no tiles of bf16 (AMX)"
    return _refusal() if runs else None


@cache
def _refusal() -> str | None:
    if not sys.platform.startswith("linux"):
        return "tiles of bf16 (AMX) are used under Linux alone"
    system = ctypes.CDLL(None, use_errno=True)
    if system.syscall(ctypes.c_long(_ARCH_PRCTL), ctypes.c_long(_REQUEST_PERMISSION), ctypes.c_long(_TILE_DATA)):
        return "the system gives no permission for tiles of bf16 (AMX)"
    return None
