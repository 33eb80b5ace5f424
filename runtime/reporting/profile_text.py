"""A profile, or a simulation of many threads, as text: how a step's time is spent, and a table of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compiler.errors.diagnostics import size, wrapped
from compiler.errors.suggestions import counted
from compiler.support.harmless import harmless
from runtime.analysis.profile import label_of, ms_of
from runtime.reporting.tables import Column, cut, laid_out
from runtime.reporting.units import amount

_DIRECTIONS = ("forward", "backward", "update")
_LEAST_TEXT = 20


def profile_text(report: Mapping[str, Any], by: str, top: int, width: int) -> str:
    """The whole text of a profile in its JSON form; `by` is line, layer, kernel or op."""
    title, parts = head_of(report)
    head = [*wrapped(title, width, "  "), *laid_out(parts, width)]
    foot = [row for line in foot_of(report) for row in wrapped(line, width)]
    return "\n".join([*head, "", *table_text(report, by, top, width), "", *foot])


def table_text(report: Mapping[str, Any], by: str, top: int, width: int) -> list[str]:
    """The table alone: the longest rows first, and one row for all others."""
    columns, rest = table_of(report, by, top)
    return [*laid_out(columns, width), *rest]


def table_of(report: Mapping[str, Any], by: str, top: int) -> tuple[list[Column], list[str]]:
    """The columns of the longest rows, and a line about all others, if there are any."""
    rows = sorted(report[f"{by}s"], key=lambda row: -ms_of(row))
    shown, rest = rows[:top], rows[top:]
    said = [f"and {len(rest)} more, {sum(map(ms_of, rest)):.3g} ms"] if rest else []
    return _COLUMNS[by](shown, report["step_ms"]), said


def milliseconds(value: float) -> str:
    """With as many places as four digits leave."""
    return f"{value:.4g}" if value >= 1 else f"{value:.4f}"


def head_of(report: Mapping[str, Any]) -> tuple[str, list[Column]]:
    """What was measured, and the columns of the parts of a step."""
    step = report["step_ms"]
    named = {"train": "a training step", "infer": "an inference"}
    what = named.get(report["mode"], report["mode"])
    title = f"{report['model']}: {what}, batch {report['batch']}, "
    if not report.get("device"):
        title += f"{counted(report['threads'], 'thread')}, "
    title += f"{report['dtype']}, {report['machine']}"
    if not report.get("device"):
        title += ", tuned" if report.get("tuning") else ", usual tuning"
    rows = _parts_on_device(report) if report.get("device") else _parts(report)
    columns = [
        Column("", [name for name, _, _ in rows], is_text=True),
        Column("ms", [milliseconds(ms) for _, ms, _ in rows]),
        Column("", [f"{ms / step:.1%}" for _, ms, _ in rows]),
        Column("", [said for _, _, said in rows], is_text=True, least=_LEAST_TEXT, wraps=True),
    ]
    return title, columns


def _parts(report: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """The parts of a step: their names, milliseconds and meanings."""
    alone = f"one thread alone for {milliseconds(report['alone_ms'])} of the step" if report["threads"] > 1 else ""
    plain = f"{milliseconds(report['plain_ms'])} without stamps ({report['stamps_cost']:+.1%} with)"
    return [
        ("step", report["step_ms"], plain),
        ("work, by line", sum(map(ms_of, report["lines"])), alone),
        ("at barriers", report["barrier_ms"], "waiting for others that still work"),
        ("idle", report["idle_ms"], "without anything to do"),
        ("runner", report["runner_ms"], "from kernel to kernel, stamps"),
        ("call", report["call_ms"], "before and after the steps of a call"),
    ]


def _parts_on_device(report: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    plain = f"{milliseconds(report['plain_ms'])} as a graph, in which kernels run beside each other"
    return [
        ("step", report["step_ms"], f"one kernel after the other; {plain}"),
        ("work, by line", sum(map(ms_of, report["lines"])), "from the event before a kernel to that behind it"),
        ("count", report["runner_ms"], "the end of a step, which counts it"),
        ("call", report["call_ms"], "before and after the steps of a call"),
    ]


def foot_of(report: Mapping[str, Any]) -> list[str]:
    """Lines that compare the step with what the processor can do."""
    flops = sum(row["flops"] for row in report["lines"])
    rate = flops / report["step_ms"] / 1e6
    threads = "" if report.get("device") else f", {counted(report['threads'], 'thread')}"
    return [
        f"{amount(flops, 'FLOP')} a step, {rate:.4g} GFLOP/s: {rate / report['peak_gflops']:.0%} of the peak of "
        f"{report['peak_gflops']:.4g}; memory gives {report['bandwidth_gbs']:.3g} GB/s",
        f"(measured {report['peaks_measured']}{threads})",
    ]


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
    return [
        *_timed(rows, step, "line"),
        *_directions(rows),
        *_work(rows),
        Column("text", texts, is_text=True, least=_LEAST_TEXT),
    ]


def _by_kernel(rows: Sequence[Mapping[str, Any]], step: float) -> list[Column]:
    name, *timed = _timed(rows, step, "kernel")
    name = name._replace(cells=[cut(cell, 24) for cell in name.cells])
    return [
        name,
        *timed,
        Column("calls", [str(row["calls"]) for row in rows], 3),
        Column("FLOP", [amount(row["flops"]) for row in rows], 4),
        Column("bytes", [size(int(row["bytes"])) for row in rows], 5),
        Column("of peak", [f"{row['of_peak']:.2f}" for row in rows]),
        Column("of bandw.", [f"{row['of_bandwidth']:.2f}" for row in rows], 1),
        Column("lines", [", ".join(row["lines"]) for row in rows], is_text=True, least=_LEAST_TEXT, wraps=True),
    ]


_COLUMNS: Mapping[str, Callable[[Sequence[Mapping[str, Any]], float], list[Column]]] = {
    "line": _by_line,
    "layer": lambda rows, step: [*_timed(rows, step, "layer"), *_directions(rows), *_work(rows)],
    "kernel": _by_kernel,
    "op": lambda rows, step: [*_timed(rows, step, "operation"), *_work(rows)],
}


def difference_text(difference: Mapping[str, Any], by: str, top: int, width: int) -> str:
    """Two profiles side by side, the rows that differ most first."""
    rows = sorted(difference["rows"], key=lambda row: -abs(row["difference_ms"]))[:top]
    columns = [
        Column(by, [row["label"] for row in rows], is_text=True),
        Column("before", [_or_none(row["before_ms"]) for row in rows], 1),
        Column("after", [_or_none(row["after_ms"]) for row in rows], 1),
        Column("ms", [f"{row['difference_ms']:+.4f}" for row in rows]),
        Column("times", [_times(row["before_ms"], row["after_ms"]) for row in rows], 2),
        Column("text", [row["text"] for row in rows], is_text=True, least=_LEAST_TEXT, wraps=True),
    ]
    changed = [f"{name}: {one} -> {other}" for name, (one, other) in difference["changed"].items()]
    left_out = len(difference["rows"]) - len(rows)
    return "\n".join(
        [
            *(part for said in changed for part in wrapped(harmless(said), width)),
            *([""] if changed else []),
            *laid_out(columns, width),
            *([f"and {left_out} more"] if left_out else []),
        ]
    )


def _or_none(value: float | None) -> str:
    return "-" if value is None else milliseconds(value)


def _times(before: float | None, after: float | None) -> str:
    return f"{after / before:.2f}" if before and after is not None else "-"


def simulation_text(report: Mapping[str, Any], top: int, width: int) -> str:
    """The whole text of a simulation in its JSON form."""
    lines = [*_simulated_head(report), "", *_simulated_table(report, top, width), "", *_simulated_foot(report)]
    return "\n".join(part for line in lines for part in wrapped(line, width, " " * 20))


def _simulated_head(report: Mapping[str, Any]) -> list[str]:
    threads = report["threads"]
    rows = [
        ("model", f"{report['model']}, {report['mode']}, batch {report['batch']}"),
        ("one thread", f"{report['one_ms']:.4g} ms a step, of {report['steps']}"),
        (
            f"{threads} threads",
            f"{report['step_ms']:.4g} ms: {report['speedup']:.3g} times as fast, efficiency {report['efficiency']:.2f}",
        ),
    ]
    if report["measured_ms"] is not None:
        rows.append(("a real run", f"{report['measured_ms']:.4g} ms with {threads} threads"))
    names = ("even shares", "one at work", "uneven", "barriers", "memory")
    keys = ("even_ms", "serial_ms", "uneven_ms", "barrier_ms", "memory_ms")
    for name, key in zip(names, keys, strict=True):
        said = f"{report[key]:.4g} ms"
        if key == "barrier_ms":
            said += f", {report['barriers']} of {report['barrier_us']:.3g} µs ({report['barrier_is']})"
        if key == "memory_ms" and report["bandwidth_gbs"] is None:
            continue
        rows.append((f"  {name}", said))
    if report["at_once_cores"] > 1:
        said = f"{report['at_once_ms']:.4g} ms of these, as measured with {report['at_once_cores']} threads at once"
        rows.append(("  slower at once", said))
    return [f"{name:<18}{value}" for name, value in rows]


def _simulated_table(report: Mapping[str, Any], top: int, width: int) -> list[str]:
    rows = report["kernels"][:top]
    rest = report["kernels"][top:]
    columns = [
        Column("lost ms", [f"{row['lost_ms']:.3g}" for row in rows]),
        Column("ms", [f"{row['ms']:.3g}" for row in rows]),
        Column("1 thread", [f"{row['one_ms']:.3g}" for row in rows], 2),
        Column("effic.", [f"{row['efficiency']:.2f}" for row in rows]),
        Column("sharers", [str(row["sharers"]) for row in rows], 1),
        Column("calls", [str(row["calls"]) for row in rows], 3),
        Column(
            "kernel, lines",
            [f"{row['name']}  {', '.join(row['lines'])}".rstrip() for row in rows],
            is_text=True,
            least=20,
            wraps=True,
        ),
    ]
    lines = laid_out(columns, width)
    if rest:
        lines.append(f"and {len(rest)} more, which lose {sum(row['lost_ms'] for row in rest):.3g} ms")
    return lines


def _simulated_foot(report: Mapping[str, Any]) -> list[str]:
    if report["threads"] > 1 and not report["barriers"]:
        return ["no kernel has work for several threads, so one runs the step"]
    return ["not modelled:", *(f"  {what}" for what in report["not_modelled"])]
