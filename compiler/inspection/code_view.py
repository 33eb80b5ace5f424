"""Generated code (kernels, tiles, loops, LLVM text or machine code), line by line with its origins in the source."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from compiler.graph.ir import Direction, Origin
from compiler.inspection.parts import Chooser, own_origins
from compiler.inspection.ptx_view import lines_of_entry
from compiler.loops.ir import statements_of
from compiler.loops.printer import FRAME, print_kernel, statement_lines
from compiler.machine import Machine
from compiler.nest.printer import nest_lines
from compiler.schedule.ir import Instance
from compiler.support.record import record
from compiler.targets.lowered import Lowered
from compiler.targets.target import KernelTarget


@record
class CodeLine:
    """A line of code, the line of the printed kernel that it belongs to, and where that came from.

    An instruction of the machine has the labels that jumps to it name, and an offset in its function where it is known.
    """

    text: str
    statement: int
    origins: tuple[Origin, ...]
    is_instruction: bool = False
    offset: int | None = None
    labels: tuple[str, ...] = ()


@record
class KernelView:
    """A kernel under the name of its first instance, for all instances that share its code. `printed` is its text."""

    kernel: str
    symbol: str
    origins: tuple[Origin, ...]
    printed: tuple[str, ...]
    code: tuple[CodeLine, ...]

    def statement(self, line: CodeLine) -> str:
        """The line of the kernel there; nothing for an instruction of no statement."""
        return self.printed[line.statement - 1].strip() if line.origins and line.statement > FRAME else ""


def kernel_views(
    found: Lowered, stage: str, target: KernelTarget, machine: Machine, chosen: Chooser | None
) -> list[KernelView]:
    """The kernels, or those with code that is chosen; `stage` is one of `kernels tiles loops llvm ptx asm`."""
    shared: dict[str, list[Instance]] = {}
    for symbol, instance in found.instances:
        if symbol in found.texts and instance.origins and (chosen is None or chosen(instance.origins)):
            shared.setdefault(symbol, []).append(instance)
    views: list[KernelView] = []
    for symbol, instances in shared.items():
        kernel = instances[0].kernel
        printed, table = tuple(print_kernel(kernel).splitlines()), _table(instances)
        if stage == "kernels":
            if any(view.printed == printed for view in views):
                continue  # a product packs its operands in a function of its own
            code = tuple(CodeLine(row, n, table.get(n, ())) for n, row in enumerate(printed, 1))
        elif stage == "tiles":
            whole = tuple(dict.fromkeys(o for instance in instances for o in instance.origins))
            code = tuple(CodeLine(row, FRAME, whole) for row in found.tiles.get(symbol, "").splitlines())
        elif stage == "loops":
            lines = nest_lines(found.nests[symbol], [buffer.name for buffer in kernel.buffers])
            code = tuple(CodeLine(line.text, line.statement, table.get(line.statement, ())) for line in lines)
        elif stage == "llvm":
            code = tuple(_llvm_line(row, table) for row in found.texts[symbol].splitlines())
        elif stage == "ptx":
            rows = lines_of_entry(target.ptx(found.texts[symbol], machine))
            code = tuple(CodeLine(row.text, row.statement, table.get(row.statement, ())) for row in rows)
        else:
            listing = target.listing(found.texts[symbol], symbol, machine)
            code = tuple(CodeLine(i.text, i.line, table.get(i.line, ()), True, i.offset, i.labels) for i in listing)
        if any(_is_shown(line, chosen) for line in code):
            origins = dict.fromkeys(o for instance in instances for o in instance.origins)
            views.append(KernelView(kernel.name, symbol, tuple(origins), printed, code))
    if chosen is None and stage in ("llvm", "ptx", "asm"):
        views += _views_of_loops(found, stage, target, machine)
    return views


def _views_of_loops(found: Lowered, stage: str, target: KernelTarget, machine: Machine) -> list[KernelView]:
    """The kernels of loops that a device has. Their instructions are of several kernels, and say no line."""
    views: dict[str, KernelView] = {}
    for loop in found.manifest.loop_kernels:
        origins = dict.fromkeys(o for lines in loop.beside for line in lines for o in found.call_of(line)[1].origins)
        text = found.texts[loop.symbol]
        if stage == "asm":
            listing = target.listing(text, loop.symbol, machine)
            code = tuple(CodeLine(i.text, i.line, (), True, i.offset, i.labels) for i in listing)
        else:
            rows = text.splitlines() if stage == "llvm" else [r.text for r in lines_of_entry(target.ptx(text, machine))]
            code = tuple(CodeLine(row, 0, ()) for row in rows)
        name = f"a loop of {found.manifest.entries[loop.line].extent} steps"
        views[loop.symbol] = KernelView(name, loop.symbol, tuple(origins), (), code)
    return [*views.values()]


def _table(instances: Sequence[Instance]) -> dict[int, tuple[Origin, ...]]:
    """The origins of each line of the printed kernel, from all instances that share it."""
    found: dict[int, dict[Origin, None]] = {}
    for instance in instances:
        statements = statements_of(instance.kernel)
        if statements:
            lines = statement_lines(instance.kernel)
            pairs = [(lines.get(id(s)), o) for s, o in zip(statements, instance.statements, strict=True)]
        else:
            pairs = [(n, instance.origins) for n, _ in enumerate(print_kernel(instance.kernel).splitlines(), 1)]
        for line, origins in pairs:
            if line is not None:
                found.setdefault(line, {}).update(dict.fromkeys(origins))
    return {line: tuple(origins) for line, origins in found.items()}


def _llvm_line(row: str, table: Mapping[int, tuple[Origin, ...]]) -> CodeLine:
    located = re.search(r", !dbg !(\d+)$", row)
    line = int(located[1]) if located else 0
    return CodeLine(row, line, table.get(line, ()))


def print_views(views: Sequence[KernelView], stage: str, chosen: Chooser | None, machine: Machine | None = None) -> str:
    """The kernels as text. With `chosen`, statements that it refuses are left out of loops, LLVM text and machine code.

    A `machine` that was chosen stands above them.
    """
    code = {"loops": _print_loops, "llvm": _print_llvm, "ptx": _print_ptx, "asm": _print_assembly}
    printed = {"kernels": _print_kernel, "tiles": _print_tiles, **code}[stage]
    comment = {"llvm": ";", "ptx": "//"}.get(stage, "#")
    title = f"{comment} code for {machine.description}\n" if machine else ""
    return title + "\n".join(
        f"{comment} {view.kernel}, from {', '.join(places_of(view.origins))}\n{printed(view, chosen)}" for view in views
    )


def places_of(origins: Sequence[Origin]) -> list[str]:
    return sorted({f"{o.user_span.source.name}:{o.user_span.line} ({o.direction.value})" for o in origins})


def margin_of(origins: Sequence[Origin]) -> str:
    """`model.dl:4`, `model.dl:4,5 backward`: lines of the user, or of the library where there are no others."""
    directions: dict[tuple[str, int], set[Direction]] = {}
    for origin in own_origins(origins):
        place = (Path(origin.user_span.source.name).name, origin.user_span.line)
        directions.setdefault(place, set()).add(origin.direction)
    alike: dict[tuple[str, str], list[int]] = {}
    for (file, line), found in sorted(directions.items(), key=lambda item: item[0]):
        said = "+".join(d.value for d in Direction if d in found)
        alike.setdefault((file, said), []).append(line)
    return ", ".join(
        f"{file}:{','.join(map(str, lines))}" + (f" {said}" if said != Direction.FORWARD.value else "")
        for (file, said), lines in alike.items()
    )


def _print_kernel(view: KernelView, chosen: Chooser | None) -> str:
    """Every line, and behind it where it came from."""
    margins = [margin_of(c.origins) if _is_shown(c, chosen) else "" for c in view.code]
    width = max(len(c.text) for c in view.code)
    rows = [f"{c.text:{width}}  # {m}" if m else c.text for c, m in zip(view.code, margins, strict=True)]
    return "\n".join(rows) + "\n"


def _print_tiles(view: KernelView, chosen: Chooser | None) -> str:
    """Whole, as it can be read back."""
    return "\n".join(line.text for line in view.code) + "\n"


def _print_loops(view: KernelView, chosen: Chooser | None) -> str:
    """A nest with comments, as LLVM text is printed; the loops around chosen statements stay."""
    return _commented(view, _with_loops_around(view.code, chosen), "#")


def _print_llvm(view: KernelView, chosen: Chooser | None) -> str:
    return _commented(view, [_is_shown(line, chosen) for line in view.code], ";")


def _print_ptx(view: KernelView, chosen: Chooser | None) -> str:
    return _commented(view, [_is_shown(line, chosen) for line in view.code], "//")


def _with_loops_around(code: Sequence[CodeLine], chosen: Chooser | None) -> list[bool]:
    """Which lines are chosen, or begin a block in which one is."""
    shown: list[bool] = []
    depth = 0  # of the last line behind, up to which what begins a block is shown
    for line in reversed(code):
        here = len(line.text) - len(line.text.lstrip())
        shown.append(_is_shown(line, chosen) or (line.text.endswith(":") and here < depth))
        depth = here if shown[-1] else depth
    return shown[::-1]


def _commented(view: KernelView, shown: Sequence[bool], comment: str) -> str:
    """Text with comments: the kernel's statement where a new one begins, and behind each line where it came from."""
    rows: list[str] = []
    before, left_out = "", 0
    for line, is_shown in zip(view.code, shown, strict=True):
        if not is_shown:
            left_out += 1
            continue
        indent = line.text[: len(line.text) - len(line.text.lstrip())]
        if left_out:
            rows.append(f"{indent}{comment} ... {left_out} lines")
        statement, margin = view.statement(line), margin_of(line.origins)
        rows += [f"{indent}{comment} {statement}"] if statement not in ("", before) else []
        rows.append(f"{line.text}{' ' * (comment == '#')} {comment} {margin}" if margin else line.text)
        before, left_out = statement, 0
    return "\n".join([*rows, *([f"  {comment} ... {left_out} lines"] if left_out else [])]) + "\n"


