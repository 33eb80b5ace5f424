"""The kernel of a loop as a function of this processor: blocks go on by turns, in any order that barriers allow.

Each thread of each block is a coroutine, as in kernels whose threads wait. A block is resident until its threads have
finished; others wait for its place. In a turn, some warps of a block's threads go on to where each waits next, since
only the threads of a warp depend on each other there; one that waits for the whole block does so when all have come.
Mostly the same block has the next turn, so it goes as far ahead as barriers let it; else, or where it cannot go on,
another has.
"""

from __future__ import annotations

from string import Template

from compiler.machine import Machine
from compiler.support.numerics import LANES
from compiler.targets.gpu import matrix_text
from compiler.targets.gpu.device import BLOCK_THREADS, WARP_THREADS
from compiler.targets.gpu.emulated_copies import copies_of, functions_of, queue_lines
from compiler.targets.gpu.grid_barrier import Waiting
from compiler.targets.gpu.loop_text import LoopPlan, copies_bytes, write_loop
from compiler.targets.gpu.text import COROUTINE, END, HOST_WRITERS, SCRATCH_ALIGNMENT, shared_bytes, suspend
from compiler.targets.gpu.transfers import copy_function
from compiler.targets.llvm.multiply_add import declarations
from compiler.targets.llvm.text import Text

BLOCKS = 3  # of a kernel, as many as run at once
MEETS, LOOKS = 1, 2  # states of a thread that waits for the others of its block, or looks at a counter
WAITS_FOR_EVER = 1  # what `@KERNEL.run` gives where no block can go on


def _fence(text: Text) -> None:
    text.line(f"call void {text.let('load ptr, ptr %fence.at')}(i64 %block)")


def _meet(text: Text) -> None:
    _wait(text, MEETS)


def _pause(text: Text) -> None:
    _wait(text, LOOKS)


def _leave(text: Text) -> None:
    text.line("store i64 0, ptr %state")


def _wait(text: Text, state: int) -> None:
    text.line(f"store i64 {state}, ptr %state")
    suspend(text)


HOST_WAITING = Waiting(_meet, _fence, _pause, _leave, "")


