"""Copies to the memory of a block as this processor makes them: late, when they are awaited, or at once.

A device makes them at any time in between. Each thread keeps its own in a queue: which ones are next, to which group
the next ones belong, then a ring of entries with target, source, bytes that are kept, and group.
"""

from __future__ import annotations

from string import Template

from compiler.nest import ir
from compiler.nest.lanes import all_statements
from compiler.targets.llvm.text import MEMORY
from compiler.targets.llvm.to_llvm import Walk, Writers

_HEAD_BYTES, _ENTRY_BYTES = 24, 32


def copies_of(nest: ir.Nest) -> int:
    """How many copies of a thread may be under way: what fewer statements begin is awaited in between."""
    return sum(isinstance(statement, ir.CopyAhead) for statement in all_statements(nest.body))


def queue_lines(copies: int) -> list[str]:
    """The queue of a thread, empty."""
    if not copies:
        return []
    size = _HEAD_BYTES + copies * _ENTRY_BYTES
    return [
        f"  %copies = alloca [{size} x i8], align 16",
        f"  call void @llvm.memset.p0.i64(ptr align 16 %copies, i8 0, i64 {size}, i1 false)",
    ]


def functions_of(copies: int, is_early: bool, is_strict: bool) -> str:
    """The functions that the writers call. Where it `is_strict`, pieces begin at multiples of 16, as on a device."""
    if not copies:
        return ""
    words = {"copies": str(copies), "early": str(int(is_early)), "mask": str(-ir.PIECE_BYTES if is_strict else -1)}
    return _FUNCTIONS.substitute(words, piece=str(ir.PIECE_BYTES), head=str(_HEAD_BYTES), entry=str(_ENTRY_BYTES))


def _copy(walk: Walk, statement: ir.CopyAhead) -> str:
    target, source = places_of(walk, statement)
    kept = walk.names[statement.kept]
    return f"call void @KERNEL.begin_copy(ptr %copies, ptr {target}, ptr {source}, i64 {kept})"


def places_of(walk: Walk, statement: ir.CopyAhead) -> tuple[str, str]:
    """The target and the source of a thread's copy."""
    memory, names, text = MEMORY[statement.dtype], walk.names, walk.text
    pairs = (statement.target, statement.targets), (statement.source, statement.sources)
    target, source = (text.let(f"getelementptr {memory}, ptr {names[a]}, i64 {names[b]}", "p") for a, b in pairs)
    return target, source


def _await(walk: Walk, statement: ir.AwaitCopies) -> str:
    return f"call void @KERNEL.await_copies(ptr %copies, i64 {statement.remaining})"


WRITERS: Writers = {
    ir.CopyAhead: ("", _copy),
    ir.CommitCopies: ("", lambda *_: "call void @KERNEL.commit_copies(ptr %copies)"),
    ir.AwaitCopies: ("", _await),
}

_FUNCTIONS = Template("""
define internal void @KERNEL.copy(ptr %target, ptr %source, i64 %kept) nounwind {
  %to = call ptr @llvm.ptrmask.p0.i64(ptr %target, i64 $mask)
  %from = call ptr @llvm.ptrmask.p0.i64(ptr %source, i64 $mask)
  call void @llvm.memset.p0.i64(ptr %to, i8 0, i64 $piece, i1 false)
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %kept, i1 false)
  ret void
}
define internal void @KERNEL.copy_first(ptr %copies) nounwind {
  %first = load i64, ptr %copies
  %place = urem i64 %first, $copies
  %bytes = mul i64 %place, $entry
  %offset = add i64 %bytes, $head
  %target.at = getelementptr i8, ptr %copies, i64 %offset
  %source.at = getelementptr i64, ptr %target.at, i64 1
  %kept.at = getelementptr i64, ptr %target.at, i64 2
  %target = load ptr, ptr %target.at
  %source = load ptr, ptr %source.at
  %kept = load i64, ptr %kept.at
  call void @KERNEL.copy(ptr %target, ptr %source, i64 %kept)
  %next = add i64 %first, 1
  store i64 %next, ptr %copies
  ret void
}
define internal void @KERNEL.begin_copy(ptr %copies, ptr %target, ptr %source, i64 %kept) nounwind {
  br i1 $early, label %early, label %late
early:
  call void @KERNEL.copy(ptr %target, ptr %source, i64 %kept)
  ret void
late:
  %end.at = getelementptr i64, ptr %copies, i64 1
  %group.at = getelementptr i64, ptr %copies, i64 2
  %first = load i64, ptr %copies
  %end = load i64, ptr %end.at
  %group = load i64, ptr %group.at
  %waiting = sub i64 %end, %first
  %full = icmp uge i64 %waiting, $copies
  br i1 %full, label %make, label %put
make:
  call void @KERNEL.copy_first(ptr %copies)
  br label %put
put:
  %place = urem i64 %end, $copies
  %bytes = mul i64 %place, $entry
  %offset = add i64 %bytes, $head
  %kept.target = getelementptr i8, ptr %copies, i64 %offset
  %kept.source = getelementptr i64, ptr %kept.target, i64 1
  %kept.bytes = getelementptr i64, ptr %kept.target, i64 2
  %kept.group = getelementptr i64, ptr %kept.target, i64 3
  store ptr %target, ptr %kept.target
  store ptr %source, ptr %kept.source
  store i64 %kept, ptr %kept.bytes
  store i64 %group, ptr %kept.group
  %next = add i64 %end, 1
  store i64 %next, ptr %end.at
  ret void
}
define internal void @KERNEL.commit_copies(ptr %copies) nounwind {
  %group.at = getelementptr i64, ptr %copies, i64 2
  %group = load i64, ptr %group.at
  %next = add i64 %group, 1
  store i64 %next, ptr %group.at
  ret void
}
define internal void @KERNEL.await_copies(ptr %copies, i64 %remaining) nounwind {
entry:
  %end.at = getelementptr i64, ptr %copies, i64 1
  %group.at = getelementptr i64, ptr %copies, i64 2
  %end = load i64, ptr %end.at
  %group = load i64, ptr %group.at
  br label %head
head:
  %first = load i64, ptr %copies
  %more = icmp ult i64 %first, %end
  br i1 %more, label %look, label %done
look:
  %place = urem i64 %first, $copies
  %bytes = mul i64 %place, $entry
  %offset = add i64 %bytes, $head
  %entry.at = getelementptr i8, ptr %copies, i64 %offset
  %own.at = getelementptr i64, ptr %entry.at, i64 3
  %own = load i64, ptr %own.at
  %behind = add i64 %own, %remaining
  %due = icmp ult i64 %behind, %group
  br i1 %due, label %make, label %done
make:
  call void @KERNEL.copy_first(ptr %copies)
  br label %head
done:
  ret void
}
""")
