"""The kinds of graphs that are made of one program: a step of training, an evaluation, a prediction, and others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum

from compiler.errors.diagnostics import UsageError
from compiler.frontend.program import Program
from compiler.interface import Options
from compiler.support.record import record
from compiler.types import OF_PRODUCTS


class Purpose(Enum):
    """The purpose of a graph; the value is the word for it in messages and in the names of cached programs."""

    INITIALISATION = "initialisation"  # the first content of each tensor
    STATES = "states"  # the first content of the optimizer's states alone
    TRAINING = "training"  # forward, loss, gradients, update, metrics
    COUNTING = "counting"  # of one batch of an update that takes several: the counts that the loss is divided by
    ACCUMULATING = "accumulating"  # of one such batch: its gradients and sums, added up
    UPDATING = "updating"  # the update from what was added up
    AUGMENTATION = "augmentation"  # the inputs and targets that `augment` changes, as training sees them
    EVALUATION = "evaluation"  # loss and metrics, without an update
    BATCH_EVALUATION = "batch_evaluation"  # loss and metrics of the rows at hand, as one batch
    PREDICTION = "prediction"  # the outputs of the model
    SAMPLING = "sampling"  # the outputs of a `sample`
    ATTENTION = "attention"  # the attention weights by the paths of their layers, the batch first, the keys last
    GRADIENTS = "gradients"  # the mean square of each parameter's gradient, by its path; nothing is updated
    SCHEDULE = "schedule"  # the rate `lr` of a step, with the arithmetic of the training step
    FOLLOWING = "following"  # the new values of the run-time settings that a schedule keeps from epoch to epoch
    FINISHING = "finishing"  # the metrics of rows, and a loss that is a mean, from what was gathered of them
    FINISHING_EPOCH = "finishing_epoch"  # the same of an epoch of training, where it finishes others than `FINISHING`
    # Of the sampler of `generate`: its outputs from whole windows of any number of sequences. The feed is filled from
    # the left up to the place `first_step`; where that is beyond the window, it has slid.
    WINDOW = "window"
    PROMPT = "prompt"  # the same of some sequences, which also fills the states of `POSITION`
    POSITION = "position"  # the same from states and the last token of each sequence, at the place `first_step`


@record
class GraphKind:
    """`phase` is that of the training, where later ones have less frozen; `rows` are the sequences to decode.

    `sampler` is the name of a `sample`. `segment` is that of a step of a shard that waits for others: see `segments`.
    """

    purpose: Purpose
    phase: int = 0
    rows: int = 0
    sampler: str = ""
    segment: int = 0

    def __str__(self) -> str:
        which = self.phase or self.rows or self.sampler
        whole = f"{self.purpose.value} {which}" if which else self.purpose.value
        return f"{whole}, segment {self.segment}" if self.segment else whole


INITIALISATION = GraphKind(Purpose.INITIALISATION)
STATES = GraphKind(Purpose.STATES)
TRAINING = GraphKind(Purpose.TRAINING)
EVALUATION = GraphKind(Purpose.EVALUATION)
BATCH_EVALUATION = GraphKind(Purpose.BATCH_EVALUATION)
PREDICTION = GraphKind(Purpose.PREDICTION)
STEP_OF_MODE: Mapping[str, GraphKind] = {"train": TRAINING, "infer": PREDICTION}  # by the words of the command line
IN_TRAINING = (Purpose.TRAINING, Purpose.COUNTING, Purpose.ACCUMULATING)  # what `precision` of products is for
ACCUMULATION = (Purpose.COUNTING, Purpose.ACCUMULATING, Purpose.UPDATING)
ACROSS, KEPT_FOR_LATER = "(across shards):", "(kept for later):"  # names of what segments exchange, and keep
GIVEN, STRETCH = "(given to all):", ":(stretch)"  # names of what owners of parameters give, and of parts of tensors
LEFT, RIGHT, SUM = "left", "right", "sum"  # the tensors of the program that adds rows of elements of shards
POSITIONS_OF_A_WINDOW = 16  # that take as long one by one as a whole window, which reads the weights once
DECODING = (Purpose.WINDOW, Purpose.PROMPT, Purpose.POSITION)


def with_products(program: Program, kind: GraphKind, options: Options) -> Options:
    """The options with the precision of the products of a graph: that of `train`, for what a step computes."""
    plan = program.plan
    if plan is None or plan.precision not in OF_PRODUCTS or kind.purpose not in IN_TRAINING:
        return replace(options, products="f32")
    if options.dtype == "f64":
        message = f"`precision = {plan.precision}` and f64 exclude each other"
        raise UsageError(message, "leave `--dtype f64` or `precision` out")
    return replace(options, products=plan.precision)