def host_loop_text(
    plan: LoopPlan,
    machine: Machine,
    copies_early: bool = False,
    is_strict: bool = False,
    waiting: Waiting = HOST_WAITING,
) -> str:
    """A module with two functions. `@KERNEL(ptr args, i64 begin, i64 end, ptr scratch)` runs BLOCKS blocks.

    `i64 @KERNEL.run(ptr args, i64 stride, i64 blocks, i64 resident, i64 seed, ptr fence)` runs so many, of which some
    are there at once, in an order that the seed decides. A block has its words `stride` bytes behind those of the one
    before; `void fence(i64 block)` is called where a device fences its memory. It gives 0, or WAITS_FOR_EVER.
    """
    text = Text(machine.multiply_add, block="begin")
    nest = plan.joined
    copies, shared = copies_of(nest), -(-shared_bytes(nest) // 64) * 64
    text.lines += queue_lines(copies) + matrix_text.room_lines(nest, shared)
    if nest.scratch_bytes:
        text.line(f"%scratch = alloca [{nest.scratch_bytes} x i8], align {SCRATCH_ALIGNMENT}")
    text.line(f"%group = lshr i64 %thread, {LANES.bit_length() - 1}")
    text.line(f"%states = getelementptr i64, ptr %slots, i64 {2 * BLOCK_THREADS}")
    text.line("%state = getelementptr i64, ptr %states, i64 %thread")
    text.line("%blocks = load i64, ptr %grid")
    text.line("%fence.at = getelementptr i64, ptr %grid, i64 1")
    write_loop(text, plan, HOST_WRITERS, waiting)
    words = {
        "attributes": f'nounwind "prefer-vector-width"="{machine.vector_bits}"',
        "location": "",
        "further": ", ptr %grid",
        "threads": str(BLOCK_THREADS),
        "shared": str(shared + matrix_text.bytes_of_rooms(nest)),
        "blocks": str(BLOCKS),
        "waits_for_ever": str(WAITS_FOR_EVER),
        "meets": str(MEETS),
        "looks": str(LOOKS),
        "warp_bits": str(WARP_THREADS.bit_length() - 1),
    }
    head, tail, scheduler = (Template(part).substitute(words) for part in (COROUTINE, END, _SCHEDULER))
    functions = functions_of(copies, copies_early, is_strict) + matrix_text.functions_of(nest, machine.multiply_add)
    functions += copy_function() if copies_bytes(plan) else ""
    return "\n".join([head, *text.lines, tail, *declarations(text), functions, scheduler])


# Memory of a resident block: the frames of its threads, a slot, a handle and a state of each, whether it is there at
# all, and the memory that its threads share.
_SCHEDULER = """
declare ptr @malloc(i64) nounwind
declare void @free(ptr) nounwind
declare void @llvm.trap() noreturn nounwind

define internal void @KERNEL.no_fence(i64 %block) nounwind {
  ret void
}

define void @KERNEL(ptr %args, i64 %begin, i64 %end, ptr %scratch) nounwind {
  %none = icmp sge i64 %begin, %end
  br i1 %none, label %leave, label %run
run:
  %code = call i64 @KERNEL.run(ptr %args, i64 0, i64 $blocks, i64 $blocks, i64 1, ptr @KERNEL.no_fence)
  %fails = icmp ne i64 %code, 0
  br i1 %fails, label %fail, label %leave
fail:
  call void @llvm.trap()
  unreachable
leave:
  ret void
}

define internal i64 @KERNEL.frame() nounwind {
  %measured = call ptr @KERNEL.thread(ptr null, ptr null, ptr null, ptr null, i64 0, i64 0, ptr null)
  %bytes = ptrtoint ptr %measured to i64
  %padded = add i64 %bytes, 63
  %size = and i64 %padded, -64
  ret i64 %size
}

; The threads of a block begin, and go on to where each waits first.
define internal void @KERNEL.open(ptr %place, i64 %size, ptr %args, i64 %block, i64 %order, ptr %grid) nounwind {
entry:
  %frames = mul i64 %size, $threads
  %slots = getelementptr i8, ptr %place, i64 %frames
  %handles = getelementptr i64, ptr %slots, i64 $threads
  %states = getelementptr i64, ptr %handles, i64 $threads
  %here = getelementptr i64, ptr %states, i64 $threads
  %shared = getelementptr i8, ptr %here, i64 64
  store i64 1, ptr %here
  br label %threads
threads:
  %turn = phi i64 [ 0, %entry ], [ %next, %threads ]
  %thread = xor i64 %turn, %order
  %offset = mul i64 %thread, %size
  %frame = getelementptr i8, ptr %place, i64 %offset
  %state = getelementptr i64, ptr %states, i64 %thread
  store i64 0, ptr %state
  %begun = call ptr @KERNEL.thread(ptr %frame, ptr %slots, ptr %shared, ptr %args, i64 %block, i64 %thread, ptr %grid)
  %kept = getelementptr ptr, ptr %handles, i64 %thread
  store ptr %begun, ptr %kept
  %next = add i64 %turn, 1
  %more = icmp slt i64 %next, $threads
  br i1 %more, label %threads, label %done
done:
  ret void
}

; A turn of a block, in which the warps whose bits are set go on: 0 where it has finished, 1 where it went on, 2 where
; it cannot.
define internal i64 @KERNEL.turn(ptr %place, i64 %size, i64 %order, i64 %warps) nounwind {
entry:
  %frames = mul i64 %size, $threads
  %slots = getelementptr i8, ptr %place, i64 %frames
  %handles = getelementptr i64, ptr %slots, i64 $threads
  %states = getelementptr i64, ptr %handles, i64 $threads
  %here = getelementptr i64, ptr %states, i64 $threads
  %is.here = load i64, ptr %here
  %gone = icmp eq i64 %is.here, 0
  br i1 %gone, label %stuck, label %all
all:
  %turn = phi i64 [ 0, %entry ], [ %next, %turned ]
  %live = phi i64 [ 0, %entry ], [ %lived, %turned ]
  %moved = phi i64 [ 0, %entry ], [ %moves, %turned ]
  %met = phi i64 [ 0, %entry ], [ %meets, %turned ]
  %thread = xor i64 %turn, %order
  %handle = getelementptr ptr, ptr %handles, i64 %thread
  %suspended = load ptr, ptr %handle
  %finished = call i1 @llvm.coro.done(ptr %suspended)
  br i1 %finished, label %turned, label %unfinished
unfinished:
  %state = getelementptr i64, ptr %states, i64 %thread
  %before = load i64, ptr %state
  %waits = icmp eq i64 %before, $meets
  br i1 %waits, label %turned, label %choose
choose:
  %free = icmp eq i64 %before, 0
  %warp = lshr i64 %thread, $warp_bits
  %shifted = lshr i64 %warps, %warp
  %bit = and i64 %shifted, 1
  %pauses = icmp eq i64 %bit, 0
  %later = and i1 %free, %pauses
  br i1 %later, label %turned, label %resume
resume:
  call void @llvm.coro.resume(ptr %suspended)
  %after = load i64, ptr %state
  %looks = icmp eq i64 %after, $looks
  %goes = xor i1 %looks, true
  %went.on = zext i1 %goes to i64
  br label %turned
turned:
  %is.live = phi i64 [ 0, %all ], [ 1, %unfinished ], [ 1, %choose ], [ 1, %resume ]
  %has.met = phi i64 [ 0, %all ], [ 1, %unfinished ], [ 0, %choose ], [ 0, %resume ]
  %has.moved = phi i64 [ 0, %all ], [ 0, %unfinished ], [ 1, %choose ], [ %went.on, %resume ]
  %lived = or i64 %live, %is.live
  %moves = or i64 %moved, %has.moved
  %meets = add i64 %met, %has.met
  %next = add i64 %turn, 1
  %more = icmp slt i64 %next, $threads
  br i1 %more, label %all, label %over
over:
  %some = icmp ne i64 %lived, 0
  br i1 %some, label %alive, label %ended
alive:
  %everyone = icmp eq i64 %meets, $threads
  br i1 %everyone, label %release, label %judge
release:
  %size.states = mul i64 $threads, 8
  call void @llvm.memset.p0.i64(ptr %states, i8 0, i64 %size.states, i1 false)
  ret i64 1
judge:
  %any = icmp ne i64 %moves, 0
  br i1 %any, label %went, label %stuck
ended:
  store i64 0, ptr %here
  ret i64 0
went:
  ret i64 1
stuck:
  ret i64 2
}

define i64 @KERNEL.run(ptr %args, i64 %stride, i64 %blocks, i64 %resident, i64 %seed, ptr %fence) nounwind {
entry:
  %grid = alloca [2 x i64]
  store i64 %blocks, ptr %grid
  %fence.at = getelementptr i64, ptr %grid, i64 1
  store ptr %fence, ptr %fence.at
  %size = call i64 @KERNEL.frame()
  %each = add i64 %size, 24
  %threads = mul i64 %each, $threads
  %whole = add i64 %threads, ${shared}
  %bytes = add i64 %whole, 64
  %total = mul i64 %bytes, %resident
  %memory = call ptr @malloc(i64 %total)
  br label %open
open:
  %number = phi i64 [ 0, %entry ], [ %number.next, %open ]
  %offset = mul i64 %number, %bytes
  %place = getelementptr i8, ptr %memory, i64 %offset
  %ahead = mul i64 %number, %stride
  %given = getelementptr i8, ptr %args, i64 %ahead
  %order = and i64 %seed, 255
  call void @KERNEL.open(ptr %place, i64 %size, ptr %given, i64 %number, i64 %order, ptr %grid)
  %number.next = add i64 %number, 1
  %more = icmp slt i64 %number.next, %resident
  br i1 %more, label %open, label %turns
turns:
  %current = phi i64 [ 0, %open ], [ %chosen, %choose ]
  %begun = phi i64 [ %resident, %open ], [ %begun.now, %choose ]
  %ended = phi i64 [ 0, %open ], [ %ended.now, %choose ]
  %idle = phi i64 [ 0, %open ], [ %idle.now, %choose ]
  %random = phi i64 [ %seed, %open ], [ %random.next, %choose ]
  %product = mul i64 %random, 6364136223846793005
  %random.next = add i64 %product, 1442695040888963407
  %bits = lshr i64 %random.next, 33
  %turn.order = and i64 %bits, 255
  %turn.offset = mul i64 %current, %bytes
  %turn.place = getelementptr i8, ptr %memory, i64 %turn.offset
  %turn.warps = lshr i64 %bits, 8
  %state = call i64 @KERNEL.turn(ptr %turn.place, i64 %size, i64 %turn.order, i64 %turn.warps)
  switch i64 %state, label %stuck [i64 0, label %finished i64 1, label %went]
finished:
  %ended.more = add i64 %ended, 1
  %all = icmp eq i64 %ended.more, %blocks
  br i1 %all, label %done, label %look
look:
  %others = icmp slt i64 %begun, %blocks
  br i1 %others, label %replace, label %choose
replace:
  %begun.ahead = mul i64 %begun, %stride
  %begun.given = getelementptr i8, ptr %args, i64 %begun.ahead
  call void @KERNEL.open(ptr %turn.place, i64 %size, ptr %begun.given, i64 %begun, i64 %turn.order, ptr %grid)
  %begun.more = add i64 %begun, 1
  br label %choose
went:
  %luck = lshr i64 %bits, 24
  %seventh = urem i64 %luck, 7
  %stays = icmp ne i64 %seventh, 0
  %any = urem i64 %luck, %resident
  %same = select i1 %stays, i64 %current, i64 %any
  br label %choose
stuck:
  %idle.more = add i64 %idle, 1
  %for.ever = icmp eq i64 %idle.more, %resident
  %following = add i64 %current, 1
  %around = urem i64 %following, %resident
  br i1 %for.ever, label %done, label %choose
choose:
  %chosen = phi i64 [ %current, %look ], [ %current, %replace ], [ %same, %went ], [ %around, %stuck ]
  %begun.now = phi i64 [ %begun, %look ], [ %begun.more, %replace ], [ %begun, %went ], [ %begun, %stuck ]
  %ended.now = phi i64 [ %ended.more, %look ], [ %ended.more, %replace ], [ %ended, %went ], [ %ended, %stuck ]
  %idle.now = phi i64 [ 0, %look ], [ 0, %replace ], [ 0, %went ], [ %idle.more, %stuck ]
  br label %turns
done:
  %code = phi i64 [ 0, %finished ], [ $waits_for_ever, %stuck ]
  call void @free(ptr %memory)
  ret i64 %code
}
"""
