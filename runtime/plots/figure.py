"""Figures drawn with matplotlib: attention, a search for the learning rate, schedules, and a profile."""

# Keyword arguments have no types in matplotlib's stubs.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import UsageError
from compiler.profiling.report import TimelineSpan
from compiler.support import palette
from compiler.support.harmless import harmless
from runtime.analysis.rate_range import RateRange, RateSchedule
from runtime.support.files import missing, write_output

try:
    from cycler import cycler  # matplotlib's own
    from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
except ImportError as error:
    raise missing("matplotlib", "plot", "a plot") from error

__all__ = [
    "BACKWARD",
    "FAINT",
    "FORMATS",
    "FORWARD",
    "SIGNED",
    "STRENGTHS",
    "Axes",
    "Axis",
    "Figure",
    "in_our_look",
    "new_axes",
    "new_figure",
    "shown",
    "write_figure",
]
_Arguments = ParamSpec("_Arguments")

FORMATS = (".png", ".svg", ".pdf")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "dlc",  # the same figure gives the same file
}
FORWARD, BACKWARD, UPDATE, FOURTH, FIFTH = (palette.colour(name) for name in palette.SERIES)
QUIET, FAINT, LINE = (palette.colour(name) for name in ("quiet", "faint", "line"))
_LOOK: dict[Any, Any] = {
    "figure.facecolor": palette.colour("raised"),
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": palette.colour("ink"),
    "axes.edgecolor": FAINT,
    "axes.labelcolor": QUIET,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=(FORWARD, BACKWARD, UPDATE, FOURTH, FIFTH)),
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "grid.color": LINE,
    "legend.frameon": False,
}
STRENGTHS = LinearSegmentedColormap.from_list("strengths", [palette.colour("raised"), FORWARD])
SIGNED = LinearSegmentedColormap.from_list("signed", [BACKWARD, palette.colour("raised"), FORWARD])
"""Of values from -1 to 1, as on every page."""


