"""The measured peaks of a GPU: multiply-adds a second, and bytes a second of its cache and of its memory."""

from __future__ import annotations

import datetime
from string import Template

from compiler.support.cache import ObjectCache
from compiler.targets.gpu.code import loaded_code
from compiler.targets.gpu.device import BLOCK_THREADS, SM_75
from compiler.targets.gpu.device_memory import DeviceMemory
from compiler.targets.gpu.hardware import Gpu
from compiler.targets.gpu.ptx import ptx_of
from compiler.targets.gpu.step_graph import Node, StepGraph
from compiler.targets.gpu.transfers import SYMBOLS, transfers_text
from compiler.targets.manifest import STATIC_ARENA, Touched
from compiler.targets.target import Peaks
from compiler.types import DType

MULTIPLY_ADD = "dlc_multiply_add"
_CHAINS, _UNROLLED, _ROUNDS = 16, 8, 512
_BLOCKS = 8  # for each multiprocessor: as many threads as one holds
_COPIES = 16  # of a launch, whose own time then does not count
_SAMPLES = 5
_OF_CACHE, _BEYOND_CACHE = 0.5, 8  # parts of the cache that a copy goes through

_TEXT = Template("""\
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare $type @llvm.fma.$name($type, $type, $type)

define ptx_kernel void @$symbol(ptr byval([1 x i64]) align 8 %words) nounwind "nvvm.maxntid"="$threads" {
entry:
  %target = load ptr, ptr %words, align 8
  %thread = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %block = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %before = mul i32 %block, $threads
  %place = add i32 %before, %thread
  %factor = uitofp i32 %thread to $type
  br label %head
head:
  %round = phi i32 [ 0, %entry ], [ %next, %head ]
$chains
$steps
  %next = add i32 %round, 1
  %more = icmp ult i32 %next, $rounds
  br i1 %more, label %head, label %done
done:
$sums
  %to = getelementptr $type, ptr %target, i32 %place
  store $type %sum.$last, ptr %to
  ret void
}
""")


def measured_peaks(memory: DeviceMemory, dtype: DType, cache: ObjectCache) -> Peaks:
    """The peaks of the device, for elements of f32 or f64."""
    gpu = memory.gpu
    threads, blocks = BLOCK_THREADS * _BLOCKS * gpu.processors, _BLOCKS * gpu.processors
    texts = [(multiply_add_text(dtype), (MULTIPLY_ADD,)), (transfers_text(), SYMBOLS)]
    code = loaded_code(gpu, [(ptx_of(text, SM_75).encode(), symbols) for text, symbols in texts], cache, 1)
    held = memory.block(threads * dtype.size, "the measurement of peaks", {}, "end other processes on the GPU")
    try:
        seconds = _best(gpu, [Node(MULTIPLY_ADD, blocks, (held.value,))], code.functions)
    finally:
        held.close()
    flops = 2 * _CHAINS * _UNROLLED * _ROUNDS * threads
    sizes = [int(part * gpu.cache_bytes) for part in (_OF_CACHE, _BEYOND_CACHE)]
    cache_rate, memory_rate = (_copied(memory, size, code.functions) for size in sizes)
    for module in code.modules:
        module.close()
    rates = ((sizes[0], max(cache_rate, memory_rate)), (sizes[1], memory_rate))
    return Peaks(1, flops / seconds / 1e9, rates, datetime.date.today().isoformat())


def _copied(memory: DeviceMemory, size: int, functions: dict[str, int]) -> float:
    """GB/s where a copy reads half of so many bytes, and writes the other half."""
    half = size // 2 // 16 * 16
    held = memory.block(2 * half, "the measurement of peaks", {}, "end other processes on the GPU")
    words = (held.value + half, held.value, half)
    touched = (Touched(STATIC_ARENA, 0, 2 * half, True),)  # one copy after the other
    nodes = [Node("dlc_copy", _BLOCKS * memory.gpu.processors, words, touched)] * _COPIES
    try:
        return 2 * half * _COPIES / _best(memory.gpu, nodes, functions) / 1e9
    finally:
        held.close()


def _best(gpu: Gpu, nodes: list[Node], functions: dict[str, int]) -> float:
    """The least seconds of all nodes."""
    graph = StepGraph(gpu, nodes, functions)
    begin, end = gpu.event(has_time=True), gpu.event(has_time=True)
    found: list[float] = []
    try:
        for _ in range(_SAMPLES):
            gpu.record(begin, gpu.stream)
            graph.launch(gpu.stream)
            gpu.record(end, gpu.stream)
            gpu.wait(gpu.stream)
            found.append(gpu.seconds_between(begin, end))
    finally:
        for thing in (graph, begin, end):
            thing.close()
    return min(found)


def multiply_add_text(dtype: DType) -> str:
    """A kernel in which each thread has chains of multiply-adds in registers."""
    type_ = "double" if dtype is DType.F64 else "float"
    name = "f64" if dtype is DType.F64 else "f32"
    chains = [f"  %c.{k}.0 = phi {type_} [ {k}.0, %entry ], [ %c.{k}.{_UNROLLED}, %head ]" for k in range(_CHAINS)]
    steps = [
        f"  %c.{k}.{n + 1} = call {type_} @llvm.fma.{name}({type_} %c.{k}.{n}, {type_} %factor, {type_} %factor)"
        for n in range(_UNROLLED)
        for k in range(_CHAINS)
    ]
    first = f"  %sum.1 = fadd {type_} %c.0.{_UNROLLED}, %c.1.{_UNROLLED}"
    sums = [f"  %sum.{k} = fadd {type_} %sum.{k - 1}, %c.{k}.{_UNROLLED}" for k in range(2, _CHAINS)]
    return _TEXT.substitute(
        type=type_,
        name=name,
        symbol=MULTIPLY_ADD,
        threads=BLOCK_THREADS,
        rounds=_ROUNDS,
        chains="\n".join(chains),
        steps="\n".join(steps),
        sums="\n".join([first, *sums]),
        last=_CHAINS - 1,
    )
