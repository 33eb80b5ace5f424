"""The machine's own ceiling: fused multiply-adds on registers, in many independent chains, on each thread."""

from __future__ import annotations

import ctypes
import os
import statistics
import threading
import time
from collections.abc import Sequence

import llvmlite.binding as llvm

from peers import Figures

ITERATIONS = 2_000_000


class Chains:
    """The compiled chains, ready to run on any threads. A sample takes some milliseconds."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        lanes, chains = _vector()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
        )
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_source(lanes, chains)), machine)
        self._engine.finalize_object()
        self._entry = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(
            self._engine.get_function_address("chains")
        )
        self._flops = 2 * lanes * chains * ITERATIONS

    def rate(self, threads: int, processors: Sequence[int] = ()) -> float:
        """GFLOP/s of f32 in one sample. Thread i stays on the i-th processor; without any, the system places them."""
        outputs = [ctypes.create_string_buffer(64) for _ in range(threads)]

        def work(thread: int) -> None:
            if processors:
                os.sched_setaffinity(0, {processors[thread % len(processors)]})  # 0: the calling thread
            self._entry(ITERATIONS, ctypes.addressof(outputs[thread]))

        team = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        start = time.perf_counter()
        for member in team:
            member.start()
        for member in team:
            member.join()
        return threads * self._flops / (time.perf_counter() - start) / 1e9


def peak(threads: int, seconds: float) -> Figures:
    """GFLOP/s of f32 with `threads` threads: the best sample, since others can only slow it down."""
    chains = Chains()
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while not rates or time.perf_counter() < end:
        rates.append(chains.rate(threads))
    return {"gflops": max(rates), "median_gflops": statistics.median(rates)}


def _vector() -> tuple[int, int]:
    """Lanes of the widest vector, and as many chains as leave registers for the two other operands."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 24
    return (8, 12) if features.get("avx2") else (4, 24)


def _source(lanes: int, chains: int) -> str:
    vector = f"<{lanes} x float>"
    numbers = range(chains)
    phis = [f"  %x{i} = phi {vector} [ %start{i}, %entry ], [ %y{i}, %loop ]" for i in numbers]
    starts = [f"  %start{i} = fadd {vector} %scale, splat (float {i + 1}.0)" for i in numbers]
    fma = f"call {vector} @llvm.fma.v{lanes}f32"
    steps = [f"  %y{i} = {fma}({vector} %x{i}, {vector} %scale, {vector} %scale)" for i in numbers]
    total = [f"  %sum0 = fadd {vector} %y0, %y1"]
    total += [f"  %sum{i} = fadd {vector} %sum{i - 1}, %y{i + 1}" for i in range(1, chains - 1)]
    return "\n".join(
        [
            f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})",
            'define void @chains(i64 %count, ptr %out) "prefer-vector-width"="512" {',
            "entry:",
            "  %number = sitofp i64 %count to float",
            f"  %one = insertelement {vector} poison, float %number, i64 0",
            f"  %all = shufflevector {vector} %one, {vector} poison, <{lanes} x i32> zeroinitializer",
            f"  %scale = fdiv {vector} splat (float 1.0), %all",
            *starts,
            "  br label %loop",
            "loop:",
            "  %n = phi i64 [ %count, %entry ], [ %left, %loop ]",
            *phis,
            *steps,
            "  %left = sub i64 %n, 1",
            "  %done = icmp eq i64 %left, 0",
            "  br i1 %done, label %end, label %loop",
            "end:",
            *total,
            f"  store {vector} %sum{chains - 2}, ptr %out, align 4",
            "  ret void",
            "}",
        ]
    )
