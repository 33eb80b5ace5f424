"""A profile as text: how a step's time is spent, and a table by line, layer, kernel or operation."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from compiler.diagnostics import size
from compiler.harmless import harmless
from runtime.profile_rows import label_of, ms_of
from runtime.reporting.units import amount

LEAST_WIDTH = 40
_DIRECTIONS = ("forward", "backward", "update")
_GAP = "  "


class Column(NamedTuple):
    """A heading and its cells. Where a line is too narrow for all, columns of the highest `rank` are left out."""

    heading: str
    cells: Sequence[str]
    rank: int = 0
    is_text: bool = False


def width_of_output() -> int:
    """Columns of the terminal, 80 where there is none."""
    return max(LEAST_WIDTH, shutil.get_terminal_size((80, 24)).columns)


def profile_text(report: Mapping[str, Any], by: str, top: int, width: int) -> str:
    """The whole text of a profile in its JSON form; `by` is line, layer, kernel or op."""
    return "\n".join([*_head(report, width), "", *table_text(report, by, top, width), "", *_foot(report, by, width)])


def table_text(report: Mapping[str, Any], by: str, top: int, width: int) -> list[str]:
    """The table alone: the longest rows first, and one row for all others."""
    rows = sorted(report[f"{by}s"], key=lambda row: -ms_of(row))
    shown, rest = rows[:top], rows[top:]
    columns = _COLUMNS[by](shown, report["step_ms"])
    lines = laid_out(columns, width)
    if rest:
        lines.append(f"and {len(rest)} more, {sum(map(ms_of, rest)):.3g} ms")
    return lines


def laid_out(columns: Sequence[Column], width: int) -> list[str]:
    """Columns side by side. The last may be cut at the width; others are left out whole."""
    # names and texts come from files, and a saved profile may be anyone's
    kept = [column._replace(cells=[harmless(cell).replace("\t", " ") for cell in column.cells]) for column in columns]
    while len(kept) > 2 and sum(_width(c) + len(_GAP) for c in kept[:-1]) + 8 > width:
        worst = max(kept[1:-1], key=lambda c: c.rank)
        if worst.rank == 0:
            break
        kept.remove(worst)
    lines: list[str] = []
    for cells in zip(*([c.heading, *c.cells] for c in kept), strict=True):
        padded = [
            cell.ljust(_width(c)) if c.is_text else cell.rjust(_width(c)) for c, cell in zip(kept, cells, strict=True)
        ]
        lines.append(_cut(_GAP.join(padded).rstrip(), width))
    return lines


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def _width(column: Column) -> int:
    return max(len(column.heading), *map(len, column.cells), 0)


def milliseconds(value: float) -> str:
    """With as many places as four digits leave."""
    return f"{value:.4g}" if value >= 1 else f"{value:.4f}"


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}"


def _head(report: Mapping[str, Any], width: int) -> list[str]:
    step = report["step_ms"]
    what = "a training step" if report["mode"] == "train" else "an inference"
    title = f"{report['model']}: {what}, batch {report['batch']}, {threads_text(report)}, {report['dtype']}, "
    title += report["machine"]
    alone = f"one thread alone for {milliseconds(report['alone_ms'])} of the step" if report["threads"] > 1 else ""
    rows = [
        ("step", step, f"{milliseconds(report['plain_ms'])} without stamps ({report['stamps_cost']:+.1%} with)"),
        ("work, by line", sum(map(ms_of, report["lines"])), alone),
        ("at barriers", report["barrier_ms"], "waiting for others that still work"),
        ("idle", report["idle_ms"], "without anything to do"),
        ("runner", report["runner_ms"], "from kernel to kernel, stamps"),
        ("call", report["call_ms"], "before and after the steps of a call"),
    ]
    columns = [
        Column("", [name for name, _, _ in rows], is_text=True),
        Column("ms", [milliseconds(ms) for _, ms, _ in rows]),
        Column("", [_percent(ms, step) for _, ms, _ in rows]),
        Column("", [said for _, _, said in rows], is_text=True),
    ]
    return [_cut(title, width), *laid_out(columns, width)]


def threads_text(report: Mapping[str, Any]) -> str:
    """`1 thread`, `2 threads`."""
    return f"{report['threads']} thread{'s' if report['threads'] > 1 else ''}"


def _foot(report: Mapping[str, Any], by: str, width: int) -> list[str]:
    flops = sum(row["flops"] for row in report["lines"])
    rate = flops / report["step_ms"] / 1e6
    lines = [
        f"{amount(flops, 'FLOP')} a step, {rate:.4g} GFLOP/s: {rate / report['peak_gflops']:.0%} of the peak of "
        f"{report['peak_gflops']:.4g}; memory gives {report['bandwidth_gbs']:.3g} GB/s",
        f"(measured {report['peaks_measured']}, {threads_text(report)})",
    ]
    return [row for line in lines for row in _wrapped(line, width)]


def _wrapped(line: str, width: int) -> list[str]:
    rows = [""]
    for word in line.split(" "):
        if rows[-1] and len(rows[-1]) + 1 + len(word) > width:
            rows.append("")
        rows[-1] = f"{rows[-1]} {word}".strip()
    return rows


def _timed(rows: Sequence[Mapping[str, Any]], step: float, heading: str) -> list[Column]:
    return [
        Column(heading, [label_of(row) for row in rows], is_text=True),
        Column("ms", [milliseconds(ms_of(row)) for row in rows]),
        Column("%", [f"{100 * ms_of(row) / step:.1f}" for row in rows], 2),
    ]


def _work(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    return [
        Column("FLOP", [amount(row["flops"]) for row in rows], 3),
        Column("bytes", [size(int(row["bytes"])) for row in rows], 4),
    ]


def _directions(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    return [
        Column(d, [milliseconds(row[f"{d}_ms"]) if row[f"{d}_ms"] else "-" for row in rows], 1) for d in _DIRECTIONS
    ]


def _by_line(rows: Sequence[Mapping[str, Any]], step: float) -> list[Column]:
    texts = [row["text"] for row in rows]
    return [*_timed(rows, step, "line"), *_directions(rows), *_work(rows), Column("text", texts, is_text=True)]


def _by_layer(rows: Sequence[Mapping[str, Any]], step: float) -> list[Column]:
    return [*_timed(rows, step, "layer"), *_directions(rows), *_work(rows), Column("", ["" for _ in rows])]


def _by_op(rows: Sequence[Mapping[str, Any]], step: float) -> list[Column]:
    return [*_timed(rows, step, "operation"), *_work(rows), Column("", ["" for _ in rows])]


def _by_kernel(rows: Sequence[Mapping[str, Any]], step: float) -> list[Column]:
    name, *timed = _timed(rows, step, "kernel")
    name = name._replace(cells=[_cut(cell, 24) for cell in name.cells])
    return [
        name,
        *timed,
        Column("calls", [str(row["calls"]) for row in rows], 3),
        Column("FLOP", [amount(row["flops"]) for row in rows], 4),
        Column("bytes", [size(int(row["bytes"])) for row in rows], 5),
        Column("of peak", [f"{row['of_peak']:.2f}" for row in rows]),
        Column("of bandw.", [f"{row['of_bandwidth']:.2f}" for row in rows], 1),
        Column("lines", [", ".join(row["lines"]) for row in rows], is_text=True),
    ]


_COLUMNS = {"line": _by_line, "layer": _by_layer, "kernel": _by_kernel, "op": _by_op}


def difference_text(difference: Mapping[str, Any], by: str, top: int, width: int) -> str:
    """Two profiles side by side, the rows that differ most first."""
    rows = sorted(difference["rows"], key=lambda row: -abs(row["difference_ms"]))[:top]
    columns = [
        Column(by, [row["label"] for row in rows], is_text=True),
        Column("before", [_or_none(row["before_ms"]) for row in rows], 1),
        Column("after", [_or_none(row["after_ms"]) for row in rows], 1),
        Column("ms", [f"{row['difference_ms']:+.4f}" for row in rows]),
        Column("times", [_times(row["before_ms"], row["after_ms"]) for row in rows], 2),
        Column("text", [row["text"] for row in rows], is_text=True),
    ]
    changed = [f"{name}: {one} -> {other}" for name, (one, other) in difference["changed"].items()]
    left_out = len(difference["rows"]) - len(rows)
    return "\n".join(
        [
            *(part for said in changed for part in _wrapped(harmless(said), width)),
            *([""] if changed else []),
            *laid_out(columns, width),
            *([f"and {left_out} more"] if left_out else []),
        ]
    )


def _or_none(value: float | None) -> str:
    return "-" if value is None else milliseconds(value)


def _times(before: float | None, after: float | None) -> str:
    return f"{after / before:.2f}" if before and after is not None else "-"
