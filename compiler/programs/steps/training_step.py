"""A program's graphs as the runtime calls them: initialisation, one step of training, evaluation, prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from compiler.errors.diagnostics import CompilerBug
from compiler.frontend.program import KEPT, ParameterSpec, Program, TrainingPlan
from compiler.frontend.update_rules import AVERAGE, SHARE_OF_THE_NEW, UpdateRule
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Direction, Graph, GraphInput, GraphOutput, Origin, Role, Value
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.ops.autodiff import gradients_of
from compiler.ops.build import filled, spread
from compiler.ops.elementwise import Add, Cast, Multiply, Symbolic
from compiler.ops.spreading import Sum
from compiler.pipeline import prepare_for_gradients
from compiler.programs.steps.finishing import with_totals
from compiler.programs.steps.objective import LossEvaluation, joined, taken_apart
from compiler.programs.steps.updates import BlocksOfStep, states_of
from compiler.types import DType, TensorType, static_elements


def training_step(program: Program, phase: int = 0) -> Graph:
    """Forward, loss, gradients, clipping, update and metrics in one graph. Phase 0 is the first of the training.

    Outputs: each trained parameter, each optimizer state (`PATH:STATE`) and each state of the model, which update the
    inputs of their names; then `loss`, the metrics, `lr`, the scheduled rate of the first rule, and what the metrics of
    an epoch are finished from.
    """
    program, plan = in_phase(program, phase)
    graph, gathered = with_totals(program.training_graph, finished_in_training(plan), by_rows=False)
    step = StepBuilder(replace(program, training_graph=graph), plan)
    step.make_updates()
    step.keep_states()
    step.report()
    for name in gathered:
        step.builder.output(name, Role.OUTPUT, step.forward[name])
    return eliminate_dead(step.builder.build())


def finished_in_training(plan: TrainingPlan) -> tuple[str, ...]:
    """The totals of training for the metrics of an epoch: inputs of the program that finishes them."""
    metrics = plan.finished_metrics
    return () if not metrics else plan.finished if plan.finishes_alike else metrics


def in_phase(program: Program, phase: int) -> tuple[Program, TrainingPlan]:
    """The program with the training graph of a phase, and its plan with the rules of that phase."""
    plan = _plan_of(program, "training_step")
    if not phase:
        return program, plan
    later = plan.phases[phase - 1]
    return replace(program, training_graph=later.training_graph), replace(plan, rules=later.rules)


def evaluation_graph(program: Program) -> Graph:
    """The loss of the inference program, and the totals from which it and the metrics are finished."""
    plan = _plan_of(program, "evaluation_graph")
    graph, gathered = with_totals(program.inference_graph, plan.finished, by_rows=True)
    finished = {*plan.finished} - {"loss"}
    names = [name for name in reported(graph, plan) if name not in finished]
    return _with_outputs(graph, (*names, *gathered))


def batch_evaluation_graph(program: Program) -> Graph:
    """The loss and the metrics of the inference program, finished over the rows of one batch."""
    plan = _plan_of(program, "batch_evaluation_graph")
    return _with_outputs(program.inference_graph, ("loss", *plan.metrics))


def prediction_graph(program: Program) -> Graph:
    """The model's outputs, from its inputs alone: targets are left out."""
    targets = {spec.name for spec in program.inputs if spec.is_target}
    graph = _with_outputs(program.inference_graph, program.outputs)
    return replace(graph, inputs=tuple(i for i in graph.inputs if i.role is not Role.DATA or i.name not in targets))


def augmentation_graph(program: Program) -> Graph:
    """The samples as training changes them for the model."""
    if program.augmentation is None:
        raise CompilerBug("augmentation_graph", f"{program.name} has no `augment`")
    return program.augmentation


def gradient_graph(program: Program) -> Graph:
    """For each trained parameter, by its path: the mean square of the elements of its gradient, before clipping."""
    step = StepBuilder(program, _plan_of(program, "gradient_graph"))
    step.make_updates()
    step.builder.outputs.clear()  # nothing changes
    for path, gradient in step.slopes.items():
        square = step.builder.emit(Multiply(), gradient, gradient)
        total = Symbolic(step.builder, step.builder.emit(Sum(tuple(range(gradient.type.rank))), square))
        step.builder.output(path, Role.OUTPUT, (total / static_elements(gradient.type.shape)).value)
    return eliminate_dead(step.builder.build())


