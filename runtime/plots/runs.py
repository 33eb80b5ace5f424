"""The plots of a run, and their data: curves, confusion matrix, weights, activations, gradients, first filters."""

# Keyword arguments have no types in matplotlib's stubs.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from compiler import driver
from compiler.driver import Array, GraphKind, Options, Purpose, Steps
from compiler.errors.diagnostics import UsageError
from runtime.analysis.evaluation_data import evaluation_data
from runtime.analysis.examined.examination import confusion
from runtime.analysis.examined.measures import Confusion
from runtime.analysis.examined.weights import first_filters
from runtime.data.part import Part, at_epoch, in_precision, numbered
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.plots.figure import (
    BACKWARD,
    FAINT,
    FORWARD,
    SIGNED,
    STRENGTHS,
    Figure,
    in_our_look,
    new_axes,
    new_figure,
    shown,
)
from runtime.reporting.charts import is_far_apart
from runtime.runs.checkpoint import best_checkpoint, newest_checkpoint
from runtime.runs.directory import open_run
from runtime.runs.listing import curves_of, epochs_of
from runtime.runs.trained import Trained, open_trained_run
from runtime.support.files import JsonObject

_BINS = 60
_NUMBERED_CLASSES = 25  # above this many, the numbers in the cells would be too small to read


@in_our_look
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
            axes.axvline(best[-1], color=FAINT, linestyle=":", label="best epoch")
        is_logarithmic = is_far_apart([y for points in lines.values() for _, y in points])
        axes.set_ylabel(shown(f"{name}, logarithmic" if is_logarithmic else name))
        if is_logarithmic:
            axes.set_yscale("log")
        axes.grid(visible=True)
        axes.legend(fontsize="small")
        if place == len(curves):
            axes.set_xlabel("epoch")
    return figure


_LETTERS = 30  # of the name of a class: longer ones leave no room for the matrix


@in_our_look
def confusion_figure(found: Confusion) -> Figure:
    """The matrix with counts in its cells; colours by the share of the true class."""
    counts = found.counts
    size = max(4.0, 0.45 * min(len(found.classes), _NUMBERED_CLASSES) + 1.5)
    figure = new_figure(size, size)
    axes = new_axes(figure, f"Confusion: {100 * found.accuracy:.1f} % right", f"predicted {found.target}", found.target)
    axes.grid(visible=False)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap=STRENGTHS, vmin=0, vmax=1)
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


