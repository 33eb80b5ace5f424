"""Figures of a training that runs elsewhere, computed here from a copy of its tensors.

By line of the text: the norm of the gradient, how far the update that follows moves the weights, and dead units. Of the
rows that are held out: those that the model gets most wrong. Of a model that extends a text: a text.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from compiler.diagnosis.inspected_step import WatchedStep, watched_step
from compiler.diagnosis.reports import WatchedNumber
from compiler.driver import Array, Options, Program
from compiler.errors.diagnostics import DlcError
from compiler.support.record import mutable_record
from runtime.analysis.evaluation_data import EvaluationData
from runtime.analysis.examined.examination import examined
from runtime.analysis.examined.samples import WORST, WRONG, JudgedText, ShownRow, ShownValue
from runtime.data.loading import LoadedData
from runtime.data.part import Part
from runtime.inference.decoding import Decoder
from runtime.inference.generation import beams, growing
from runtime.inference.wording import Wording
from runtime.runs.checkpoint import newest_checkpoint
from runtime.runs.directory import open_run
from runtime.runs.live import LivePosition
from runtime.runs.position import Position
from runtime.runs.trained import Trained, choices_of, program_of, target_with_bits_of
from runtime.support.files import JsonObject, JsonValue, finite
from runtime.train.compiled_job import Job, steps_at
from runtime.train.jobs import DataParts, compile_ahead, fresh_tensors, job_of
from runtime.train.keepers import MemoryKeeper, averaged, averages_of
from runtime.train.programs import kind_at
from runtime.train.session import data_of_run

_ROWS = 512  # of the held-out part, spread evenly, among which those that are most wrong are looked for
_TOKENS = 200  # of a text that is generated


@mutable_record
class _Sums:
    """Of one line: sums of squares of all elements, and units of all activations."""

    gradient: float | None = None
    update: float = 0.0
    weight: float = 0.0
    dead: float = 0.0
    saturated: float = 0.0
    units: int = 0

    def add(self, one: WatchedNumber, value: float) -> None:
        match one.kind:
            case "gradient":
                self.gradient = (self.gradient or 0.0) + value * one.units
            case "update":
                self.update += value * one.units
            case "weight":
                self.weight += value * one.units
            case "dead":
                self.dead, self.units = self.dead + value * one.units, self.units + one.units
            case _:
                self.saturated, self.units = self.saturated + value * one.units, self.units + one.units

    def to_json(self) -> dict[str, JsonValue]:
        """The norm of the gradient; the norm of the update divided by that of the weights; units without effect."""
        found: dict[str, JsonValue] = {}
        if self.gradient is not None:
            found["gradient"] = finite(math.sqrt(max(self.gradient, 0.0)))
        if self.weight > 0:
            found["ratio"] = finite(math.sqrt(max(self.update, 0.0) / self.weight))
        if self.units:
            found |= {"dead": round(self.dead), "saturated": round(self.saturated), "units": self.units}
        return found


class LiveFigures:
    """Of one run: its program, its data, and a second set of tensors. Raises DlcError where one cannot be had."""

    def __init__(self, run: Path, options: Options, files: Mapping[str, int]) -> None:
        directory = open_run(run)
        choices = choices_of(directory)
        self._files, self._run = files, run
        self._program: Program = program_of(directory, choices)
        target = target_with_bits_of(self._program, choices, options)
        self._options = replace(options, dtype=choices.dtype, target=target, threads=1)
        self._choices, self._data = choices, data_of_run(directory, self._program, choices)
        self._job = self._job_of(self._data)
        self._step: tuple[int, WatchedStep] | None = None

    def _job_of(self, data: LoadedData) -> Job:
        parts = DataParts(data.train, data.validation)
        compile_ahead(self._program, parts, self._options)
        tensors = fresh_tensors(self._program, self._options)
        return job_of(self._program, parts, tensors, self._options, MemoryKeeper(tensors, ()))

    def put(self, tensors: Mapping[str, Array]) -> None:
        """Take over the tensors of the training, as they are between two steps."""
        for name in self._job.tensors.names():
            self._job.tensors.write(name, tensors[name])

    def put_checkpoint(self) -> LivePosition:
        """Take over those of the newest checkpoint. Raises CheckpointError without one."""
        found = newest_checkpoint(open_run(self._run).checkpoints).checkpoint
        averages = averages_of(self._program)
        exchanged = {**averages, **{average: path for path, average in averages.items()}}
        every = {**found.weights, **found.optimizer}
        self.put({name: every[exchanged.get(name, name)] for name in every})
        position = found.position
        return LivePosition(position.step, position.rate_factor, position.kept)

    def epoch_of(self, at: LivePosition) -> int:
        """How many epochs have ended."""
        return at.step // self._job.length.steps_per_epoch

    def is_over(self, at: LivePosition) -> bool:
        """Whether no step follows."""
        return at.step >= self._job.length.total_steps

    def lines(self, at: LivePosition) -> list[JsonValue]:
        """What the step that follows would do, by file and line; without one, with the rows and rate of the last.

        It is computed, and nothing is kept of it.
        """
        job = self._job
        step = min(at.step, job.length.total_steps - 1)
        position = Position(step=step, rate_factor=at.rate_factor, kept=at.kept)
        watched = self._watched(kind_at(self._program, step // job.length.steps_per_epoch).phase)
        results = watched.executable.run(steps_at(job, position))
        sums: dict[tuple[int, int], _Sums] = {}
        for one in watched.watched:
            place = (-1, 0)
            if one.span is not None and one.span.source.name in self._files:
                place = self._files[one.span.source.name], one.span.line
            sums.setdefault(place, _Sums()).add(one, float(results.scalars[one.name][0]))
        return [{"file": file, "line": line, **of.to_json()} for (file, line), of in sorted(sums.items())]

    def _watched(self, phase: int) -> WatchedStep:
        if self._step is None or self._step[0] != phase:
            options = replace(self._options, batch=self._job.length.batch)
            self._step = phase, watched_step(self._program, phase, options)
        return self._step[1]

    def samples(self) -> JsonObject:
        """The rows that are most wrong, of up to 512 that are held out, or of the training where none are."""
        job = self._job
        name, part = self._held_out()
        chosen = EvaluationData(f"the {name} part", part, (), len(self._data.train.rows))
        with averaged(job.tensors, job.averages):
            found = examined(self._trained(), chosen, _ROWS)
        rows = [row for row in found.samples if row.kind in (WRONG, WORST)]
        return {
            "part": name,
            "measured": found.measured,
            "rows": [_row(row) for row in rows],
            "texts": [_judged(text) for text in found.texts[-1:]],
        }

    def text(self) -> str | None:
        """A text that the model makes, with the same draws each time; None of a model that makes none."""
        if self._program.generation is None:
            return None
        job, trained = self._job, self._trained()
        try:
            wording = Wording(self._program, self._data.preparation)
            prompt, stop = wording.prompt(None), wording.stop()
        except DlcError:  # nothing says how a text begins
            return None
        _, part = self._held_out()
        feed = self._program.generation.feed
        beside = [spec for spec in self._program.inputs if not spec.is_target and spec.name != feed]
        given = {spec.name: part.arrays[spec.name][part.rows[0]] for spec in beside if spec.name in part.arrays}
        beam, length = self._program.generation.beam, min(self._program.generation.length, _TOKENS)
        rows = 1 if beam is None else beam.width
        with averaged(job.tensors, job.averages):
            decoder = Decoder(self._program, job.tensors, trained.options, rows, given)
            if beam is not None:
                tokens = beams(decoder, prompt, length, stop, rows, beam.length_penalty)[0].tokens
            else:
                tokens = _last(islice(growing(decoder, prompt, rows, stop), length + 1))
        return wording.text([*prompt, *tokens])

    def _held_out(self) -> tuple[str, Part]:
        parts = {"validation": self._data.validation, "test": self._data.test, "training": self._data.train}
        return next((name, part) for name, part in parts.items() if part is not None)

    def _trained(self) -> Trained:
        rows = len(self._data.train.rows)
        options = replace(self._options, batch=self._job.length.batch)
        return Trained(
            self._program, self._job.tensors, options, self._choices, self._data.preparation, (), training_rows=rows
        )


def _last(grown: Iterable[list[list[int]]]) -> list[int]:
    tokens: list[int] = []
    for streams in grown:
        tokens = list(streams[0])
    return tokens


def _row(row: ShownRow) -> JsonObject:
    return {
        "place": row.place,
        "loss": finite(row.loss),
        "inputs": [_value(value) for value in row.inputs],
        "targets": [_value(value) for value in row.targets],
        "predictions": [_value(value) for value in row.predictions],
    }


def _value(value: ShownValue) -> JsonObject:
    found: dict[str, JsonValue] = {"name": value.name, "text": value.text, "columns": dict(value.columns)}
    if value.picture is not None:
        channels, height, width = value.picture.shape
        levels = base64.b64encode(value.picture.tobytes()).decode()
        found["picture"] = {"channels": channels, "height": height, "width": width, "levels": levels}
    return found


def _judged(text: JudgedText) -> JsonObject:
    """A text with the loss and the likeliest other of each of its tokens."""
    tokens: list[JsonValue] = [
        [token.text, finite(token.loss), token.likeliest if token.likeliest != token.text else "", token.place]
        for token in text.tokens
    ]
    head: dict[str, JsonValue] = {"place": text.place, "target": text.target, "are_classes": text.are_classes}
    return {**head, "tokens": tokens, "loss": finite(text.mean_loss)}
