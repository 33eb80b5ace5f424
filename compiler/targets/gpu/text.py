"""The nest of a thread as LLVM text: a kernel for a device, and a function of this processor that runs blocks of it.

Both have the same instructions, from the same walk; they differ in what a thread asks of its device: which one it is,
the value of a neighbour, and to wait for its neighbours. On this processor each thread of a block is a coroutine, which
LLVM makes of a function; one that waits is suspended. A warp goes on alone until its threads wait for all of the block,
so that it is as far ahead of the others as it may be on a device.
"""

from __future__ import annotations

from string import Template

from compiler.loops.printer import FRAME
from compiler.machine import Machine, MultiplyAdd
from compiler.nest import ir
from compiler.nest.lanes import all_statements
from compiler.support.numerics import LANES
from compiler.targets.gpu import emulated_copies, matrix_text
from compiler.targets.gpu.device import BLOCK_THREADS, WARP_THREADS
from compiler.targets.gpu.emulated_copies import copies_of, functions_of, places_of, queue_lines
from compiler.targets.llvm.multiply_add import declarations
from compiler.targets.llvm.text import NAMES, Text
from compiler.targets.llvm.to_llvm import FUNCTION, WRITERS, Names, Walk, Writers, location_nodes
from compiler.types import DType

SCRATCH_ALIGNMENT = 16
MANY_SUMS, FEW_BLOCKS = 32, 2  # of a thread; blocks of up to 128 registers a thread, where the assembler may stop at 80
_TABLES, _DIRECTIVES = "LineTablesOnly", "DebugDirectivesOnly"  # PTX says the line of each instruction by a directive
_ROLLED = 1 << 20  # the number of a node: more than any line has
_SEGMENT = (WARP_THREADS - LANES) << 8 | 31  # of a warp's shuffle: lanes are counted within LANES neighbours


def device_text(nest: ir.Nest) -> str:
    """A module with the kernel `@KERNEL`, whose parameter are words: its arguments."""
    text = Text(MultiplyAdd.INTRINSIC)
    name_threads(text, ("thread", "tid"), ("block", "ctaid"))
    _body(text, nest, DEVICE_WRITERS)
    words = f"ptr byval([{len(nest.arguments)} x i64]) align 8 %args"
    attributes = f'nounwind "nvvm.maxntid"="{BLOCK_THREADS}" {_blocks(nest)}{FUNCTION}'
    head = f"define ptx_kernel void @KERNEL({words}) {attributes} {{\nentry:"
    module = _module(head, text, f"  ret void{text.location}\n}}", nest).replace(_TABLES, _DIRECTIVES)
    return block_memory(shared_bytes(nest)) + module + rolled_node()


def name_threads(text: Text, *registers: tuple[str, str]) -> None:
    """Names for numbers that registers of the device have, and for the members of an exchange."""
    for name, register in registers:
        number = text.let(f"call i32 @llvm.nvvm.read.ptx.sreg.{register}.x()")
        text.line(f"%{name} = zext i32 {number} to i64")
    first = text.let(f"trunc i64 {text.let(f'and i64 %thread, {WARP_THREADS - LANES}')} to i32")
    text.line(f"%members = shl i32 {(1 << LANES) - 1}, {first}")  # the threads of the warp that are neighbours


def block_memory(size: int) -> str:
    """The memory of a block, where it has any."""
    return f"@KERNEL_shared = internal addrspace(3) global [{size} x i8] undef, align 16\n" if size else ""


def rolled_node() -> str:
    """The node that loops name of which no several rounds stand side by side."""
    return f'!{_ROLLED} = distinct !{{!{_ROLLED}, !{{!"llvm.loop.unroll.disable"}}}}\n'


def _blocks(nest: ir.Nest) -> str:
    """The blocks for which a multiprocessor has registers: where a thread keeps much, so few that none spills."""
    sums = max((len(s.carried) for s in all_statements(nest.body) if isinstance(s, ir.Loop)), default=0)
    return f'"nvvm.minctasm"="{FEW_BLOCKS}" ' if shared_bytes(nest) or sums >= MANY_SUMS else ""


