"""The result of elaboration: one experiment (or bare model) as graphs, specifications and resolved settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, TypeAlias

from compiler.errors.diagnostics import Diagnostic, Source, Span
from compiler.frontend.arithmetic import Formula, value_of
from compiler.frontend.axes import NamedAxes
from compiler.frontend.data_parts import Cuts, DataSource, PartSource, SettingValue
from compiler.frontend.update_rules import (
    Accumulation,
    Clip,
    EarlyStop,
    Follower,
    OptimizerState,
    Phase,
    Plateau,
    UpdateBlock,
    UpdateRule,
)
from compiler.graph.ir import Graph, Role
from compiler.support.record import record
from compiler.types import TensorType

if TYPE_CHECKING:
    from compiler.frontend.applications import Application  # of which a cached program has none

SAMPLE_NUMBERS = "augment.sample"
EPOCH_NUMBER = "augment.epoch"
"""Inputs of an augmentation that are no fields of the data: the number of each row (i64[batch]), and of the epoch.

Both count from 0; a row keeps its number whatever the order in which an epoch visits the rows.
"""

ROW_NUMBERS = "sample.row"
"""The input of a sampler that is no field of the data: the number of each row (i64[batch]), from 0."""

FIRST_ROW = "(first row)"
"""The input of a shard that says which number its first row has in the batch; nothing of a program has such a name."""

SEEN = "generate.seen"
"""The input of a sampler of tokens that says of each token whether a sequence has it (bool[batch, tokens])."""

KEPT = ":kept"
"""Ends the name of the output that says how many elements a loss or metric is the mean of, where a mask decides it."""


@record
class InputSpec:
    """A model input or target as the loader must deliver it. Integers lie in `low <= x < high` where given."""

    name: str
    type: TensorType
    is_target: bool
    low: int | None
    high: int | None
    span: Span
    dimension_names: tuple[str | None, ...] = ()
    range_name: str | None = None  # the dimension of the data that ends the range
    mask_of: str | None = None  # the padded input of which this is the mask


@record
class IndexLimit:
    """Integers made of the inputs `names` choose one of `count` elements, from 0 to count - 1, at `place`.

    With `is_direct` they are the elements of one input; they are compared with classes (`is_class`), or pick elements
    of a tensor. A comparison in the user's own text (`is_own`) may have a meaning for integers that equal none.
    """

    names: tuple[str, ...]
    count: int
    is_direct: bool
    is_own: bool
    is_class: bool
    place: Span | None


@record
class Average:
    """A state is the exponential moving average of the parameter `path`.

    `momentum` takes t, the updates made so far (f32 scalar), and run-time settings; its output `momentum` is how much
    of the average stays in a step.
    """

    path: str
    momentum: Graph
    span: Span  # of the call


@record
class Stored:
    """A parameter or state stays as a safetensors file or run, named at `span`, has it.

    Below `at` in the file, by default below the only path that has the whole layer, stands the layer.
    """

    file: str
    at: str | None
    span: Span


@record
class ParameterSpec:
    """A `param` or `state` of the model, declared at `span`, which `calls` led to.

    `initializer` has one input, the seed, and one output, `value`. A state may belong to a `twin`, the path of an
    averaged or frozen layer: it may be the `average` of a parameter, or `stored` in a file with its first value.
    """

    path: str
    role: Role  # PARAMETER or STATE
    type: TensorType
    initializer: Graph
    span: Span
    calls: tuple[Span, ...] = ()
    frozen: bool = False
    twin: str = ""
    average: Average | None = None
    stored: Stored | None = None

    @property
    def place(self) -> Span:
        """The user's line that led to it."""
        return next((p for p in (self.span, *reversed(self.calls)) if not p.source.is_library), self.span)


Limit: TypeAlias = "tuple[str, int | float]"  # a comparison and the number on its right


@record
class Setting:
    """A resolved setting: `hidden`, `optimizer.lr`, `batch`. `origin`: `default`, `train`, `data`, or `command line`.

    A run-time setting is the graph input `name` of role SETTING; its value may change without a new compilation, as may
    that of one that graphs see only within other numbers of run time. `limits` are what it is compared with by lines
    `require(…)`: `(">=", 0)`.
    Where only the run knows the value, it is None, and `formula` says how it follows from `total_steps` and the like.
    """

    name: str
    value: SettingValue
    origin: str
    is_runtime: bool = False
    formula: Formula | str | None = None
    is_within: bool = False
    limits: tuple[Limit, ...] = ()

    def in_run(self, sizes: Mapping[str, int]) -> Setting:
        """The setting in a run of which `total_steps` and the like are known."""
        return self if self.formula is None else replace(self, value=value_of(self.formula, sizes))


