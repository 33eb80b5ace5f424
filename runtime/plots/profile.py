"""The picture of a profile: kernels under the roofs of the machine, and a timeline of the threads in a step."""

# Keyword arguments have no types in matplotlib's stubs.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.profiling.report import TimelineSpan
from runtime.plots.figure import Axes, Figure, new_axes, new_figure, shown

_LABELLED = 8  # kernels with a colour and a name of their own
_COLOURS = tuple(f"C{number}" for number in range(_LABELLED))
_OTHER, _WAIT = "0.6", "0.9"
_LEAST_INTENSITY = 1e-2


def profile_figure(report: Mapping[str, Any], spans: Sequence[TimelineSpan]) -> Figure:
    """Above the roofline: GFLOP/s over operations for a byte; below the threads over the microseconds of a step."""
    figure = new_figure(height=8.4)
    measured = [kernel for kernel in report["kernels"] if kernel["flops"] and kernel["bytes"]]
    names = list(dict.fromkeys(kernel["name"] for kernel in report["kernels"]))[:_LABELLED]
    colours = dict(zip(names, _COLOURS, strict=False))
    title = f"{report['model']}: roofline on {report['threads']} threads"
    _draw_roofs(new_axes(figure, title, "FLOP for a byte", "GFLOP/s", 0, 2), report, measured, colours)
    _draw_threads(new_axes(figure, "A step", "microseconds", "thread", 1, 2), spans, colours)
    return figure


def _draw_roofs(
    axes: Axes, report: Mapping[str, Any], kernels: Sequence[Mapping[str, Any]], colours: Mapping[str, str]
) -> None:
    peak = report["peak_gflops"]
    intensities = [kernel["flops"] / kernel["bytes"] for kernel in kernels] or [1.0]
    low, high = max(_LEAST_INTENSITY, min(intensities) / 2), max(*intensities, peak / report["bandwidth_gbs"]) * 2
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.plot([low, high], [peak, peak], color="black", linewidth=1, label=f"peak, {peak:.4g} GFLOP/s")
    fastest = report["bandwidths"][0][1]
    for rate, style, said in ((report["bandwidth_gbs"], "-", "memory"), (fastest, ":", "nearest cache")):
        knee = min(high, peak / rate)
        said = f"{said}, {rate:.3g} GB/s"
        axes.plot([low, knee], [low * rate, knee * rate], style, color="black", linewidth=1, label=said)
    longest = max((kernel["ms"] for kernel in kernels), default=1.0)
    named: set[str] = set()
    for kernel, intensity in zip(kernels, intensities, strict=False):
        colour = colours.get(kernel["name"], _OTHER)
        label = shown(kernel["name"][:32]) if kernel["name"] in colours and kernel["name"] not in named else None
        named.add(kernel["name"])
        area = 10 + 190 * kernel["ms"] / longest
        axes.scatter([max(low, intensity)], [kernel["gflops"]], s=area, color=colour, alpha=0.7, label=label)
    axes.legend(fontsize="x-small", loc="lower right", markerscale=0.5)


def _draw_threads(axes: Axes, spans: Sequence[TimelineSpan], colours: Mapping[str, str]) -> None:
    threads = sorted({span.thread for span in spans})
    for thread in threads:
        for colour in dict.fromkeys((*colours.values(), _OTHER, _WAIT)):
            chosen = [
                (span.begin, span.lasted)
                for span in spans
                if span.thread == thread and _colour(span, colours) == colour
            ]
            if chosen:
                axes.broken_barh(chosen, (thread - 0.4, 0.8), facecolors=colour)
    axes.set_yticks(threads)
    axes.invert_yaxis()
    axes.set_title("A step: kernels in their colours, others grey, waiting light", fontsize="medium")


def _colour(span: TimelineSpan, colours: Mapping[str, str]) -> str:
    return _WAIT if span.kind == "wait" else colours.get(span.name, _OTHER)
