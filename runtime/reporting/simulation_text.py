"""A simulation of many threads as text: how a step's time is made up, and the kernels that limit it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler.errors.diagnostics import wrapped
from runtime.reporting.tables import Column, laid_out


def simulation_text(report: Mapping[str, Any], top: int, width: int) -> str:
    """The whole text of a simulation in its JSON form."""
    lines = [*_head(report), "", *_table(report, top, width), "", *_foot(report)]
    return "\n".join(part for line in lines for part in wrapped(line, width, " " * 20))


def _head(report: Mapping[str, Any]) -> list[str]:
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


def _table(report: Mapping[str, Any], top: int, width: int) -> list[str]:
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


def _foot(report: Mapping[str, Any]) -> list[str]:
    if report["threads"] > 1 and not report["barriers"]:
        return ["no kernel has work for several threads, so one runs the step"]
    return ["not modelled:", *(f"  {what}" for what in report["not_modelled"])]