def in_our_look(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """The same figure with the colours and lines of the pages, whatever the caller's settings of matplotlib are."""

    @wraps(draw)
    def drawn(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> Figure:
        with rc_context(_LOOK):
            return draw(*arguments, **named)

    return drawn


def new_figure(width: float = 7.0, height: float = 4.2) -> Figure:
    """An empty figure; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def new_axes(figure: Figure, title: str, across: str, up: str, row: int = 0, rows: int = 1) -> Axes:
    """The axes of a figure, or of one of its rows, with their labels."""
    axes = figure.add_subplot(rows, 1, row + 1)
    axes.set_title(shown(title), fontsize="medium")
    axes.set_xlabel(shown(across))
    axes.set_ylabel(shown(up))
    axes.grid(visible=True)
    return axes


def shown(text: str) -> str:
    """A name of others as a part of a figure: matplotlib reads what stands between `$` as a formula."""
    return harmless(text).replace("$", r"\$")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's ending. Raises UsageError, and OSError where the disk is at fault."""
    if path.suffix not in FORMATS:
        raise UsageError(f"the format of {path} is not known", f"give a name that ends in {', '.join(FORMATS)}")
    metadata = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None} if path.suffix == ".pdf" else {}
    content = io.BytesIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a sign that no font has is a box
        figure.savefig(content, format=path.suffix[1:], dpi=150, metadata=metadata)
    write_output(path, content.getvalue())  # and never to where a link in a folder of others leads


# In inches: a panel, a token beside it, and the widest picture whose panels grow with their tokens.
_PANEL, _TOKEN, _WIDEST = 2.2, 0.13, 40.0
_SMALLEST = 2.0  # points in which a token is written


@in_our_look
def attention_figure(
    weights: Mapping[str, Array], tokens: Mapping[str, tuple[Sequence[str] | None, Sequence[str] | None]]
) -> Figure:
    """`weights`: by layer, [keys], [queries, keys] or [heads, queries, keys]; other axes in front count as heads.

    `tokens`: of the queries and the keys of a layer, where they are known; else the axes have numbers.
    """
    panels = {name: _heads(array) for name, array in weights.items()}
    across = max(len(heads) for heads in panels.values())
    most = max((len(texts) for pair in tokens.values() for texts in pair if texts is not None), default=0)
    panel = max(_PANEL, min(_TOKEN * most, _WIDEST / max(across, len(panels))))
    figure = new_figure(panel * across + 0.6, panel * len(panels) + 0.4)
    for line, (name, heads) in enumerate(panels.items()):
        for number, head in enumerate(heads):
            axes = figure.add_subplot(len(panels), across, line * across + number + 1)
            axes.imshow(head, cmap=STRENGTHS, vmin=0, vmax=max(float(np.max(head)), 1e-12), aspect="auto")
            axes.tick_params(labelsize="x-small")
            queries, keys = tokens.get(name, (None, None))
            _write_tokens(axes.yaxis, queries, panel)
            _write_tokens(axes.xaxis, keys, panel, rotation=90)
            if number == 0:
                axes.set_title(shown(name), fontsize="small", loc="left")
                axes.set_ylabel("query", fontsize="x-small")
            if line == len(panels) - 1:
                axes.set_xlabel("key", fontsize="x-small")
    return figure


def _write_tokens(axis: Axis, tokens: Sequence[str] | None, panel: float, rotation: float = 0) -> None:
    """A token for each place, as it is; numbers stay where the tokens could not be read."""
    size = 0.0 if not tokens else min(6.5, 0.8 * 72 * panel / len(tokens))
    if tokens and size >= _SMALLEST:
        axis.set_ticks(range(len(tokens)), list(map(shown, tokens)), fontsize=size, rotation=rotation)


def _heads(array: Array) -> Array:
    """[heads, queries, keys]."""
    array = array.reshape((1,) * max(0, 2 - array.ndim) + array.shape)
    return array.reshape((-1, *array.shape[-2:]))


@in_our_look
def range_figure(found: RateRange, schedule: RateSchedule | None) -> Figure:
    """Loss over rate, with what was found marked, and below it the schedule as it is now."""
    rows = 1 if schedule is None else 2
    figure = new_figure(height=4.2 * rows)
    if schedule is not None:
        _draw_schedule(new_axes(figure, "Schedule of the training", "step", schedule.setting, 1, rows), schedule)
    axes = new_axes(figure, "Learning-rate range test", found.setting, "loss", 0, rows)
    axes.set_xscale("log")
    axes.plot(found.rates, found.losses, color=FAINT, linewidth=0.8, label="loss")
    axes.plot(found.rates, found.smoothed, color=FORWARD, label="smoothed")
    # The loss after the divergence would flatten all that came before.
    finite = [loss for loss in found.smoothed if loss == loss]
    if finite:
        low, high = min(finite), finite[0]
        axes.set_ylim(low - 0.1 * abs(high - low), high + 0.6 * abs(high - low) + 1e-12)
    for rate, what, colour in (
        (found.steepest, "steepest descent", BACKWARD),
        (found.divergence, "divergence", FIFTH),
        (found.suggestion, "suggestion", UPDATE),
    ):
        if rate is not None:
            axes.axvline(rate, color=colour, linestyle="--", label=f"{what} {rate:.2g}")
    axes.legend(fontsize="small")
    return figure


@in_our_look
def schedule_figure(found: RateSchedule) -> Figure:
    """Rate over steps, with the epochs on a second scale."""
    figure = new_figure()
    _draw_schedule(new_axes(figure, "Learning-rate schedule", "step", found.setting), found)
    return figure


def _draw_schedule(axes: Axes, found: RateSchedule) -> None:
    axes.plot(found.steps, found.rates, color=FORWARD)
    axes.set_ylim(bottom=0)
    epochs = axes.twiny()
    epochs.set_xlim(*(step / found.steps_per_epoch for step in axes.get_xlim()))
    epochs.set_xlabel("epoch")


_COLOURS = (FORWARD, BACKWARD, UPDATE, FOURTH, FIFTH)
_OTHER, _WAIT = FAINT, LINE
_LEAST_INTENSITY = 1e-2


@in_our_look
def profile_figure(report: Mapping[str, Any], spans: Sequence[TimelineSpan]) -> Figure:
    """Above the roofline: GFLOP/s over operations for a byte; below the threads over the microseconds of a step."""
    figure = new_figure(height=8.4)
    measured = [kernel for kernel in report["kernels"] if kernel["flops"] and kernel["bytes"]]
    names = list(dict.fromkeys(kernel["name"] for kernel in report["kernels"]))[: len(_COLOURS)]
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
    axes.plot([low, high], [peak, peak], color=QUIET, linewidth=1, label=f"peak, {peak:.4g} GFLOP/s")
    fastest = report["bandwidths"][0][1]
    for rate, style, said in ((report["bandwidth_gbs"], "-", "memory"), (fastest, ":", "nearest cache")):
        knee = min(high, peak / rate)
        said = f"{said}, {rate:.3g} GB/s"
        axes.plot([low, knee], [low * rate, knee * rate], style, color=QUIET, linewidth=1, label=said)
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
    shades = [_WAIT if span.kind == "wait" else colours.get(span.name, _OTHER) for span in spans]
    for thread in threads:
        for colour in dict.fromkeys((*colours.values(), _OTHER, _WAIT)):
            pairs = zip(spans, shades, strict=True)
            chosen = [(span.begin, span.lasted) for span, shade in pairs if (span.thread, shade) == (thread, colour)]
            if chosen:
                axes.broken_barh(chosen, (thread - 0.4, 0.8), facecolors=colour)
    axes.set_yticks(threads)
    axes.invert_yaxis()
    axes.set_title("A step: kernels in their colours, others grey, waiting light", fontsize="medium")
