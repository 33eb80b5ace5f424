"""A trained model and rows of data to the parts of a report about its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from compiler.driver import Array, InputSpec
from compiler.errors.diagnostics import UsageError
from compiler.programs import comparisons
from compiler.support.record import record
from compiler.types import static_elements
from runtime.analysis.evaluation_data import EvaluationData
from runtime.analysis.examined.measures import Confusion, ConfusionCounter, NumberCounter, NumberFit
from runtime.analysis.examined.samples import (
    ANY,
    WORST,
    JudgedText,
    ShownRow,
    ShownValue,
    chosen_rows,
    described,
    judged_text,
    log_probabilities,
    place_of,
    shown_output,
    shown_value,
)
from runtime.data.part import Part, in_precision
from runtime.data.preparation import Preparation
from runtime.data.text.tokenizer import PAD
from runtime.inference.evaluation import evaluator_of
from runtime.inference.prediction import Predictor, class_outputs, scores
from runtime.runs.trained import Trained
from runtime.support.shares import share

MOST_ROWS = 10_000
_FEWEST_ROWS = 100
_WORK = 3e11  # floating-point operations of one pass over the rows
_ELEMENTS = 1 << 24  # of outputs that are held at a time
_ROWS_AT_ONCE = 4096
_MOST_PAIRS = 6
_PROBED = 2  # rows whose outputs show which targets have their shape
_TYPICAL_TEXTS = 2


@record
class Examination:
    """The predictions of a model for `measured` rows of the `rows` of `data`.

    `scalars` are the loss and the metrics of these, as `dlc eval` measures them. `nonfinite` counts rows with an output
    that is not finite.
    """

    data: str
    rows: int
    measured: int
    scalars: Mapping[str, float]
    confusions: tuple[Confusion, ...] = ()
    fits: tuple[NumberFit, ...] = ()
    samples: tuple[ShownRow, ...] = ()
    texts: tuple[JudgedText, ...] = ()
    nonfinite: int = 0
    notes: tuple[str, ...] = ()


def rows_within(work_of_row: float) -> int:
    """How many rows are measured unless the user says it: 10,000, or fewer where each is much work, at least 100."""
    return int(min(MOST_ROWS, max(_FEWEST_ROWS, _WORK / max(work_of_row, 1.0))))


def examined(trained: Trained, chosen: EvaluationData, most: int) -> Examination:
    """Of up to `most` rows, spread evenly over those chosen. Raises UsageError where there is none."""
    every = chosen.part.rows
    if not len(every):
        raise UsageError(f"{chosen.name} has no rows", "name other data with --data, or another part with --part")
    rows = every if len(every) <= most else every[np.arange(most) * len(every) // most]
    part = in_precision(replace(chosen.part, rows=rows), trained.options.dtype)
    evaluator = evaluator_of(trained.program, trained.options, chosen.training_rows, trained.sizes)
    scalars = evaluator.evaluate(trained.tensors, part) or {}
    predictions = _Predictions(trained, part)
    predictions.gather()
    losses = evaluator.losses_of_rows(trained.tensors, part)
    shown = chosen_rows(losses, predictions.is_right)
    return Examination(
        chosen.name,
        len(every),
        len(rows),
        scalars,
        predictions.confusions,
        predictions.fits,
        predictions.samples(shown, losses),
        predictions.texts(shown),
        predictions.nonfinite,
        (*trained.notes, *chosen.notes, *predictions.notes),
    )


def confusion(trained: Trained, part: Part) -> Confusion:
    """How often each class of the first target of classes was taken for which, over all rows of `part`.

    Raises UsageError where the model has none.
    """
    predictions = _Predictions(trained, in_precision(part, trained.options.dtype))
    predictions.gather()
    if not predictions.confusions:
        raise UsageError(
            f"{trained.program.model} has no output of classes",
            "a confusion matrix needs a target `in 0..n` and an output of n numbers a row, or a target of 0 and 1 and "
            "an output of one number a row",
        )
    return predictions.confusions[0]


class _Predictions:
    """The outputs of a model for the rows of a part, never all of them at once."""

    def __init__(self, trained: Trained, part: Part) -> None:
        self._trained, self._part, self._preparation = trained, part, trained.preparation
        self._predictor = Predictor(trained.program, trained.options, trained.sizes)
        probed = self._outputs(part.rows[:_PROBED])
        thresholds = comparisons.thresholds(trained.program)
        judged = comparisons.judged_outputs(trained.program)
        found = pairs_of(trained.program.inputs, probed, part, judged, thresholds)
        self.pairs = found[:_MOST_PAIRS]
        self.notes: tuple[str, ...] = ()
        if len(found) > _MOST_PAIRS:
            self.notes = (f"{_MOST_PAIRS} of the {len(found)} pairs of a target and an output are measured",)
        self._names = {pair.target.name: class_names(pair, self._preparation) for pair in self.pairs if pair.classes}
        self.confusions: tuple[Confusion, ...] = ()
        self.fits: tuple[NumberFit, ...] = ()
        self.is_right: Array | None = None
        self.nonfinite = 0

    def gather(self) -> None:
        """Go through all rows once, and once before where a threshold has to be found."""
        self.pairs = [replace(p, threshold=self._threshold(p)) if p.is_score else p for p in self.pairs]
        of_classes = [(pair, ConfusionCounter(pair.classes)) for pair in self.pairs if pair.classes is not None]
        of_numbers = [
            (pair, NumberCounter(len(self._part.rows) * self._part.arrays[pair.target.name][:1].size))
            for pair in self.pairs
            if pair.classes is None
        ]
        is_right: Array = np.ones(len(self._part.rows), np.bool_)
        for first, rows, outputs in self._chunks():
            self.nonfinite += _rows_not_finite(outputs, len(rows))
            for pair, counter in of_classes:
                truth, counts = self._truth(pair, rows)
                guess = pair.guesses(outputs[pair.output], truth)
                counter.add(truth[counts], guess[counts])
                is_wrong = ((truth != guess) & counts).reshape(len(rows), -1).any(axis=1)
                is_right[first : first + len(rows)] &= ~is_wrong
            for pair, counter in of_numbers:
                truth, counts = self._truth(pair, rows)
                counter.add(truth, alike(outputs[pair.output], truth), counts)
        first_row = self._part.rows[:1]
        has_one_each = all(truth_of(pair, self._part, first_row).size == 1 for pair, _ in of_classes)
        self.is_right = is_right if of_classes and has_one_each else None
        self.confusions = tuple(self._confusion(pair, counter) for pair, counter in of_classes)
        self.fits = tuple(counter.fit(pair.target.name, pair.output) for pair, counter in of_numbers)

    def samples(self, chosen: Sequence[tuple[str, int]], losses: Array) -> tuple[ShownRow, ...]:
        rows = self._part.rows[[place for _, place in chosen]]
        outputs = self._outputs(rows)
        each = [{name: values[number] for name, values in outputs.items()} for number in range(len(rows))]
        return tuple(
            self._shown(kind, int(row), float(losses[place]), output)
            for (kind, place), row, output in zip(chosen, rows, each, strict=True)
        )

    def texts(self, chosen: Sequence[tuple[str, int]]) -> tuple[JudgedText, ...]:
        """Of targets [rows, time] of classes: two of the rows that are shown as typical, and the worst."""
        pairs = [p for p in self.pairs if p.classes is not None and not p.is_score]
        pairs = [pair for pair in pairs if truth_of(pair, self._part, self._part.rows[:1]).ndim == 2]
        typical = [place for kind, place in chosen if kind == ANY]
        worst = [place for kind, place in chosen if kind == WORST]
        places = [*typical[:_TYPICAL_TEXTS], *worst[:1]]
        found: list[JudgedText] = []
        for row in self._part.rows[places] if pairs else ():
            outputs = self._outputs(np.array([row]))
            for pair in pairs:
                truth, counts = self._truth(pair, np.array([row]))
                names, scores = self._names[pair.target.name], outputs[pair.output][0]
                place = place_of(self._part, int(row))
                are_classes = not is_text(pair, self._preparation)
                found.append(judged_text(place, pair.target.name, are_classes, scores, truth[0], counts[0], names))
        return tuple(found)

    def _outputs(self, rows: Array) -> dict[str, Array]:
        """The outputs that have a part for each row, rows first."""
        made = self._predictor.predict(self._trained.tensors, replace(self._part, rows=rows))
        return {n: values for n, values in self._predictor.rows_first(made).items() if len(values) == len(rows)}

    def _chunks(self) -> Iterator[tuple[int, Array, dict[str, Array]]]:
        shapes = [output.value.type.shape for output in self._trained.program.inference_graph.outputs]
        each = max(1, min(_ROWS_AT_ONCE, _ELEMENTS // max(1, sum(map(static_elements, shapes)))))
        for first in range(0, len(self._part.rows), each):
            rows = self._part.rows[first : first + each]
            yield first, rows, self._outputs(rows)

    def _truth(self, pair: Pair, rows: Array) -> tuple[Array, Array]:
        """The target [rows, …], and which of its elements count."""
        return truth_of(pair, self._part, rows), counted(pair, self._part, rows, self._preparation)

    def _threshold(self, pair: Pair) -> float:
        """That of the program; else 0.5 where all scores could be probabilities, and 0 for other scores."""
        if pair.threshold is not None:
            return pair.threshold
        for _, _, outputs in self._chunks():
            scores = outputs[pair.output]
            if bool(((scores < 0) | (scores > 1)).any()):
                return 0.0
        return 0.5

    def _confusion(self, pair: Pair, counter: ConfusionCounter) -> Confusion:
        names = self._names[pair.target.name]
        return Confusion(pair.target.name, pair.output, names, counter.pairs(), pair.threshold)

    def _shown(self, kind: str, row: int, loss: float, outputs: Mapping[str, Array]) -> ShownRow:
        arrays = self._part.arrays
        specs = [spec for spec in self._trained.program.inputs if spec.mask_of is None]
        values = {spec.name: shown_value(spec, arrays[spec.name][row], self._preparation) for spec in specs}
        paired = {pair.output: pair for pair in self.pairs}
        inputs = tuple(values[spec.name] for spec in specs if not spec.is_target)
        given = [arrays[shown.name][row] for shown in inputs]
        said = tuple(
            self._said(paired[name], row, output) if name in paired else shown_output(name, output, inputs, given)
            for name, output in outputs.items()
        )
        targets = tuple(values[spec.name] for spec in specs if spec.is_target)
        return ShownRow(kind, place_of(self._part, row), loss, inputs, targets, said)

    def _said(self, pair: Pair, row: int, output: Array) -> ShownValue:
        """The prediction of a target, in the words of the data."""
        if pair.classes is None:
            return ShownValue(pair.output, described(output))
        truth, counts = self._truth(pair, np.array([row]))
        names = self._names[pair.target.name]
        guess = pair.guesses(output[None], truth)
        if truth.size > 1:
            right = int(((guess == truth) & counts).sum())
            return ShownValue(pair.output, f"{right:,} of {int(counts.sum()):,} right")
        taken, true = int(guess.reshape(-1)[0]), int(truth.reshape(-1)[0])
        if pair.is_score:
            return ShownValue(pair.output, f"{names[taken]} ({described(output)})")
        chances = np.exp(log_probabilities(output.reshape(-1)))
        text = f"{names[taken]} ({share(chances[taken])})"
        if counts.all() and true != taken:
            text += f", {names[true]} ({share(chances[true])})"
        return ShownValue(pair.output, text)


def _rows_not_finite(outputs: Mapping[str, Array], rows: int) -> int:
    is_finite: Array = np.ones(rows, np.bool_)
    for values in outputs.values():
        if values.dtype.kind == "f":
            is_finite &= np.isfinite(values).reshape(rows, -1).all(axis=1)
    return int(rows - is_finite.sum())


_YES_OR_NO = 2
_AT_ONCE = 1 << 22  # elements of a target that are looked at together


@record
class Pair:
    """An output of the shape of a target, or with one number more for each class.

    `classes` is None where the target holds numbers. With `is_score`, a number above `threshold` stands for the class
    1, and any other for 0. With `is_distribution` the target has a number for each class, as one-hot targets have, and
    is the class of the largest. `mask` names the input that says which positions count.
    """

    target: InputSpec
    output: str
    classes: int | None
    mask: str | None = None
    is_score: bool = False
    is_distribution: bool = False
    threshold: float | None = None  # None: the program does not say it

    def guesses(self, values: Array, target: Array) -> Array:
        """The classes [rows, …] that the model predicts: the likeliest, of equals the first."""
        if not self.is_score:
            return values.argmax(axis=-1)
        return (alike(values, target) > (self.threshold or 0.0)).astype(np.int64)


def pairs_of(
    specs: Sequence[InputSpec],
    outputs: Mapping[str, Array],
    part: Part,
    judged: Mapping[str, tuple[str, ...]],
    thresholds: Mapping[str, float],
) -> list[Pair]:
    """Targets in their order, each with the outputs that fit it; `outputs` are those of a few rows, rows first.

    Where the loss or a metric compares a target with outputs (`judged`), only these are looked at; where it compares it
    with none, none.
    """
    targets = [spec for spec in specs if spec.is_target and spec.mask_of is None]
    by_class = {spec.name: name for spec, name in class_outputs(outputs, targets)}
    found: list[Pair] = []
    for spec in targets:
        array = part.arrays[spec.name]
        mask = mask_of(spec, specs, part, array.shape)
        judging = judged.get(spec.name)
        if judging == ():
            continue
        looked_at = {name: outputs[name] for name in judging or () if name in outputs} or outputs
        of_classes = [name for name, values in looked_at.items() if looked_at is not outputs and scores(values, spec)]
        if of_classes or spec.name in by_class:
            names = of_classes or [by_class[spec.name]]
            # labels whose places in a sequence are not known have no score of their own
            names = [name for name in names if outputs[name].shape[1:-1] == array.shape[1:]]
            found += [Pair(spec, name, spec.high, mask) for name in names]
            continue
        fitting = [name for name, values in looked_at.items() if _fits(values, array)]
        if fitting and array.ndim > 1 and array.shape[-1] > 1 and _is_distribution(array, part.rows):
            mask = mask_of(spec, specs, part, array.shape[:-1])
            found += [Pair(spec, name, array.shape[-1], mask, is_distribution=True) for name in fitting]
        elif fitting and all(np.isin(values, (0, 1)).all() for values in _stretches(array, part.rows)):
            found += [
                Pair(spec, name, _YES_OR_NO, mask, is_score=True, threshold=thresholds.get(name)) for name in fitting
            ]
        elif array.dtype != np.bool_:
            found += [Pair(spec, name, None, mask) for name in fitting]
    return found


def truth_of(pair: Pair, part: Part, rows: Array) -> Array:
    """The target of rows: numbers, or classes."""
    values = part.arrays[pair.target.name][rows]
    return values.argmax(axis=-1) if pair.is_distribution else values


def mask_of(target: InputSpec, specs: Sequence[InputSpec], part: Part, shape: tuple[int, ...]) -> str | None:
    """The mask of a target, or else that of an input, with positions of such a shape."""
    masks = [spec for spec in specs if spec.mask_of is not None and part.arrays[spec.name].shape == shape]
    own = [spec.name for spec in masks if spec.mask_of == target.name]
    return own[0] if own else masks[0].name if masks else None


def counted(pair: Pair, part: Part, rows: Array, preparation: Preparation | None) -> Array:
    """Which positions [rows, …] of the target count: those of the mask that are no padding, and have a class."""
    truth = truth_of(pair, part, rows)
    counts: Array = np.ones(truth.shape, np.bool_)
    if pair.classes is not None:
        counts &= (truth >= 0) & (truth < pair.classes)
    if pair.mask is not None:
        counts &= part.arrays[pair.mask][rows].astype(np.bool_)
    if is_text(pair, preparation):
        counts &= truth != PAD
    return counts


def is_text(pair: Pair, preparation: Preparation | None) -> bool:
    """Whether the target of a pair has tokens."""
    return preparation is not None and preparation.tokenizer_of(pair.target.name) is not None


def class_names(pair: Pair, preparation: Preparation | None) -> tuple[str, ...]:
    """The names of the classes in the data, or their numbers."""
    assert pair.classes is not None
    numbers = tuple(map(str, range(pair.classes)))
    if preparation is None:
        return numbers
    tokenizer = preparation.tokenizer_of(pair.target.name)
    if tokenizer is not None:
        return tuple(tokenizer.shown(number) for number in range(pair.classes))
    words = preparation.vocabulary_of(pair.target.name)
    return words if words is not None and len(words) == pair.classes else numbers


def alike(values: Array, target: Array) -> Array:
    """An output in the shape that rows of its target have: a last axis of one number is no axis."""
    return values.reshape(len(values), *target.shape[1:])


def _fits(values: Array, target: Array) -> bool:
    ours, theirs = values.shape[1:], target.shape[1:]
    return values.dtype.kind == "f" and (ours == theirs or ours == (*theirs, 1) or (*ours, 1) == theirs)


def _is_distribution(target: Array, rows: Array) -> bool:
    """Whether a target has shares in its last axis: none negative, and 1 in all."""
    return target.dtype.kind == "f" and all(
        bool((values >= 0).all()) and bool((np.abs(values.sum(axis=-1) - 1) < 1e-3).all())
        for values in _stretches(target, rows)
    )


def _stretches(target: Array, rows: Array) -> Iterator[Array]:
    each = max(1, _AT_ONCE // max(1, target[:1].size))
    for first in range(0, len(rows), each):
        yield target[rows[first : first + each]]
