"""All blocks of a kernel wait for each other: a counter in the device's memory, between fences of the device.

Why it orders memory, by the model of PTX (sections 8.5 to 8.10 of its manual). Let a thread t of block A write before
the barrier, and a thread u of block B read behind it. t's write comes before A's first wait in program order; that wait
synchronizes with the first thread a of A. a's fence and its addition to the counter are a release pattern, as both are
strong, of the scope of the device, and the addition is relaxed. b, the first thread of B, leaves its loop when it reads
a value whose sign has turned. All additions to the counter are atomic, so each reads that which the one before wrote,
and the value that b read was written by the last arrival or by an addition that followed: in observation order, a's
addition comes before b's read. That read and b's second fence are an acquire pattern, so a synchronizes with b. B's
second wait synchronizes b with u. Synchronizing and program order make up causality order, which is transitive: t's
write comes before u's read in it, so u reads it or a later one. No read may be one of read-only data (`ld.global.nc`),
which the model leaves out. In the same way u's writes come behind t's reads.

Why the sign turns exactly when all have come, and no reset is needed: of n blocks the first adds 2^31 - (n - 1) and
each other 1, together 2^31, which turns the sign and leaves the bits below it 0. Without one of these shares they hold
2^31 - 1 at most, so before the last arrival the sign is as each block saw it when it came. A block that has left may
come to the next barrier, but the sign turns no second time before all have come there, and so have left this one.

Why it ends: blocks that wait hold their multiprocessor, so all must run at once. The launch is cooperative, which the
driver refuses where they do not fit.
"""

from __future__ import annotations

from collections.abc import Callable

from compiler.support.record import record
from compiler.targets.llvm.text import Text

TURN = 1 << 31  # what all blocks add together


@record(eq=False)
class Waiting:
    """How a barrier is written: a wait of a block's threads for each other, a fence, and a pause between two looks.

    `scope` is that of atomic accesses; `leave` is written where the looking ends.
    """

    meet: Callable[[Text], None]
    fence: Callable[[Text], None]
    pause: Callable[[Text], None]
    leave: Callable[[Text], None]
    scope: str


def open_barriers(text: Text) -> None:
    """The names that barriers of a kernel use: `%leads`, and the `%share` of a block in turning the sign."""
    text.line("%leads = icmp eq i64 %thread, 0")
    others = text.let(f"sub i32 {TURN - (1 << 32) + 1}, {text.let('trunc i64 %blocks to i32')}")
    text.line(f"%share = select i1 {text.let('icmp eq i64 %block, 0')}, i32 {others}, i32 1")


def grid_barrier(text: Text, waiting: Waiting) -> None:
    """Wait until all `%blocks` have come; `%counter` is theirs alone."""

    def arrive() -> None:
        waiting.fence(text)
        before = text.let(f"atomicrmw add ptr %counter, i32 %share{waiting.scope} monotonic, align 4")
        look, pause, leave = text.label("look"), text.label("pause"), text.label("turned")
        text.line(f"br label %{look}")
        text.start(look)
        now = text.let(f"load atomic i32, ptr %counter{waiting.scope} monotonic, align 4")
        turned = text.let(f"icmp slt i32 {text.let(f'xor i32 {now}, {before}')}, 0")
        text.line(f"br i1 {turned}, label %{leave}, label %{pause}")
        text.start(pause)
        waiting.pause(text)
        text.line(f"br label %{look}")
        text.start(leave)
        waiting.leave(text)
        waiting.fence(text)

    waiting.meet(text)
    text.when("%leads", arrive)
    waiting.meet(text)