def schedule_graph(program: Program) -> Graph:
    """The rate of a step that is told, `lr`, as the training step computes it."""
    plan = _plan_of(program, "schedule_graph")
    builder = GraphBuilder("schedule")
    rate = builder.input(plan.told_rate, Role.SETTING, TensorType(DType.F32))
    steps = builder.input("step", Role.STEP, TensorType(DType.I64))
    if plan.schedule is not None:
        known = {"lr": rate, "t": builder.emit(Cast(DType.F32), steps)}
        inputs = [known.get(i.name) or builder.input(i.name, Role.SETTING, i.value.type) for i in plan.schedule.inputs]
        rate = builder.inline(plan.schedule, inputs)["lr"]
    builder.output("lr", Role.OUTPUT, rate)
    return builder.build()


def following_graph(program: Program) -> Graph:
    """The next state of the schedule, from the state before and the loss of the epoch."""
    plan = _plan_of(program, "following_graph")
    assert plan.follower is not None
    builder = GraphBuilder("following")
    steps = builder.input("step", Role.STEP, TensorType(DType.I64))
    known = {"t": builder.emit(Cast(DType.F32), steps)}
    names = {"lr": plan.told_rate}
    inputs = [
        known.get(i.name) or builder.input(names.get(i.name, i.name), Role.SETTING, i.value.type)
        for i in plan.follower.graph.inputs
    ]
    for name, value in builder.inline(plan.follower.graph, inputs).items():
        builder.output(name, Role.OUTPUT, builder.emit(Cast(DType.F64), value))  # a number of the run, as settings are
    return builder.build()


def initial_graph(program: Program) -> Graph:
    """The first content of each tensor of a program, in place."""
    builder = GraphBuilder("initialise")
    key = builder.input("seed", Role.SEED, TensorType(DType.I64))
    firsts = [(spec.path, spec.role, spec.type, spec.initializer) for spec in program.parameters]
    if program.plan is not None:
        states = program.plan.optimizer_states.items()
        firsts += [(name, Role.OPTIMIZER_STATE, state.type, state.initializer) for name, state in states]
    for name, role, type_, graph in firsts:
        builder.input(name, role, type_)
        value = builder.inline(graph, [key] * len(graph.inputs))["value"]
        builder.output(name, role, value, updates=name)
    return builder.build()


def initial_states_graph(program: Program) -> Graph:
    """The first content of the optimizer's states, as `initial_graph` has it."""
    graph = initial_graph(program)
    kept = (Role.SEED, Role.OPTIMIZER_STATE)
    outputs = tuple(output for output in graph.outputs if output.role is Role.OPTIMIZER_STATE)
    inputs = tuple(entry for entry in graph.inputs if entry.role in kept)
    return eliminate_dead(replace(graph, inputs=inputs, outputs=outputs))


def reported(graph: Graph, plan: TrainingPlan) -> tuple[str, ...]:
    """The outputs of a graph that are told of each step: the loss, the metrics, and the divisors of their means."""
    names = ("loss", *plan.metrics)
    outputs = {output.name for output in graph.outputs}
    return (*names, *(name + KEPT for name in names if name + KEPT in outputs))


def _plan_of(program: Program, stage: str) -> TrainingPlan:
    if program.plan is None:
        raise CompilerBug(stage, f"{program.name} is a bare model without a loss")
    return program.plan


def _with_outputs(graph: Graph, names: tuple[str, ...]) -> Graph:
    by_name: dict[str, GraphOutput] = {output.name: output for output in graph.outputs}
    return eliminate_dead(replace(graph, outputs=tuple(by_name[name] for name in names)))