@record
class DataQuestion:
    """A question of elaboration to the data: how large the dimensions called `names` are.

    They stand in the `dimension_names` of `inputs`, where what their types have in these places means nothing, or are
    a `range_name`. Statistics of the training part depend on the `cuts`. `targets` are the names of all targets,
    of which `inputs` may know none yet.
    """

    names: tuple[str, ...]
    inputs: tuple[InputSpec, ...]
    source: DataSource | None
    cuts: Cuts = Cuts()
    targets: tuple[str, ...] = ()


DimensionsOf: TypeAlias = Callable[[DataQuestion], Mapping[str, int]]
"""The data's answer, with all of the names; without data to ask, it is empty."""


@record
class StartWeights:
    """The safetensors file or run whose tensors parameters and states start from, by name.

    Of `renames` ("name in the file -> name in the model"), the first that fits a name applies. What a pattern of
    `fresh` selects keeps its own start value; if `is_strict`, everything else must be in the file, in its shape.
    """

    path: str
    renames: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    is_strict: bool = True
    span: Span | None = None


SUPPOSED_ROWS = 1024
"""How many rows `batch = all` has to those who do not know the data, such as `dlc plan`."""

COMMAND_LINE = "command line"  # the name of its settings, as a source and as an origin
SET = "--set "  # before each of them there


@record
class TrainingPlan:
    """The settings of `train` that decide the step and the run. `phases` are those after the first, in their order.

    `metrics` are those of the text and the losses that the model states. `averaged` are those of the latter that do not
    follow from totals over rows: over many rows they are the mean over batches, as such a loss is.
    `finished` are the other metrics, and the loss where it is a mean: over many rows they are finished once, from what
    is `gathered` of all, and `finishes_alike` says whether training and evaluation do so by one program. `directions`
    says of the loss and of metrics whether the larger is the better, where that is known; by `best`, which is one of
    these, epochs are compared. `places` says where the keys stand, and the settings of the command line.

    A step makes the `updates` one after the other, each from the parameters that the one before left. Where there are
    any, `rules` are those of all, `loss` is the sum of their losses, which are among the `metrics`, no key of their own
    is one of the plan, and `best` is "" where nothing says by what epochs are compared.
    """

    rules: tuple[UpdateRule, ...]
    schedule: Graph | None  # inputs lr, t (f32 scalars; t is 0 at first), then run-time settings; output `lr`
    clip: Clip | None
    metrics: tuple[str, ...]
    batch: int | None  # None: all rows of the training part
    epochs: int | None
    steps: int | None
    seed: int
    data: DataSource | None
    validation: PartSource
    test: PartSource
    early_stop: EarlyStop | None
    keep: int | None
    init_from: StartWeights | None
    plateau: Plateau | None = None
    ema: float | None = None  # how much of the average of each parameter stays in a step
    accumulation: Accumulation | None = None
    precision: str = "f32"  # or f64, which then takes the place of f32 in the whole program
    follower: Follower | None = None
    phases: tuple[Phase, ...] = ()
    schedule_end: Formula | int | float | str | None = None  # the update from which the rate stays what it is
    averaged: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()
    finishes_alike: bool = True
    gathered: tuple[TensorType, ...] = ()
    directions: Mapping[str, bool] = field(default_factory=dict[str, bool])
    best: str = "loss"
    oversample: str = ""
    stream: int = 0  # the most rows of a block, in which the data is read; 0 where all of it is in memory
    restores: bool = True  # whether a training ends with the weights of the best epoch, and not the last
    places: Mapping[str, Span] = field(default_factory=dict[str, Span])
    updates: tuple[UpdateBlock, ...] = ()

    @property
    def batches(self) -> int:
        """How many batches a step with `updates` takes: the most that one of them asks for."""
        return max((block.times for block in self.updates), default=1)

    @property
    def cuts(self) -> Cuts:
        return Cuts(self.validation, self.test, self.seed, self.oversample, self.stream)

    @property
    def finished_metrics(self) -> tuple[str, ...]:
        """The metrics that are finished once over many rows."""
        return tuple(name for name in self.metrics if name not in self.averaged)

    @property
    def is_double(self) -> bool:
        return self.precision == "f64"

    @property
    def shards(self) -> int:
        """Into how many parts a batch is cut."""
        return 1 if self.accumulation is None else self.accumulation.shards

    @property
    def is_sharded(self) -> bool:
        return self.shards > 1

    @property
    def every_rule(self) -> tuple[UpdateRule, ...]:
        """The rules of all parameters that some epoch trains."""
        return self.phases[-1].rules if self.phases else self.rules

    @property
    def told_rate(self) -> str:
        """The setting with the rate that is told in all epochs: of the first parameter trained from the start that has
        one, or "" where no optimizer has a rate."""
        return next((rule.rate for rule in (*self.rules, *self.every_rule) if rule.rate), "")

    def rows_of(self, available: int) -> int:
        """How many rows an update takes where there are so many to train on."""
        return available if self.batch is None else min(self.usual_rows, available)

    def evaluated_rows(self, available: int | None) -> int:
        """How many rows an evaluation takes at once, after a training over so many: those of an update, or of one of
        the batches of a step with `updates`, however often these are made."""
        usual = self.usual_rows // self.batches
        return usual if available is None else available if self.batch is None else min(usual, available)

    @property
    def synchronises(self) -> bool:
        """Whether statistics are those of the rows of all shards."""
        return self.accumulation is not None and self.accumulation.synchronised

    @property
    def usual_rows(self) -> int:
        """How many rows an update takes where enough are there; a supposition for `batch = all`."""
        batches = self.batches if self.accumulation is None else self.accumulation.batches
        return (self.batch or SUPPOSED_ROWS) * batches

    @property
    def optimizer_states(self) -> Mapping[str, OptimizerState]:
        """All tensors that are neither parameters nor states of the model, by their full names."""
        of_rules = {f"{rule.parameter}:{state.name}": state for rule in self.every_rule for state in rule.states}
        added_up = () if self.accumulation is None or self.is_sharded else self.accumulation.states
        return of_rules | {state.name: state for state in added_up}

    def other_end(self, updates: int, sizes: Mapping[str, int] | None = None) -> int | float | None:
        """The end of the schedule, where a run of so many updates has another by more than a hundredth."""
        end = None if self.schedule_end is None else value_of(self.schedule_end, sizes or {})
        return None if end is None or abs(end - updates) <= updates / 100 else end


