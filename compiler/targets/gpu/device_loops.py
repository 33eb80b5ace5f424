"""The kernel of a loop as LLVM text for a device."""

from __future__ import annotations

from compiler.machine import MultiplyAdd
from compiler.support.numerics import LANES
from compiler.targets.gpu.device import BLOCK_THREADS
from compiler.targets.gpu.grid_barrier import Waiting
from compiler.targets.gpu.loop_text import LoopPlan, copies_bytes, write_loop
from compiler.targets.gpu.text import (
    DEVICE_WRITERS,
    FEW_BLOCKS,
    SCRATCH_ALIGNMENT,
    block_memory,
    name_threads,
    rolled_node,
    shared_bytes,
)
from compiler.targets.gpu.transfers import copy_function
from compiler.targets.llvm.multiply_add import declarations
from compiler.targets.llvm.text import Text

_SCOPE = ' syncscope("device")'


def _meet(text: Text) -> None:
    text.line("call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)")


def _fence(text: Text) -> None:
    text.line(f"fence{_SCOPE} acq_rel")


def _nothing(_: Text) -> None:
    pass


DEVICE_WAITING = Waiting(_meet, _fence, _nothing, _nothing, _SCOPE)


def device_loop_text(plan: LoopPlan) -> str:
    """A module with the kernel `@KERNEL`, whose parameter are the words of the plan; its launch is cooperative."""
    text = Text(MultiplyAdd.INTRINSIC)
    name_threads(text, ("thread", "tid"), ("block", "ctaid"), ("blocks", "nctaid"))
    nest = plan.joined
    if nest.scratch_bytes:
        text.line(f"%scratch = alloca [{nest.scratch_bytes} x i8], align {SCRATCH_ALIGNMENT}")
    text.line(f"%group = lshr i64 %thread, {LANES.bit_length() - 1}")
    write_loop(text, plan, DEVICE_WRITERS, DEVICE_WAITING)
    attributes = f'nounwind "nvvm.maxntid"="{BLOCK_THREADS}" "nvvm.minctasm"="{FEW_BLOCKS}"'
    head = f"define ptx_kernel void @KERNEL(ptr byval([{plan.words} x i64]) align 8 %args) {attributes} {{\nentry:"
    copy = copy_function() if copies_bytes(plan) else ""
    parts = [block_memory(shared_bytes(nest)) + head, *text.lines, "  ret void\n}", *declarations(text), copy]
    return "\n".join([*parts, rolled_node()])
