"""The data of a run's plots, loaded or computed on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from compiler.driver import Array, Options
from runtime.analysis.activations import activations, gradient_flow
from runtime.analysis.evaluation_data import evaluation_data
from runtime.analysis.examined.confusion import Confusion
from runtime.analysis.examined.examination import confusion
from runtime.runs.checkpoint import best_checkpoint, newest_checkpoint
from runtime.runs.directory import open_run
from runtime.runs.listing import epochs_of
from runtime.runs.trained import Trained, open_trained_run
from runtime.support.files import JsonObject


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