def _print_assembly(view: KernelView, chosen: Chooser | None) -> str:
    """Instructions with their offsets, the statement where a new one begins, and in a margin where they came from."""
    width = max(len(margin_of(c.origins)) for c in view.code)
    none = " " * width + " | "
    rows: list[str] = []
    before = ""
    for line, left_out in _shortened(view.code, chosen):
        if left_out:
            rows.append(f"{none}       ... {left_out} instructions")
        if line is not None:
            statement = view.statement(line)
            rows += [f"{none}{label}:" for label in line.labels]
            rows += [f"{none}       # {statement}"] if statement not in ("", before) else []
            operation, _, operands = line.text.partition("\t")
            offset = "" if line.offset is None else f"{line.offset:x}"
            row = f"{margin_of(line.origins):{width}} | {offset:>5}  {operation:12} {operands}"
            rows.append(row.rstrip())
            before = statement
    return "\n".join(rows) + "\n"


def _is_shown(line: CodeLine, chosen: Chooser | None) -> bool:
    return chosen is None or chosen(line.origins)


def _shortened(code: Sequence[CodeLine], chosen: Chooser | None) -> list[tuple[CodeLine | None, int]]:
    """The chosen lines, each with the number of those left out before it, and at the end None with the rest."""
    found: list[tuple[CodeLine | None, int]] = []
    left_out = 0
    for line in code:
        if _is_shown(line, chosen):
            found.append((line, left_out))
            left_out = 0
        else:
            left_out += 1
    return [*found, (None, left_out)]


def views_to_json(views: Sequence[KernelView], chosen: Chooser | None, machine: Machine) -> str:
    """A list of kernels, each with its code: the chosen lines with file, line, path and direction of their sources."""
    return json.dumps(
        [
            {
                "kernel": view.kernel,
                "symbol": view.symbol,
                "machine": machine.name,
                "lines": places_of(view.origins),
                "code": [_line_to_json(view, line) for line in view.code if _is_shown(line, chosen)],
            }
            for view in views
        ]
    )


def _line_to_json(view: KernelView, line: CodeLine) -> dict[str, object]:
    written: dict[str, object] = {"text": line.text}
    if line.is_instruction:
        written = {"offset": line.offset, "instruction": line.text.replace("\t", " "), "labels": list(line.labels)}
    sources = dict.fromkeys(
        (o.user_span.source.name, o.user_span.line, o.path, o.direction.value) for o in line.origins
    )
    names = ("file", "line", "path", "direction")
    written["statement"] = view.statement(line) or None
    written["sources"] = [dict(zip(names, source, strict=True)) for source in sources]
    return written