class StepBuilder:
    """The step under construction: inputs, gradients and rates by name.

    `inputs` are what tensors hold, `changed` what they become, and `slopes` the gradients before clipping. `evaluated`
    are the nodes of the last evaluation of the model.
    """

    def __init__(self, program: Program, plan: TrainingPlan) -> None:
        self.program, self.plan = program, plan
        self.builder = GraphBuilder(program.name)
        self.inputs: dict[str, Value] = {}
        # Simplified first: the gradient of sigmoid is finite where that of 1 / (1 + exp(-x)) is 0 * inf.
        self.prepared = prepare_for_gradients(program.training_graph, plan.is_double)
        self.gradients: dict[str, Value] = {}
        self.slopes: dict[str, Value] = {}
        self.rates: dict[str, Value] = {}
        self.changed: dict[str, tuple[Role, Value]] = {}
        self.made: Value | None = None  # the updates that were made before; None: one in each step
        self.blocks = BlocksOfStep(self) if plan.updates else None
        if self.blocks is None:
            self.evaluate()

    def evaluate(self, find: Callable[[GraphInput], Value | None] = lambda _: None) -> None:
        """Append the model with its loss; an input for which `find` has no value is read as it stands."""
        begin = len(self.builder.nodes)
        changed = self._augmented(find)
        entries = self.program.training_graph.inputs
        arguments = [changed.get(i.name) or self._argument(i, find) for i in entries]
        self.forward = self.builder.inline(self.prepared, arguments)
        self.arguments = dict(zip((i.name for i in entries), arguments, strict=True))
        self.evaluated = self.builder.nodes[begin:]

    def _augmented(self, find: Callable[[GraphInput], Value | None]) -> dict[str, Value]:
        """The inputs and targets that `augment` changes."""
        graph = self.program.augmentation
        if graph is None:
            return {}
        return self.builder.inline(graph, [self._argument(i, find) for i in graph.inputs])

    def _argument(self, entry: GraphInput, find: Callable[[GraphInput], Value | None]) -> Value:
        return find(entry) or self.input(entry.name, entry.role, entry.value.type)

    def input(self, name: str, role: Role, type_: TensorType) -> Value:
        """The input called `name`, new unless it is there."""
        if name not in self.inputs:
            self.inputs[name] = self.builder.input(name, role, type_)
        return self.inputs[name]

    def call(self, graph: Graph, known: Mapping[str, Value], stamp: Callable[[Origin], Origin]) -> dict[str, Value]:
        """Inline `graph`; an input that is not in `known` is a run-time setting."""
        arguments = [known.get(i.name) or self.input(i.name, Role.SETTING, i.value.type) for i in graph.inputs]
        return self.builder.inline(graph, arguments, stamp)

    def make_updates(self) -> None:
        """All of the step that changes parameters."""
        if self.blocks is not None:
            self.blocks.make_all()
            return
        self.make_update(self.forward["loss"])
        self.keep_updates()

    def make_update(self, loss: Value, begin: int = 0) -> None:
        """Change the parameters of the plan by the gradient of `loss`, which nodes from number `begin` on compute."""
        self.differentiate(loss, begin)
        self.slopes |= self.gradients
        self.clip()
        self.update()

    def differentiate(self, loss: Value, begin: int = 0) -> None:
        """The gradient of `loss` for each trained parameter; zeros where it does not depend on it."""
        ruled = {path for rule in self.plan.rules for path in rule.paths}
        trained = [spec for spec in self.program.parameters if spec.path in ruled]
        values = [self.input(spec.path, Role.PARAMETER, spec.type) for spec in trained]
        found = gradients_of(self.builder, tuple(self.builder.nodes[begin:]), loss, values)
        self.gradients = {}
        for spec, gradient in zip(trained, found, strict=True):
            with self.builder.at(_place_of(spec, Direction.BACKWARD)):
                self.gradients[spec.path] = filled(self.builder, 0, spec.type) if gradient is None else gradient

    def clip(self) -> None:
        """Replace the gradients by clipped ones, each alone or all by their joint norm."""
        clip = self.plan.clip
        if clip is None:
            return
        graphs = {path: clip.graph_of(gradient.type) for path, gradient in self.gradients.items()}
        known = {"total": self._total_of_squares(graphs)} if clip.is_global else {}
        for path, gradient in self.gradients.items():
            self.gradients[path] = self.call(graphs[path], {**known, "g": gradient}, _update_of(path))["g"]

    def _total_of_squares(self, clips: Mapping[str, Graph]) -> Value:
        """The sum of the squares of all gradients, a scalar, added in the order of the parameters."""
        squares: list[Value] = []
        for spec in self.program.parameters:
            if spec.path in self.gradients:
                with self.builder.at(_line_of(clips[spec.path], spec.path)):
                    gradient = self.gradients[spec.path]
                    square = self.builder.emit(Multiply(), gradient, gradient)
                    squares.append(self.builder.emit(Sum(tuple(range(gradient.type.rank))), square))
        if not squares:
            raise CompilerBug("training_step", "a clip by the norm of all gradients has no gradient")
        total = squares[0]
        with self.builder.at(_line_of(next(iter(clips.values())))):
            for square in squares[1:]:
                total = self.builder.emit(Add(), total, square)
        return total

    def update(self) -> None:
        """Apply each rule to its parameter, in the order of the parameters."""
        steps = self.input("step", Role.STEP, TensorType(DType.I64))
        specs = {spec.path: spec for spec in self.program.parameters}
        states: list[tuple[str, Value]] = []
        for rule in self.plan.rules:
            if rule.group:
                with self.builder.at(_line_of(rule.graph)):
                    states.extend(self._update_together(rule, [specs[path] for path in rule.group], steps))
                continue
            spec = specs[rule.parameter]
            with self.builder.at(_place_of(spec, Direction.UPDATE)):
                results = self._apply(rule, self._count(rule, steps), self._rate(rule, steps))
            if self.plan.ema is not None:
                results[AVERAGE] = self._averaged(rule.parameter, results["p"])
            self.changed[spec.path] = Role.PARAMETER, results["p"]
            given = [state.name for state in rule.states if state.name in results]
            states.extend((f"{rule.parameter}:{name}", results[name]) for name in given)
        self.changed |= {name: (Role.OPTIMIZER_STATE, value) for name, value in states}

    def keep_updates(self) -> None:
        """The tensors that updates have changed become outputs, and the averages that follow them."""
        self._follow()
        for name, (role, value) in self.changed.items():
            self.builder.output(name, role, value, updates=name)

    def _follow(self) -> None:
        """Move the states that are averages of parameters, after these."""
        for spec in self.program.parameters:
            average = spec.average
            if average is None or spec.frozen:
                continue
            with self.builder.at(_place_of(spec, Direction.UPDATE)):
                steps = self.input("step", Role.STEP, TensorType(DType.I64))
                known = {"t": self.builder.emit(Cast(DType.F32), steps)}
                momentum = self.call(average.momentum, known, _update_of(spec.path))["momentum"]
                share = (1 - Symbolic(self.builder, momentum)).value
                _, new = self.changed.get(average.path) or (None, self.input(average.path, Role.PARAMETER, spec.type))
                before = self.input(spec.path, Role.STATE, spec.type)
                self.changed[spec.path] = Role.STATE, self._moved(before, share, new)

    def _update_together(self, rule: UpdateRule, specs: list[ParameterSpec], steps: Value) -> list[tuple[str, Value]]:
        """Apply a rule to its parameters as one vector; its new states by their full names."""
        known = {
            "p": joined(self.builder, [self.inputs[spec.path] for spec in specs]),
            "g": joined(self.builder, [self.gradients[spec.path] for spec in specs]),
            "t": self._count(rule, steps),
            "lr": self._rate(rule, steps),
        }
        names = {state.name: f"{rule.parameter}:{state.name}" for state in rule.states}
        for state in rule.states:
            known[state.name] = self.input(names[state.name], Role.OPTIMIZER_STATE, state.type)
        arguments = [known.get(i.name) or self.input(i.name, Role.SETTING, i.value.type) for i in rule.graph.inputs]
        evaluation = LossEvaluation(self.builder, self.prepared, self.arguments, specs)
        results = evaluation.inline(rule.graph, arguments)
        for spec, value in zip(specs, taken_apart(self.builder, results["p"], specs), strict=True):
            self.changed[spec.path] = Role.PARAMETER, value
        return [(full, results[name]) for name, full in names.items()]

    def _averaged(self, path: str, new: Value) -> Value:
        """The exponential moving average of a parameter after its update: a + (1 - ema) (p - a)."""
        before = self.input(f"{path}:{AVERAGE}", Role.OPTIMIZER_STATE, new.type)
        with self.builder.at((Origin(self.plan.places["ema"], (), path, Direction.UPDATE),)):
            return self._moved(before, self.input(SHARE_OF_THE_NEW, Role.SETTING, TensorType(DType.F32)), new)

    def _moved(self, average: Value, share: Value, new: Value) -> Value:
        """An average with a share of what is new in place of its own."""
        before = Symbolic(self.builder, average)
        part = Symbolic(self.builder, spread(self.builder, share, new.type.shape))
        return (before + part * (Symbolic(self.builder, new) - before)).value

    def _count(self, rule: UpdateRule, steps: Value) -> Value:
        """The number of the update, from 1: a parameter that was frozen at first begins to count when it is not."""
        made = steps if self.made is None else self.made
        with self.builder.at(_line_of(rule.graph, rule.parameter)):
            count = Symbolic(self.builder, self.builder.emit(Cast(DType.F32), made)) + 1
            if rule.since:
                in_epoch = self.input("steps_per_epoch", Role.SETTING, TensorType(DType.F32))
                count = count - rule.since * Symbolic(self.builder, in_epoch)
        return count.value

    def _apply(self, rule: UpdateRule, count: Value, rate: Value) -> dict[str, Value]:
        path = rule.parameter
        known = {"p": self.inputs[path], "g": self.gradients[path], "t": count, "lr": rate}
        for state in rule.states:
            known[state.name] = self.input(f"{path}:{state.name}", Role.OPTIMIZER_STATE, state.type)
        return self.call(rule.graph, known, _update_of(path))

    def _rate(self, rule: UpdateRule, steps: Value) -> Value:
        """The rate of a rule after the schedule, computed once for each setting that holds a rate; 0 without one."""
        if not rule.rate:
            return filled(self.builder, 0, TensorType(DType.F32))
        if rule.rate not in self.rates:
            rate = self.input(rule.rate, Role.SETTING, TensorType(DType.F32))
            if self.plan.schedule is not None:
                with self.builder.at(_line_of(self.plan.schedule)):
                    known = {"lr": rate, "t": self.builder.emit(Cast(DType.F32), steps)}
                rate = self.call(self.plan.schedule, known, lambda origin: origin.towards(Direction.UPDATE))["lr"]
            self.rates[rule.rate] = rate
        return self.rates[rule.rate]

    def keep_states(self) -> None:
        """The new states of the model."""
        for output in states_of(self.program.training_graph):
            value = self.forward[output.name] if self.blocks is None else self.blocks.states[output.name]
            self.builder.output(output.name, Role.STATE, value, output.updates)

    def report(self) -> None:
        """The loss, the metrics and the rate."""
        scalars = self.forward if self.blocks is None else self.forward | self.blocks.losses()
        for name in reported(self.program.training_graph, self.plan):
            self.builder.output(name, Role.OUTPUT, scalars[name])
        told = _plan_of(self.program, "training_step").told_rate
        if told in self.rates:  # not while everything is frozen
            self.builder.output("lr", Role.OUTPUT, self.rates[told])


def _place_of(spec: ParameterSpec, direction: Direction) -> tuple[Origin, ...]:
    return (Origin(spec.span, spec.calls, spec.path, direction),)


def _line_of(update: Graph, path: str = "") -> tuple[Origin, ...]:
    """The line that chooses a rule, a schedule or a clip: what its graph is given is computed for this line, too."""
    first = next((origin for node in update.nodes for origin in node.origins), None)
    return () if first is None else (Origin((*first.calls, first.span)[0], (), path, Direction.UPDATE),)


def _update_of(path: str) -> Callable[[Origin], Origin]:
    """Stamps a node of a rule with the parameter that it updates."""
    return lambda origin: Origin(origin.span, origin.calls, path, Direction.UPDATE)
