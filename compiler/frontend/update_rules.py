"""Updates of a training: the rules of its parameters, in blocks and phases, over batches and shards, and its end."""

from __future__ import annotations

from collections.abc import Callable

from compiler.graph.ir import Graph
from compiler.support.record import record
from compiler.types import TensorType

AVERAGE = "(average)"
"""The state of a rule that holds the average of its parameter, where `train` asks for one; no optimizer can name it."""
SHARE_OF_THE_NEW = "(1 - ema)"
"""The setting of run time that says how much of new weights goes into their average in a step."""


@record
class OptimizerState:
    """A `state` of an update rule, of the shape given by `type`; `initializer` as in `ParameterSpec`."""

    name: str
    type: TensorType
    initializer: Graph
    is_zero: bool = False  # whether `initializer` gives zeros, of which room for a state is made


@record
class UpdateRule:
    """The update of one parameter: `graph` takes p, g, t, lr, the states, then run-time settings, by input name.

    Its outputs are `p` and each state by name. `t` is an f32 scalar, 1 for the first update; `lr` is the
    scheduled rate (an unused input where the rule has none). `since` is the epoch, from 0, that first trains it.

    A rule with a `group` updates several parameters as one vector, in which they follow each other; `parameter` is then
    a name for it that no parameter has. Its graph may hold the `Objective`.
    """

    parameter: str
    graph: Graph
    states: tuple[OptimizerState, ...]
    rate: str  # the run-time setting with the rate before the schedule, `optimizer.lr`; "" of an optimizer without
    since: int = 0
    group: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The parameters that it updates."""
        return self.group or (self.parameter,)


@record
class Follower:
    """The state of a schedule over the epochs: run-time settings of the step, which change at the end of each epoch.

    `graph` takes lr, t (the updates made), the settings, among them the states as they were, and `metric`, the setting
    that holds the last loss of validation, or of training without one, or what else `best` names, the lower the better.
    Outputs: the states, by their names as settings.
    """

    graph: Graph
    metric: str

    @property
    def states(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.graph.outputs)


@record
class Clip:
    """`graph_of(type)` takes g and, where `is_global`, `total` (the sum of squares of all gradients); output `g`."""

    form: str
    is_global: bool
    graph_of: Callable[[TensorType], Graph]


@record
class Phase:
    """The training from epoch `first_epoch` (from 0) on, in which less is frozen than before.

    `training_graph` is as that of the program, and `rules` are those of all parameters that are trained now.
    """

    first_epoch: int
    training_graph: Graph
    rules: tuple[UpdateRule, ...]


@record
class UpdateBlock:
    """`update NAME { … }`: in each step, `rules` update some parameters by the gradient of their own loss.

    It is done `times` times, each on a batch of its own, and in each step whose number (from 1) `every` divides.
    `schedule` and `clip` are as those of the plan.
    """

    name: str
    rules: tuple[UpdateRule, ...]
    schedule: Graph | None = None
    clip: Clip | None = None
    times: int = 1
    every: int = 1

    @property
    def loss(self) -> str:
        """The output with its loss, and what this is called where metrics stand."""
        return loss_of_update(self.name)


def loss_of_update(name: str) -> str:
    return f"{name}.loss"


@record
class Accumulation:
    """An update is made of `batches` batches, which are cut into `shards` parts in all, unless that is 1.

    `states`, by their full names, hold what is added up over them: `PATH:(gradient)` for each parameter, what the loss
    is divided by as `(counts):K` (`counts` of them), and other sums of the loss and the metrics as `(sums):K`.
    Over shards, so are the new `states_of_rows` of the model, each times the rows of its shard, as `PATH:(state)`, and
    those rows, as `(rows of states)`. Shards have tensors of their own for all this, which no checkpoint holds.
    """

    batches: int
    counts: int
    states: tuple[OptimizerState, ...]
    shards: int = 1
    states_of_rows: tuple[str, ...] = ()  # that differ from shard to shard, by their paths
    counts_rows: bool = False  # whether the counts follow from the number of rows alone, and are whole numbers
    synchronised: bool = False  # whether statistics are those of the rows of all shards, and not of each shard

    ROWS = "(rows of states)"

    @staticmethod
    def gradient(path: str) -> str:
        return f"{path}:(gradient)"

    @staticmethod
    def count(number: int) -> str:
        return f"(counts):{number}"

    @staticmethod
    def sum(number: int) -> str:
        return f"(sums):{number}"

    @staticmethod
    def state(path: str) -> str:
        return f"{path}:(state)"


@record
class EarlyStop:
    """Stop after `patience` epochs that were not better than before, by `best`, by more than `min_change`.

    With `restore`, the weights at the end are the best ones.
    """

    patience: int
    min_change: float = 0.0
    restore: bool = True


@record
class Plateau:
    """After `patience` such epochs the rates become `factor` times what they were, but not less than `floor` times
    what the schedule says."""

    factor: float
    patience: int
    min_change: float
    floor: float