@in_our_look
def weights_figure(weights: Mapping[str, Array]) -> Figure:
    """A histogram of each tensor's elements."""
    columns = min(3, len(weights))
    rows = -(-len(weights) // columns)
    figure = new_figure(3.2 * columns, 2.2 * rows + 0.4)
    for place, (path, values) in enumerate(weights.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        finite = values[np.isfinite(values)].ravel()
        axes.hist(finite, bins=_BINS, color=FORWARD)
        spread = f"{finite.mean():.2g} ± {finite.std():.2g}" if finite.size else "not finite"
        axes.set_title(f"{shown(path)} {list(values.shape)}\n{spread}", fontsize="x-small")
        axes.tick_params(labelsize="x-small")
    return figure


@in_our_look
def gradients_figure(flow: Mapping[str, float], weights: Mapping[str, Array]) -> Figure:
    """The root mean square of each parameter's gradient, and of its weights, on one logarithmic scale."""
    figure = new_figure(height=0.3 * len(flow) + 1.4)
    axes = new_axes(figure, "Gradient flow", "root mean square of the elements", "")
    places = list(range(len(flow)))
    axes.set_xscale("log")
    axes.barh(places, [value or math.nan for value in flow.values()], color=BACKWARD, label="gradient")
    sizes = [math.sqrt(float(np.square(weights[path], dtype=np.float64).mean())) or math.nan for path in flow]
    axes.plot(sizes, places, "|", color=FORWARD, markersize=12, label="weights")
    axes.set_yticks(places, list(map(shown, flow)))
    axes.invert_yaxis()
    axes.legend(fontsize="small")
    return figure


@in_our_look
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
            axes.imshow(image.mean(axis=2), cmap=SIGNED, vmin=-bound, vmax=bound)
        axes.set_axis_off()
    return figure


class Plotted:
    """A run, with the weights of its best checkpoint or of its last. Raises CheckpointError where there is none."""

    def __init__(self, path: Path, use_last: bool, options: Options) -> None:
        self._run, self._use_last, self._options = open_run(path), use_last, options

    @cached_property
    def epochs(self) -> Sequence[JsonObject]:
        return epochs_of(self._run)

    @cached_property
    def weights(self) -> Mapping[str, Array]:
        folder = self._run.checkpoints
        found = newest_checkpoint(folder) if self._use_last else best_checkpoint(folder)
        return found.checkpoint.weights

    @cached_property
    def confusion(self) -> Confusion:
        return confusion(self._trained, evaluation_data(self._trained, None, None).part)

    @cached_property
    def activations(self) -> Mapping[str, Array]:
        return activations(self._trained, evaluation_data(self._trained, None, "train").part)

    @cached_property
    def gradients(self) -> Mapping[str, float]:
        return gradient_flow(self._trained, evaluation_data(self._trained, None, "train").part)

    @cached_property
    def _trained(self) -> Trained:
        return open_trained_run(self._run.path, self._use_last, (), self._options)


def activations(trained: Trained, part: Part) -> Mapping[str, Array]:
    """The values of each layer that has parameters, by its path, for the first batch of `part`; no tensor changes."""
    program, plan, tensors = trained.program, training_of(trained.program), trained.tensors
    paths = list(dict.fromkeys(spec.path.rpartition(".")[0] for spec in program.parameters))
    if plan.accumulation is not None or not any(paths):
        message = "the activations of a step of several batches or shards, or of no layer, cannot be seen"
        raise UsageError(message, "plot another kind, such as `--what weights`")
    batch = min(plan.batch or len(part.rows), len(part.rows))
    settings = runtime_settings(program, length_of(plan, len(part.rows)))
    from compiler.diagnosis.inspected_step import inspected_step  # the whole compiler

    step = inspected_step(program, 0, replace(trained.options, batch=batch), [path for path in paths if path])
    data = at_epoch(numbered(program, in_precision(part, trained.options.dtype)).arrays, 0)
    before = {name: tensors[name].copy() for name in tensors.names()}
    results = step.executable.run(Steps(tensors, data, part.rows[:batch], batch, 0, plan.seed, settings))
    for name, array in before.items():
        tensors.write(name, array)
    return {name: results.arrays[name] for names in step.names.values() for name in names if name in results.arrays}


_BATCHES = 20


def gradient_flow(trained: Trained, part: Part) -> Mapping[str, float]:
    """The root mean square of the gradient's elements, by the path of the parameter, over some batches of `part`."""
    program, plan = trained.program, training_of(trained.program)
    batch = min(plan.batch or len(part.rows), len(part.rows))
    rows = part.rows[: _BATCHES * batch]
    settings = runtime_settings(program, length_of(plan, len(part.rows)))
    options = replace(trained.options, batch=batch)
    executable = driver.compile_program(program, GraphKind(Purpose.GRADIENTS), options)
    data = at_epoch(numbered(program, in_precision(part, trained.options.dtype)).arrays, 0)
    results = executable.run(Steps(trained.tensors, data, rows, batch, 0, plan.seed, settings))
    return {path: math.sqrt(float(squares.mean())) for path, squares in results.scalars.items()}


FIGURES: Mapping[str, Callable[[Plotted], Figure]] = {
    "curves": lambda plotted: curves_figure(plotted.epochs),
    "confusion": lambda plotted: confusion_figure(plotted.confusion),
    "weights": lambda plotted: weights_figure(plotted.weights),
    "activations": lambda plotted: weights_figure(plotted.activations),
    "gradients": lambda plotted: gradients_figure(plotted.gradients, plotted.weights),
    "filters": lambda plotted: filters_figure(plotted.weights),
}
"""The plots by kind; data of several is loaded once, and only when one asks for it."""