@record
class BeamSearch:
    """How many sequences are kept, and the power of ((5 + length) / 6) by which the sum of scores is divided."""

    width: int
    length_penalty: float


@record
class Generation:
    """Sequences are decoded from the model: the token chosen by the output `source` extends the input `feed`.

    `sampler` makes `token` (i32[batch]) of `logits` (f32[batch, tokens]), or, for `beam` search, the `scores` of each
    token; it takes `seed`, `step` (the position of the token before), run-time settings, and SEEN where tokens of the
    window are penalised. `start` and `stop` are a
    text or tokens; `length` is the most tokens that are generated.
    """

    feed: str
    source: str
    start: str | tuple[int, ...] | None
    stop: str | tuple[int, ...] | None
    length: int
    sampler: Graph
    beam: BeamSearch | None = None


@record
class Sampler:
    """A `sample` at `place`: rows that are made of the seed and their numbers alone.

    `graph` takes parameters and states of the model, ROW_NUMBERS, `seed` and run-time settings, each where it is
    needed. Its outputs have the batch first. The settings of the sampler are those of the program that begin with its
    name and a dot.
    """

    name: str
    graph: Graph
    place: Span


@record
class Program:
    """One experiment. Graph inputs are named after `inputs`, parameter paths, settings, `seed` and `step`.

    Outputs of `training_graph`: the model's outputs, `loss` (with penalties), each metric by name, what some of them
    are means of (KEPT), and one output of role STATE for each `<-` (named after the state's path, `updates` it).
    Outputs of `inference_graph`: the model's outputs and, where there are targets, `loss` (without penalties) and the
    metrics. A bare model, without `train`, has no loss and `plan` None.

    `augmentation` gives the inputs and targets that `augment` changes, by name, from those of the data and the two
    numbers above. Those of `training_graph` are the changed ones, and a target may have another type there.

    `overrides` are the settings of the command line, as they were given. `index_limits` are those that neither
    the types nor the declared ranges of the inputs keep.
    """

    name: str
    model: str
    sources: tuple[Source, ...]
    settings: tuple[Setting, ...]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    parameters: tuple[ParameterSpec, ...]
    training_graph: Graph
    inference_graph: Graph
    plan: TrainingPlan | None
    warnings: tuple[Diagnostic, ...] = ()
    augmentation: Graph | None = None
    generation: Generation | None = None
    samplers: tuple[Sampler, ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()
    index_limits: tuple[IndexLimit, ...] = ()
    axes: NamedAxes | None = field(
        default=None, compare=False
    )  # of the values of `training_graph`; no outline has them
    applications: tuple[Application, ...] = field(default=(), compare=False)  # in `training_graph`, as `axes`