def host_text(
    nest: ir.Nest,
    machine: Machine,
    order: int = 0,
    backwards: bool = False,
    copies_early: bool = False,
    is_strict: bool = False,
) -> str:
    """A module with `@KERNEL(ptr args, i64 begin, i64 end, ptr scratch)`, which runs the blocks from begin to end.

    No result depends on the order: thread `k ^ order` of a block is its k-th, and blocks may be run `backwards`; nor on
    when copies are made. Where it `is_strict`, these begin at multiples of 16 bytes, as those of a device do.
    """
    waits = any(isinstance(s, ir.Exchange | ir.Meet | ir.Barrier) for s in all_statements(nest.body))
    text = Text(machine.multiply_add, block="begin" if waits else "entry")
    shared = -(-shared_bytes(nest) // 64) * 64
    text.lines += queue_lines(copies_of(nest)) + matrix_text.room_lines(nest, shared)
    _body(text, nest, HOST_WRITERS)
    words = {"attributes": f'nounwind "prefer-vector-width"="{machine.vector_bits}" {FUNCTION}'}
    head, tail, driver = (COROUTINE, END, _ROUNDS) if waits else (_PLAIN, _RETURN, _IN_TURN)
    words |= {
        "location": text.location,
        "further": "",
        "threads": str(BLOCK_THREADS),
        "warp": str(WARP_THREADS),
        "words": str(8 * BLOCK_THREADS),
        "order": str(order),
        "backwards": str(int(backwards)),
        "shared": str(shared + matrix_text.bytes_of_rooms(nest)),
    }
    head, tail, driver = (Template(part).substitute(words) for part in (head, tail, driver))
    functions = functions_of(copies_of(nest), copies_early, is_strict)
    functions += matrix_text.functions_of(nest, machine.multiply_add)
    return _module(head, text, tail, nest) + functions + driver


def shared_bytes(nest: ir.Nest) -> int:
    """The memory of a block that a nest needs."""
    return max((s.start + s.bytes for s in all_statements(nest.body) if isinstance(s, ir.Shared)), default=0)


def _body(text: Text, nest: ir.Nest, writers: Writers) -> None:
    text.line(f"%group = lshr i64 %thread, {LANES.bit_length() - 1}")
    if nest.scratch_bytes:
        text.line(f"%scratch = alloca [{nest.scratch_bytes} x i8], align {SCRATCH_ALIGNMENT}")
    given = zip(ir.GIVEN, ("%begin", "%end", "%scratch"), strict=True)
    walk = Walk(text, Names(given), {**WRITERS, **writers})
    walk.all(nest.body)
    walk.at(FRAME)


def _module(head: str, text: Text, tail: str, nest: ir.Nest) -> str:
    return "\n".join([head, *text.lines, tail, *declarations(text), *location_nodes(nest.lines)]) + "\n"


# a device


def _exchange(walk: Walk, statement: ir.Exchange) -> str | None:
    """A shuffle of a warp, for each 32 bits."""
    text, type_ = walk.text, statement.result.type
    name, dtype, value = NAMES[type_], type_.dtype, walk.names[statement.value]
    assert dtype is not None
    lane = text.let(f"trunc i64 {walk.names[statement.lane]} to i32")
    bits = 8 * dtype.size
    number = value
    if dtype is DType.BOOL or bits < 32:
        number = text.let(f"zext {name} {value} to i32")
    elif dtype.is_float:
        number = text.let(f"bitcast {name} {value} to i{bits}")
    if bits <= 32:
        found = _shuffled(text, number, lane)
    else:
        low = text.let(f"trunc i64 {number} to i32")
        high = text.let(f"trunc i64 {text.let(f'lshr i64 {number}, 32')} to i32")
        low, high = (_shuffled(text, half, lane) for half in (low, high))
        wide = text.let(f"shl i64 {text.let(f'zext i32 {high} to i64')}, 32")
        found = text.let(f"or i64 {wide}, {text.let(f'zext i32 {low} to i64')}")
    if dtype is DType.BOOL or bits < 32:
        return f"trunc i32 {found} to {name}"
    return f"bitcast i{bits} {found} to {name}"


def _shuffled(text: Text, value: str, lane: str) -> str:
    return text.let(f"call i32 @llvm.nvvm.shfl.sync.idx.i32(i32 %members, i32 {value}, i32 {lane}, i32 {_SEGMENT})")


def _meet(walk: Walk, _: ir.Meet) -> str:
    return "call void @llvm.nvvm.bar.warp.sync(i32 %members)"


def _shared_of_device(walk: Walk, statement: ir.Shared) -> str:
    place = f"getelementptr (i8, ptr addrspace(3) @KERNEL_shared, i64 {statement.start})"
    return f"getelementptr i8, ptr addrspacecast (ptr addrspace(3) {place} to ptr), i64 0"


def _ordinal(walk: Walk, statement: ir.Ordinal) -> None:
    walk.names[statement.result] = f"%{statement.of}"


def _loop(walk: Walk, statement: ir.Loop) -> None:
    """Where threads meet in each round, several rounds side by side would take registers, and hide nothing more."""
    meets = any(isinstance(inner, ir.Barrier) for inner in statement.body)
    walk.loop(statement, f", !llvm.loop !{_ROLLED}" if meets else "")


def _copy(walk: Walk, statement: ir.CopyAhead) -> str:
    text, (target, source) = walk.text, places_of(walk, statement)
    target = text.let(f"addrspacecast ptr {target} to ptr addrspace(3)", "p")
    source = text.let(f"addrspacecast ptr {source} to ptr addrspace(1)", "p")
    name, given = f"llvm.nvvm.cp.async.cg.shared.global.{ir.PIECE_BYTES}", f"ptr addrspace(3) {target}"
    if statement.kept == ir.PIECE_BYTES:
        return f"call void @{name}({given}, ptr addrspace(1) {source})"
    kept = text.let(f"trunc i64 {walk.names[statement.kept]} to i32")
    return f"call void @{name}.s({given}, ptr addrspace(1) {source}, i32 {kept})"


def _await(walk: Walk, statement: ir.AwaitCopies) -> str:
    return f"call void @llvm.nvvm.cp.async.wait.group(i32 {statement.remaining})"


DEVICE_WRITERS: Writers = {
    ir.Loop: ("", _loop),
    ir.Ordinal: ("", _ordinal),
    ir.Exchange: ("v", _exchange),
    ir.Meet: ("", _meet),
    ir.Barrier: ("", lambda *_: "call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)"),
    ir.Shared: ("p", _shared_of_device),
    ir.CopyAhead: ("", _copy),
    ir.CommitCopies: ("", lambda *_: "call void @llvm.nvvm.cp.async.commit.group()"),
    ir.AwaitCopies: ("", _await),
    **matrix_text.DEVICE_WRITERS,
}


# this processor


def _exchange_on_host(walk: Walk, statement: ir.Exchange) -> str:
    """Each thread leaves its value, and takes that of another when all have left theirs."""
    text, names, type_ = walk.text, walk.names, NAMES[statement.result.type]
    own = text.let("getelementptr i64, ptr %slots, i64 %thread", "p")
    text.line(f"store {type_} {names[statement.value]}, ptr {own}, align 8")
    _wait(walk, statement)
    place = text.let(f"add i64 {text.let(f'and i64 %thread, {-LANES}')}, {names[statement.lane]}")
    other = text.let(f"getelementptr i64, ptr %slots, i64 {place}", "p")
    found = text.let(f"load {type_}, ptr {other}, align 8")
    _wait(walk, statement)  # until all have taken theirs
    return f"freeze {type_} {found}"


def _wait(walk: Walk, _: ir.Statement) -> None:
    suspend(walk.text)


def suspend(text: Text) -> None:
    """Let the other threads of the block go on."""
    resumed, going_on = text.let("call i8 @llvm.coro.suspend(token none, i1 false)"), text.label("on")
    text.line(f"switch i8 {resumed}, label %suspended [i8 0, label %{going_on} i8 1, label %ended]")
    text.start(going_on)


def _barrier_on_host(walk: Walk, statement: ir.Barrier) -> None:
    """A wait of which the block is told that it is for all of its threads."""
    place = walk.text.let(f"add i64 %thread, {2 * BLOCK_THREADS}")
    kind = walk.text.let(f"getelementptr i64, ptr %slots, i64 {place}", "p")
    walk.text.line(f"store i64 1, ptr {kind}")
    _wait(walk, statement)


def _shared_on_host(walk: Walk, statement: ir.Shared) -> str:
    return f"getelementptr i8, ptr %shared, i64 {statement.start}"


HOST_WRITERS: Writers = {
    ir.Ordinal: ("", _ordinal),
    ir.Exchange: ("v", _exchange_on_host),
    ir.Meet: ("", _wait),
    ir.Barrier: ("", _barrier_on_host),
    ir.Shared: ("p", _shared_on_host),
    ir.MultiplyMatrices: ("", matrix_text.multiply_on_host(_wait)),
    **emulated_copies.WRITERS,
    **matrix_text.HOST_WRITERS,
}

_PLAIN = """define internal void @KERNEL.thread(ptr %args, i64 %block, i64 %thread) $attributes {
entry:"""
_RETURN = "  ret void$location\n}"
_IN_TURN = """
define void @KERNEL(ptr %args, i64 %begin, i64 %end, ptr %scratch) nounwind {
entry:
  br label %blocks
blocks:
  %place = phi i64 [ %begin, %entry ], [ %next, %done ]
  %next = add i64 %place, 1
  %both = add i64 %begin, %end
  %mirrored = sub i64 %both, %next
  %block = select i1 $backwards, i64 %mirrored, i64 %place
  %more = icmp slt i64 %place, %end
  br i1 %more, label %threads, label %leave
threads:
  %turn = phi i64 [ 0, %blocks ], [ %other, %threads ]
  %thread = xor i64 %turn, $order
  call void @KERNEL.thread(ptr %args, i64 %block, i64 %thread)
  %other = add i64 %turn, 1
  %rest = icmp slt i64 %other, $threads
  br i1 %rest, label %threads, label %done
done:
  br label %blocks
leave:
  ret void
}
"""

# Without memory for its values, a thread says how many bytes they take. `slots` has a word of each thread of the block;
# behind them lie the coroutines, then whether each thread waits for all of the block.
COROUTINE = """define internal ptr @KERNEL.thread(
  ptr %memory, ptr %slots, ptr %shared, ptr %args, i64 %block, i64 %thread$further
) presplitcoroutine $attributes {
entry:
  %id = call token @llvm.coro.id(i32 16, ptr null, ptr null, ptr null)
  %asks = icmp eq ptr %memory, null
  br i1 %asks, label %measure, label %start
measure:
  %bytes = call i64 @llvm.coro.size.i64()
  %number = inttoptr i64 %bytes to ptr
  ret ptr %number
start:
  %self = call ptr @llvm.coro.begin(token %id, ptr %memory)
  br label %begin
begin:"""
END = """  br label %finish$location
finish:
  %last = call i8 @llvm.coro.suspend(token none, i1 true)
  switch i8 %last, label %suspended [i8 1, label %ended]
ended:
  br label %suspended
suspended:
  call void @llvm.coro.end(ptr %self, i1 false, token none)
  ret ptr %self
}"""
# The threads of a warp go on by turns, each to where it waits next, until all wait for the block or have finished. When
# all warps have done so, the block goes on, until no thread is left.
_ROUNDS = """
declare ptr @malloc(i64) nounwind
declare void @free(ptr) nounwind
define void @KERNEL(ptr %args, i64 %begin, i64 %end, ptr %scratch) nounwind {
entry:
  %none = icmp sge i64 %begin, %end
  br i1 %none, label %leave, label %allocate
allocate:
  %measured = call ptr @KERNEL.thread(ptr null, ptr null, ptr null, ptr null, i64 0, i64 0)
  %bytes = ptrtoint ptr %measured to i64
  %padded = add i64 %bytes, 63
  %size = and i64 %padded, -64
  %each = add i64 %size, 24
  %own = mul i64 %each, $threads
  %total = add i64 %own, $shared
  %memory = call ptr @malloc(i64 %total)
  %frames = mul i64 %size, $threads
  %slots = getelementptr i8, ptr %memory, i64 %frames
  %handles = getelementptr i64, ptr %slots, i64 $threads
  %kinds = getelementptr i64, ptr %handles, i64 $threads
  %shared = getelementptr i8, ptr %memory, i64 %own
  br label %blocks
blocks:
  %place = phi i64 [ %begin, %allocate ], [ %next, %done ]
  %next = add i64 %place, 1
  %both = add i64 %begin, %end
  %mirrored = sub i64 %both, %next
  %block = select i1 $backwards, i64 %mirrored, i64 %place
  %more = icmp slt i64 %place, %end
  br i1 %more, label %clear, label %release
clear:
  call void @llvm.memset.p0.i64(ptr %kinds, i8 0, i64 $words, i1 false)
  br label %threads
threads:
  %start = phi i64 [ 0, %clear ], [ %other, %threads ]
  %thread = xor i64 %start, $order
  %offset = mul i64 %thread, %size
  %frame = getelementptr i8, ptr %memory, i64 %offset
  %begun = call ptr @KERNEL.thread(ptr %frame, ptr %slots, ptr %shared, ptr %args, i64 %block, i64 %thread)
  %kept = getelementptr ptr, ptr %handles, i64 %thread
  store ptr %begun, ptr %kept
  %other = add i64 %start, 1
  %rest = icmp slt i64 %other, $threads
  br i1 %rest, label %threads, label %warp
meet:
  call void @llvm.memset.p0.i64(ptr %kinds, i8 0, i64 $words, i1 false)
  br label %warp
warp:
  %first = phi i64 [ 0, %threads ], [ 0, %meet ], [ %next.warp, %warped ]
  %was.live = phi i1 [ false, %threads ], [ false, %meet ], [ %lives, %warped ]
  br label %round
round:
  %turn = phi i64 [ %first, %warp ], [ %following, %turned ]
  %live = phi i1 [ %was.live, %warp ], [ %lives, %turned ]
  %moving = phi i1 [ false, %warp ], [ %goes.on, %turned ]
  %turned.to = xor i64 %turn, $order
  %handle = getelementptr ptr, ptr %handles, i64 %turned.to
  %suspended = load ptr, ptr %handle
  %kind.at = getelementptr i64, ptr %kinds, i64 %turned.to
  %kind = load i64, ptr %kind.at
  %finished = call i1 @llvm.coro.done(ptr %suspended)
  %waits = icmp ne i64 %kind, 0
  %stays = or i1 %finished, %waits
  br i1 %stays, label %turned, label %resume
resume:
  call void @llvm.coro.resume(ptr %suspended)
  br label %turned
turned:
  %went = phi i1 [ false, %round ], [ true, %resume ]
  %left = xor i1 %finished, true
  %lives = or i1 %live, %left
  %moved = or i1 %moving, %went
  %after = add i64 %turn, 1
  %last.of = sub i64 %after, %first
  %is_last = icmp eq i64 %last.of, $warp
  %following = select i1 %is_last, i64 %first, i64 %after
  %goes.on = select i1 %is_last, i1 false, i1 %moved
  %still = xor i1 %moved, true
  %ends = and i1 %is_last, %still
  br i1 %ends, label %warped, label %round
warped:
  %next.warp = add i64 %first, $warp
  %more.warps = icmp slt i64 %next.warp, $threads
  br i1 %more.warps, label %warp, label %rounded
rounded:
  br i1 %lives, label %meet, label %done
done:
  br label %blocks
release:
  call void @free(ptr %memory)
  br label %leave
leave:
  ret void
}
"""
