"""The kernels that move rows on the device and count its steps, as LLVM text: what `runner.ll` does on a processor.

Their words are those of the functions of the same names there.
"""

from __future__ import annotations

from string import Template

from compiler.targets.gpu.device import BLOCK_THREADS

ADVANCE = "dlc_advance"
SYMBOLS = ("dlc_fetch", "dlc_collect", "dlc_copy", ADVANCE)
COPY_BLOCK_BYTES = 1 << 14  # of a large copy, those of a block: four accesses of 16 bytes a thread

_HEAD = """\
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()

define internal i64 @thread() alwaysinline nounwind {
  %number = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %wide = zext i32 %number to i64
  ret i64 %wide
}

define internal i64 @block() alwaysinline nounwind {
  %number = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %wide = zext i32 %number to i64
  ret i64 %wide
}
"""
_COPIES = """
; Bytes from %from to %to: of units that both are aligned to, the %first, and so on by %step.
define internal void @copy(ptr %to, ptr %from, i64 %size, i64 %first, i64 %step) nounwind {
entry:
  %to.number = ptrtoint ptr %to to i64
  %from.number = ptrtoint ptr %from to i64
  %both = or i64 %to.number, %from.number
  %all = or i64 %both, %size
  %rest16 = and i64 %all, 15
  %is16 = icmp eq i64 %rest16, 0
  br i1 %is16, label %head16, label %narrow
narrow:
  %rest4 = and i64 %all, 3
  %is4 = icmp eq i64 %rest4, 0
  br i1 %is4, label %head4, label %head1
"""
_UNITS = Template("""\
head$bytes:
  %i$bytes = phi i64 [ %first, %$before ], [ %next$bytes, %body$bytes ]
  %at$bytes = mul i64 %i$bytes, $bytes
  %more$bytes = icmp ult i64 %at$bytes, %size
  br i1 %more$bytes, label %body$bytes, label %done
body$bytes:
  %source$bytes = getelementptr i8, ptr %from, i64 %at$bytes
  %target$bytes = getelementptr i8, ptr %to, i64 %at$bytes
  %value$bytes = load $type, ptr %source$bytes, align $bytes
  store $type %value$bytes, ptr %target$bytes, align $bytes
  %next$bytes = add i64 %i$bytes, %step
  br label %head$bytes
""")
_KERNEL = Template("""\

define ptx_kernel void @$name(ptr byval([$words x i64]) align 8 %words) nounwind "nvvm.maxntid"="$threads" {
entry:
""")
_WORD = Template("""\
  %$name.at = getelementptr i64, ptr %words, i64 $number
  %$name = load $type, ptr %$name.at, align 8
""")
_FIELD = Template("""\
  %$name.at = getelementptr i64, ptr %control, i64 $slot
  %$name = load $type, ptr %$name.at, align 8
""")
_FETCH = f"""\
  %thread = call i64 @thread()
  %row = call i64 @block()
  %start = mul i64 %local, %batch
  %place = add i64 %start, %row
  %index.at = getelementptr i64, ptr %rows, i64 %place
  %index = load i64, ptr %index.at, align 8
  %away = mul i64 %index, %stride
  %from = getelementptr i8, ptr %source, i64 %away
  %offset = mul i64 %row, %bytes
  %to = getelementptr i8, ptr %target, i64 %offset
  call void @copy(ptr %to, ptr %from, i64 %bytes, i64 %thread, i64 {BLOCK_THREADS})
  ret void
}}
"""
_COLLECT = f"""\
  %thread = call i64 @thread()
  %row = call i64 @block()
  %start = mul i64 %local, %each
  %place = add i64 %start, %row
  %ahead = mul i64 %place, %bytes
  %to = getelementptr i8, ptr %target, i64 %ahead
  %offset = mul i64 %row, %bytes
  %from = getelementptr i8, ptr %source, i64 %offset
  call void @copy(ptr %to, ptr %from, i64 %bytes, i64 %thread, i64 {BLOCK_THREADS})
  ret void
}}
"""
_COPY = f"""\
  %thread = call i64 @thread()
  %block = call i64 @block()
  %blocks.short = call i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()
  %blocks = zext i32 %blocks.short to i64
  %before = mul i64 %block, {BLOCK_THREADS}
  %first = add i64 %before, %thread
  %step = mul i64 %blocks, {BLOCK_THREADS}
  call void @copy(ptr %target, ptr %source, i64 %bytes, i64 %first, i64 %step)
  ret void
}}
"""
_ADVANCE = """\
  %thread = call i64 @thread()
  %is.first = icmp eq i64 %thread, 0
  br i1 %is.first, label %count, label %done
count:
  %step.at = getelementptr i64, ptr %control, i64 1
  %step = load i64, ptr %step.at, align 8
  %step.next = add i64 %step, 1
  store i64 %step.next, ptr %step.at, align 8
  %local.at = getelementptr i64, ptr %control, i64 2
  %local = load i64, ptr %local.at, align 8
  %local.next = add i64 %local, 1
  store i64 %local.next, ptr %local.at, align 8
  br label %done
done:
  ret void
}
"""
_FIELDS = {"local": (2, "i64"), "batch": (3, "i64"), "rows": (4, "ptr")}


def copy_function() -> str:
    """`@copy(ptr to, ptr from, i64 size, i64 first, i64 step)`, of any target."""
    units = ((16, "<4 x i32>", "entry"), (4, "i32", "narrow"), (1, "i8", "narrow"))
    loops = (_UNITS.substitute(bytes=size, type=type_, before=before) for size, type_, before in units)
    return "".join((_COPIES, *loops, "done:\n  ret void\n}\n"))


def transfers_text() -> str:
    """The module that defines SYMBOLS."""
    pointer, number = "ptr", "i64"
    return "".join(
        (
            _HEAD,
            copy_function(),
            _kernel("dlc_fetch", {"target": pointer, "source": pointer, "bytes": number, "stride": number}, _FIELDS),
            _FETCH,
            _kernel("dlc_collect", {"source": pointer, "target": pointer, "bytes": number, "each": number}, ("local",)),
            _COLLECT,
            _kernel("dlc_copy", {"target": pointer, "source": pointer, "bytes": number}, ()),
            _COPY,
            _kernel(ADVANCE, {"control": pointer}, ()),
            _ADVANCE,
        )
    )


def _kernel(name: str, words: dict[str, str], fields: tuple[str, ...] | dict[str, tuple[int, str]]) -> str:
    """The begin of a kernel: its words, and fields of the control block, which the last word is where it has any."""
    given = words | {"control": "ptr"} if fields else words
    text = _KERNEL.substitute(name=name, words=len(given), threads=BLOCK_THREADS)
    for place, (word, type_) in enumerate(given.items()):
        text += _WORD.substitute(name=word, number=place, type=type_)
    for field in fields:
        slot, type_ = _FIELDS[field]
        text += _FIELD.substitute(name=field, slot=slot, type=type_)
    return text
