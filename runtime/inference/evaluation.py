"""A trained model and rows of data to the loss and the metrics over all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from compiler import driver
from compiler.driver import ALONE, EVALUATION, Array, Executable, Options, Peers, Program, Results, Steps, Tensors
from compiler.errors.diagnostics import UsageError
from compiler.support.record import mutable_record
from compiler.support.train_keys import OF_EVALUATIONS
from runtime.data.part import Part, in_precision
from runtime.data.streaming.reader import blocks_in_order
from runtime.inference.buckets import Buckets, Sizes
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.runs.totals import NOTHING, Finisher, added_in_order, is_total, means_of

_ROWS_AT_ONCE = 256  # so that an interruption need not wait for long


def evaluator_of(program: Program, options: Options, training_rows: int | None, sizes: Sizes = ()) -> PartEvaluator:
    """The compiled evaluation of a program that was trained on so many rows, in batches of `sizes`, as far as known.

    Raises UsageError for a bare model, and where a loss or metric depends on a length of training that nothing says.
    """
    plan = training_of(program)
    batch = plan.evaluated_rows(training_rows)
    settings = runtime_settings(program)
    unknown = _waiting_for_length(program, settings)
    if unknown and training_rows is None:
        message = f"the loss or a metric depends on `{unknown[0]}`, and nothing says how long the training was"
        raise UsageError(message, "name the run instead of the model file, or train first")
    if unknown and training_rows is not None:
        settings = runtime_settings(program, length_of(plan, training_rows))
    options = replace(options, batch=batch)
    buckets = Buckets(program, sizes)
    executable = buckets.executable(lambda one: driver.compile_program(one, EVALUATION, options))
    return PartEvaluator(executable, batch, settings, options.dtype, buckets, finisher_of(program, options))


def keys_of_evaluations(program: Program) -> tuple[str, ...]:
    """The keys of `train` whose settings change what an evaluation of this program gives."""
    plan = program.plan
    if plan is None:
        return OF_EVALUATIONS
    waits = bool(_waiting_for_length(program, runtime_settings(program)))
    return (*OF_EVALUATIONS, *("seed",) * plan.cuts.are_drawn, *("epochs", "steps") * waits)


def _waiting_for_length(program: Program, settings: Mapping[str, float]) -> list[str]:
    """The settings that the loss or a metric reads, and that follow from the length of the training."""
    inputs = program.inference_graph.inputs
    return [i.name for i in inputs if i.role.value == "setting" and i.name not in settings]


def finisher_of(program: Program, options: Options, of_training: bool = False) -> Finisher | None:
    """The program that finishes the metrics of an evaluation, or of an epoch of training; None without metrics."""
    if not training_of(program).finished:
        return None
    return Finisher(driver.compile_program(program, driver.finishing_kind(program, of_training), options))


class PartEvaluator:
    """Takes `batch` rows at a time, as the training did, which a loss that is no mean depends on."""

    def __init__(
        self,
        executable: Executable,
        batch: int,
        settings: Mapping[str, float],
        dtype: str = "f32",
        buckets: Buckets | None = None,
        finisher: Finisher | None = None,
        peers: Peers = ALONE,
    ) -> None:
        """Each of `peers` runs some of the batches, and all get the same result."""
        self._executable, self._batch, self._settings, self._dtype = executable, batch, settings, dtype
        self._buckets, self._finisher, self._peers = buckets, finisher, peers
        self._pace = Pace()

    def evaluate(
        self, tensors: Tensors, part: Part, stop_requested: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """The loss and the metrics over the rows of `part`; None where `stop_requested` came true on the way.

        What metrics, and a loss that is a mean, are made of is gathered over all rows and finished once. Another loss
        is the mean over batches.
        """
        part = in_precision(part, self._dtype)
        sums: dict[str, float] = {}
        totals, batches = NOTHING, 0
        for data, order in self._stretches(part):
            first = 0
            while first < len(order):
                told = self._peers.gathered((stop_requested(), self._pace.steps))
                if any(stops for stops, _ in told):
                    return None
                rows = order[first : first + told[0][1] * self._peers.size * self._batch]
                first += len(rows)
                results, weights = self._run(tensors, data, rows, batches, part.lasting)
                batches += len(weights)
                sums = added_in_order(
                    sums, {name: values for name, values in results.scalars.items() if not is_total(name)}, weights
                )
                totals = totals.plus(results, len(rows))
        found = means_of(sums, len(part.rows))
        if self._finisher is not None:
            found |= self._finisher.finished(totals, tensors, self._settings)
        return found

    def losses_of_rows(self, tensors: Tensors, part: Part) -> Array:
        """The loss of each row of `part` as a batch by itself: f64 [rows]."""
        part = in_precision(part, self._dtype)
        order = np.arange(len(part.rows)) if self._buckets is None else self._buckets.ordered(part.arrays, part.rows)
        losses: Array = np.zeros(len(order))
        for first in range(0, len(order), _ROWS_AT_ONCE):
            places = order[first : first + _ROWS_AT_ONCE]
            results = self._executable.run(Steps(tensors, part.arrays, part.rows[places], 1, settings=self._settings))
            losses[places] = results.scalars["loss"]
        return losses

    def _stretches(self, part: Part) -> Iterator[tuple[Mapping[str, Array], Array]]:
        """The rows by their length of texts: at which length one is computed never depends on the cut.

        Of a part that stays on disk, these are blocks of whole batches, each until the next. Where batches are computed
        at several lengths, its rows are mapped, and come as those in memory.
        """
        if part.stream is not None and (self._buckets is None or not self._buckets.has_sizes):
            for _, data in blocks_in_order(part.stream, self._batch):
                yield data, np.arange(len(next(iter(data.values()))))
        elif self._buckets is None:
            yield part.arrays, part.rows
        else:
            yield from ((part.arrays, rows) for rows in self._buckets.stretches(part.arrays, part.rows))

    def _run(
        self, tensors: Tensors, data: Mapping[str, Array], rows: Array, first: int, is_lasting: bool
    ) -> tuple[Results, Array]:
        """The results of steps over `rows`, numbered from `first`, and the number of rows of each."""
        steps, peers = -(-len(rows) // self._batch), self._peers
        own = range(steps * peers.rank // peers.size, steps * (peers.rank + 1) // peers.size)
        results: Results | None = None
        if own:
            begin = time.perf_counter()
            mine = rows[own.start * self._batch : own.stop * self._batch]
            run = Steps(tensors, data, mine, self._batch, first + own.start, settings=self._settings)
            results = self._executable.run(replace(run, lasting=is_lasting))
            self._pace.observe(len(own), time.perf_counter() - begin)
        if peers.size > 1 or results is None:
            results = self._joined([found for found in peers.gathered(results) if found is not None])
        weights = np.full(steps, self._batch)
        weights[-1] = len(rows) - (steps - 1) * self._batch
        return results, weights

    def _joined(self, made: Sequence[Results]) -> Results:
        assert self._buckets is not None, "an evaluation of several processes has them"
        return made[0] if len(made) == 1 else self._buckets.joined(made)


CALL_SECONDS = 0.05


@mutable_record
class Pace:
    """Adapts by measured time. The number of steps a call never changes a result."""

    steps: int = 1

    def observe(self, steps: int, seconds: float) -> None:
        """A call of `steps` took `seconds`."""
        affordable = int(CALL_SECONDS * steps / max(seconds, 1e-9))
        # The first call may be slow for other reasons, and a single short one may mislead: grow step by step.
        self.steps = max(1, min(affordable, 4 * self.steps))
