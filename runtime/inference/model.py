"""Properties of a program that the runtime needs: its weights, its run-time settings, the size of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.driver import Program, Setting, TrainingPlan, rows_of_class
from compiler.errors.diagnostics import Span, UsageError
from compiler.support.record import record
from compiler.types import BatchExtent, static_elements
from runtime.runs.position import Length, steps_of_rows


def parameter_count(program: Program) -> int:
    """Numbers in all parameters; states are not counted."""
    return sum(static_elements(spec.type.shape) for spec in program.parameters if spec.role.value == "parameter")


def batch_axes(program: Program) -> dict[str, int | None]:
    """Of each output of the inference, the axis that depends on the batch."""
    shapes = {output.name: output.value.type.shape for output in program.inference_graph.outputs}
    return {n: next((k for k, e in enumerate(s) if isinstance(e, BatchExtent)), None) for n, s in shapes.items()}


def weight_names(program: Program) -> tuple[str, ...]:
    """The tensors that make up the model: parameters and states, without those of optimizers."""
    return tuple(spec.path for spec in program.parameters)


def resolved_settings(
    program: Program, length: Length | None, buckets: Sequence[Mapping[str, int]] = ()
) -> tuple[Setting, ...]:
    """The settings of a program; those that depend on the data's size come from `length`.

    `buckets` are the sizes at which batches are computed.
    """
    if length is None:
        return program.settings
    names = buckets[0] if buckets else ()
    lengths = [Setting(f"bucket.{name}", tuple(size[name] for size in buckets), "data") for name in names]
    return (*(setting.in_run(_sizes(length)) for setting in program.settings), *lengths)


def _sizes(length: Length) -> dict[str, int]:
    return {"steps_per_epoch": length.steps_per_epoch, "total_steps": length.total_steps}


@record
class Remark:
    """A remark on a key of `train`, or on a setting in one, by its name, and the remedy."""

    text: str
    name: str
    fix: str

    def place(self, plan: TrainingPlan) -> Span | None:
        """Where the text or the command line gives it."""
        return plan.places.get(self.name) or plan.places.get(self.name.split(".", 1)[0])


def length_remarks(program: Program, length: Length) -> tuple[Remark, ...]:
    """Remarks on a schedule, a batch and rates that do not fit the length of a run."""
    plan = training_of(program)
    values = {setting.name: setting.value for setting in resolved_settings(program, length)}
    found: list[Remark] = []
    updates = length.total_steps
    end = plan.other_end(updates, _sizes(length))
    if end is not None:
        text = f"the schedule ends at update {end:g}, the run at update {updates}"
        found.append(Remark(f"{text}; `total_steps` is the length of the run", "schedule", _BY_LENGTH))
    warmup = values.get("schedule.steps")
    if isinstance(warmup, int | float) and warmup > updates and plan.schedule is not None:
        text = f"the schedule warms up for {warmup:g} updates, and the run has {updates}: it never gets to its rate"
        found.append(Remark(text, "schedule.steps", _BY_LENGTH))
    if plan.batch is not None and plan.usual_rows > 2 * length.rows:
        advice = "take fewer rows" + ", or `batch = all` where all are meant" * (plan.batches == 1)
        found.append(Remark(_taken(plan, length.rows), "batch", advice))
    for block in plan.updates:
        if block.every > updates:
            text = f"the update `{block.name}` is made every {block.every} steps, and the run has {updates}: never"
            found.append(Remark(text, f"{block.name}.every", "take a smaller number, or more steps"))
    column = dict(plan.data.options).get("target") if plan.data is not None else None
    for spec in program.inputs:
        if rows_of_class(spec.name, 0) in values and plan.oversample in (spec.name, column):
            text = f"`oversample` and `balanced({spec.name})` both make rare classes count more: together twice"
            found.append(Remark(text, "oversample", "leave one of them out"))
    for name in dict.fromkeys(rule.rate for rule in plan.every_rule):
        rate = values.get(name)
        if isinstance(rate, int | float) and abs(rate) > _LARGEST_RATE:
            text = f"`{name}` = {rate:g} is far above all usual rates, which are at most about 1"
            found.append(Remark(text, name, "take a smaller rate; `dlc lr` finds one"))
    return tuple(found)


def _taken(plan: TrainingPlan, rows: int) -> str:
    """What an update takes where there are far fewer rows than it could."""
    if plan.batches == 1:
        return f"an update takes {plan.usual_rows} rows, and there are {rows}: it is of all of them each time"
    each = f"each of its {plan.batches} batches is of {rows // plan.batches}"
    return f"a step takes {plan.usual_rows} rows, and there are {rows}: {each}"


_LARGEST_RATE = 100.0
_BY_LENGTH = "count the updates of the run with `total_steps`, or change the number"


def runtime_settings(program: Program, length: Length | None = None) -> Mapping[str, float]:
    """The settings that are passed at run time."""
    values = {s.name: s.value for s in resolved_settings(program, length) if s.is_runtime}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def rate_names(program: Program, settings: Mapping[str, float]) -> tuple[str, ...]:
    """The settings that hold the rates of the optimizers. Raises UsageError where one is no setting of run time."""
    names = tuple(dict.fromkeys(rule.rate for rule in training_of(program).every_rule if rule.rate))
    if not names:
        raise UsageError(f"no optimizer of {program.model} has a setting `lr`", "there is no rate to look for")
    for name in names:
        if name not in settings:
            message = f"`{name}` decides the program, so every other rate would be compiled anew"
            raise UsageError(message, "use the rate only in arithmetic on tensors")
    return names


def training_of(program: Program) -> TrainingPlan:
    """The settings of `train`. Raises UsageError for a bare model."""
    if program.plan is None:
        raise UsageError(f"{program.model} has no `train`", "add a `train` declaration with loss, optimizer and batch")
    return program.plan


def length_of(plan: TrainingPlan, rows: int) -> Length:
    """How far a training over `rows` rows goes. Raises UsageError where nothing says it."""
    batch = plan.rows_of(rows)
    in_epoch = steps_of_rows(rows, batch, plan.batches)
    if not in_epoch:
        message = f"a step takes {plan.batches} batches, and there are {rows} rows to train on"
        raise UsageError(message, "give more rows, or lower `times` in the `update` blocks")
    if plan.steps is not None:
        return Length(rows, batch, plan.steps, plan.batches)
    if plan.epochs is None:
        raise UsageError("nothing says how long to train", "give --epochs N, or `epochs = N` in `train`")
    return Length(rows, batch, plan.epochs * in_epoch, plan.batches)
