"""The bandwidth of memory: native copies that store past the caches, and native reading, shared between threads.

The native code of each thread waits for the others before it begins and after it has ended, and what starts and ends
threads is not timed.
"""

from __future__ import annotations

import ctypes
import threading
import time
from itertools import pairwise
from typing import Any, TypeAlias

import llvmlite.binding as llvm
import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

VECTOR, VECTOR_BYTES = "<16 x float>", 64
VECTORS = 4  # in a round of the loop
ROUND_BYTES = VECTORS * VECTOR_BYTES
ENTRY = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int32)


class Memory:
    """Native code that so many threads run. Arrays start at a multiple of 64 bytes and have whole rounds."""

    def __init__(self, threads: int) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
        )
        module = llvm.parse_assembly(_function("copy", _COPY) + _function("read", _READ))
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()
        self._threads = threads

    def copy(self, source: Array, target: Array) -> float:
        """The seconds that a copy takes."""
        assert source.nbytes == target.nbytes
        return self._seconds("copy", source.ctypes.data, target.ctypes.data, source.nbytes)

    def read(self, source: Array) -> float:
        """The seconds that reading an array takes."""
        return self._seconds("read", source.ctypes.data, source.ctypes.data, source.nbytes)

    def _seconds(self, name: str, source: int, target: int, size: int) -> float:
        entry = ENTRY(self._engine.get_function_address(name))
        gate, rounds = ctypes.c_int32(), size // ROUND_BYTES
        bounds = [rounds * thread // self._threads for thread in range(self._threads + 1)]
        parts = [
            (source + first * ROUND_BYTES, target + first * ROUND_BYTES, last - first)
            for first, last in pairwise(bounds)
        ]
        shared = (ctypes.addressof(gate), self._threads)
        others = [threading.Thread(target=entry, args=(*part, *shared)) for part in parts[1:]]
        for other in others:
            other.start()
        while gate.value < len(others):
            time.sleep(0)
        start = time.perf_counter()
        entry(*parts[0], *shared)
        seconds = time.perf_counter() - start
        for other in others:
            other.join()
        return seconds


_COPY = (
    f"%v# = load {VECTOR}, ptr %from#, align {VECTOR_BYTES}",
    f"store {VECTOR} %v#, ptr %to#, align {VECTOR_BYTES}, !nontemporal !{{i32 1}}",
)
_READ = (f"%v# = load volatile {VECTOR}, ptr %from#, align {VECTOR_BYTES}",)  # not left out, though nothing takes it


def _function(name: str, steps: tuple[str, ...]) -> str:
    """A loop over rounds, between two meetings of all threads; `#` is the number of a vector in its round."""
    places = [f"%{p}# = getelementptr {VECTOR}, ptr %{p}, i64 %vector#" for p in ("from", "to")]
    body = ["%vector# = add i64 %first, #", *places, *steps]
    return "\n".join(
        [
            f"define void @{name}(ptr %from, ptr %to, i64 %rounds, ptr %gate, i32 %threads) {{",
            "entry:",
            "  atomicrmw add ptr %gate, i32 1 seq_cst",
            "  %twice = mul i32 %threads, 2",
            "  br label %meet",
            "meet:",
            "  %here = load atomic i32, ptr %gate acquire, align 4",
            "  %begins = icmp sge i32 %here, %threads",
            "  br i1 %begins, label %loop, label %meet",
            "loop:",
            "  %n = phi i64 [ 0, %meet ], [ %next, %loop ]",
            f"  %first = mul i64 %n, {VECTORS}",
            *(f"  {line.replace('#', str(number))}" for number in range(VECTORS) for line in body),
            "  %next = add i64 %n, 1",
            "  %more = icmp slt i64 %next, %rounds",
            "  br i1 %more, label %loop, label %part",
            "part:",
            "  fence seq_cst",
            "  atomicrmw add ptr %gate, i32 1 seq_cst",
            "  br label %wait",
            "wait:",
            "  %gone = load atomic i32, ptr %gate acquire, align 4",
            "  %ends = icmp sge i32 %gone, %twice",
            "  br i1 %ends, label %end, label %wait",
            "end:",
            "  ret void",
            "}",
            "",
        ]
    )
