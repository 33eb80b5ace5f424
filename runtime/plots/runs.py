"""The plots of a run: curves, confusion matrix, weights, gradients, and the filters of its first convolution."""

# Keyword arguments have no types in matplotlib's stubs.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import UsageError
from runtime.analysis.examined.confusion import Confusion
from runtime.analysis.examined.weights import first_filters
from runtime.plots.figure import Figure, new_axes, new_figure, shown
from runtime.reporting.line_chart import is_far_apart
from runtime.runs.listing import curves_of
from runtime.support.files import JsonObject

_BINS = 60
_NUMBERED_CLASSES = 25  # above this many, the numbers in the cells would be too small to read


def curves_figure(epochs: Sequence[JsonObject]) -> Figure:
    """Each scalar over the epochs, in training and validation, with the best epoch marked."""
    curves = curves_of(epochs)
    if not curves:
        raise UsageError("the run has no epochs yet", "train for longer")
    figure = new_figure(height=2.6 * len(curves) + 0.6)
    best = [epoch["epoch"] for epoch in epochs if epoch.get("best") is True]
    for place, (name, lines) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(len(curves), 1, place)
        for label, points in lines.items():
            axes.plot(
                [x for x, _ in points], [y for _, y in points], label=label, marker="." if len(points) < 3 else ""
            )
        if best and isinstance(best[-1], int):
            axes.axvline(best[-1], color="0.6", linestyle=":", label="best epoch")
        is_logarithmic = is_far_apart([y for points in lines.values() for _, y in points])
        axes.set_ylabel(shown(f"{name}, logarithmic" if is_logarithmic else name))
        if is_logarithmic:
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        if place == len(curves):
            axes.set_xlabel("epoch")
    return figure


_LETTERS = 30  # of the name of a class: longer ones leave no room for the matrix


def confusion_figure(found: Confusion) -> Figure:
    """The matrix with counts in its cells; colours by the share of the true class."""
    counts = found.counts
    size = max(4.0, 0.45 * min(len(found.classes), _NUMBERED_CLASSES) + 1.5)
    figure = new_figure(size, size)
    axes = new_axes(figure, f"Confusion: {100 * found.accuracy:.1f} % right", f"predicted {found.target}", found.target)
    axes.grid(visible=False)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = list(range(len(found.classes)))
    if len(places) <= _NUMBERED_CLASSES:
        classes = [shown(name if len(name) <= _LETTERS else name[:_LETTERS] + "…") for name in found.classes]
        axes.set_xticks(places, classes, rotation=45, ha="right")
        axes.set_yticks(places, classes)
        for row in places:
            for column in places:
                colour = "white" if shares[row, column] > 0.5 else "black"
                count = int(counts[row, column])
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize="small")
    return figure


def weights_figure(weights: Mapping[str, Array]) -> Figure:
    """A histogram of each tensor's elements."""
    columns = min(3, len(weights))
    rows = -(-len(weights) // columns)
    figure = new_figure(3.2 * columns, 2.2 * rows + 0.4)
    for place, (path, values) in enumerate(weights.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        finite = values[np.isfinite(values)].ravel()
        axes.hist(finite, bins=_BINS, color="tab:blue")
        spread = f"{finite.mean():.2g} ± {finite.std():.2g}" if finite.size else "not finite"
        axes.set_title(f"{shown(path)} {list(values.shape)}\n{spread}", fontsize="x-small")
        axes.tick_params(labelsize="x-small")
    return figure


def gradients_figure(flow: Mapping[str, float], weights: Mapping[str, Array]) -> Figure:
    """The root mean square of each parameter's gradient, and of its weights, on one logarithmic scale."""
    figure = new_figure(height=0.3 * len(flow) + 1.4)
    axes = new_axes(figure, "Gradient flow", "root mean square of the elements", "")
    places = list(range(len(flow)))
    axes.set_xscale("log")
    axes.barh(places, [value or math.nan for value in flow.values()], color="tab:orange", label="gradient")
    sizes = [math.sqrt(float(np.square(weights[path], dtype=np.float64).mean())) or math.nan for path in flow]
    axes.plot(sizes, places, "|", color="tab:blue", markersize=12, label="weights")
    axes.set_yticks(places, list(map(shown, flow)))
    axes.invert_yaxis()
    axes.legend(fontsize="small")
    return figure


def filters_figure(weights: Mapping[str, Array]) -> Figure:
    """The filters [height, width, channels, filters] of the first convolution; three channels are shown as colours."""
    found = first_filters(weights)
    if found is None:
        raise UsageError("the model has no convolution over images", "leave `filters` out")
    images, bound = found.images, found.bound
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    figure = new_figure(0.8 * columns + 0.4, 0.8 * rows + 0.8)
    counted = f"{len(images)} of {found.count}" if found.count > len(images) else str(len(images))
    size = f"{images.shape[1]} × {images.shape[2]}"
    figure.suptitle(f"{shown(found.path)}: {counted} filters of {size}", fontsize="small")
    for place, image in enumerate(images, 1):
        axes = figure.add_subplot(rows, columns, place)
        if image.shape[2] == 3:
            axes.imshow(0.5 + 0.5 * image / bound)
        else:
            axes.imshow(image.mean(axis=2), cmap="RdBu", vmin=-bound, vmax=bound)
        axes.set_axis_off()
    return figure
