"""Where instructions come from, as LLVM's debug locations: line n of a kernel's printed loops is node !n.

So the text of a kernel knows nothing of the source, and kernels that agree share it. Each instance of a kernel says
what its statements came from (`schedule.ir.Instance`).
"""

from __future__ import annotations

from collections.abc import Iterable

from compiler.loops.printer import FRAME

FUNCTION = "!dbg !0"


def location(line: int) -> str:
    """What an instruction of that line carries."""
    return f", !dbg !{line}"


def location_nodes(lines: Iterable[int]) -> list[str]:
    """The nodes that go with a function marked FUNCTION whose instructions carry these lines."""
    lines = sorted(set(lines))
    unit = lines[-1] + 1 if lines else 1
    file, type_, version = unit + 1, unit + 2, unit + 3
    return [
        f"!llvm.dbg.cu = !{{!{unit}}}",
        f"!llvm.module.flags = !{{!{version}}}",
        f'!0 = distinct !DISubprogram(name: "KERNEL", file: !{file}, line: {FRAME}, type: !{type_}, '
        f"spFlags: DISPFlagDefinition, unit: !{unit})",
        *(f"!{line} = !DILocation(line: {line}, scope: !0)" for line in lines),
        f"!{unit} = distinct !DICompileUnit(language: DW_LANG_C, file: !{file}, emissionKind: LineTablesOnly)",
        f'!{file} = !DIFile(filename: "KERNEL.loops", directory: "")',
        f"!{type_} = !DISubroutineType(types: !{{}})",
        f'!{version} = !{{i32 2, !"Debug Info Version", i32 3}}',
    ]
