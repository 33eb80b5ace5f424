"""The `optimizer` of an experiment, its schedule and its clip: `.dl` text elaborated into graphs of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import copysign

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.arithmetic import Formula
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.builtins.functions import settings_in
from compiler.frontend.builtins.table import built_in
from compiler.frontend.elaborator import Elaborator, Frame, Session
from compiler.frontend.failures import Poisoned, failure
from compiler.frontend.program import ParameterSpec
from compiler.frontend.scope import Namespace
from compiler.frontend.settings import as_formula, plain
from compiler.frontend.tensors.binding import declared_type, expect_tensor
from compiler.frontend.tensors.operators import cast, scalar, spread
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.train.entries import Keys
from compiler.frontend.train.patterns import Freezing, select_parameters, selector_of, without_keywords
from compiler.frontend.update_rules import AVERAGE, Clip, Follower, OptimizerState, UpdateRule
from compiler.frontend.values import (
    POISON,
    BuiltinValue,
    FormValue,
    RunTimeNumber,
    TensorValue,
    TupleValue,
    Value,
    describe,
    is_number,
)
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.ops.build import constant_of
from compiler.ops.control import Objective
from compiler.support.record import record
from compiler.syntax import tree
from compiler.types import DType, TensorType, static_elements

SCALAR = TensorType(DType.F32)


class RuleEvaluator(Evaluator):
    """Evaluates an optimizer, whose states have the shape of `p` unless they say otherwise."""

    def __init__(self, session: Session, name: str, frame: Frame) -> None:
        super().__init__(session, GraphBuilder(name), frame, training=True)
        self.found: list[tuple[OptimizerState, TensorValue]] = []
        self.parameter: TensorValue | None = None

    def declare_optimizer_state(self, statement: tree.StateDeclaration) -> TensorValue:
        assert self.parameter is not None
        if statement.annotation is None:
            type_, axes = self.parameter.value.type, self.parameter.axes
        else:
            type_, axes = declared_type(self, statement.annotation)
        path = f"{self.frame.application}:{statement.name}"
        value = self.evaluate_initializer(statement.initializer)
        initializer = self.initializer_graph(path, type_, value, statement.initializer.span)
        node = self.input(statement.name, Role.OPTIMIZER_STATE, type_)
        tensor = TensorValue(node, axes)
        self.frame.states[statement.name] = statement.name
        state = OptimizerState(statement.name, type_, initializer, _is_zero(initializer))
        self.found.append((state, tensor))
        return tensor


def _is_zero(initializer: Graph) -> bool:
    """Whether each element of the first content is 0, and not -0."""
    first = constant_of(GraphBuilder.extending(initializer), initializer.output("value").value)
    return first is not None and first == 0 and copysign(1, first) == 1


@record
class OptimizerEntry:
    """One optimizer of `train`: its form, the patterns of its parameters, and of those that decay."""

    form: FormValue
    rate: str
    on: tuple[str, ...]
    on_span: Span
    decay_on: tuple[str, ...] | None
    decay_span: Span
    span: Span

    def takes_objective(self, session: Session) -> bool:
        """Whether it updates all its parameters together, as one vector."""
        return len(session.signature(self.form.declaration, self.form.module).tensor_names) == 4


_ALONE = ("clip", "accumulate", "shards", "ema", "unfreeze")


def refuse_with_objective(entries: Keys, rule: OptimizerEntry, specs: Sequence[ParameterSpec]) -> None:
    """Raise Failure for what an optimizer that evaluates the loss itself cannot go with."""
    name = rule.form.declaration.name
    if entries.prefix:
        message = f"`{name}` evaluates the one loss of a `train` itself, and an `update` is a part of a step"
        raise failure("E0615", message, rule.span, hint("take an optimizer of `(p, g, t)`, such as `adam()`"))
    for key in _ALONE:
        if entries.is_given(key):
            message = f"`{key}` does not go with the optimizer `{name}`, which evaluates the loss itself"
            raise failure("E0615", message, rule.span, hint(f"leave `{key}` out, or take an optimizer of `(p, g, t)`"))
    if len({spec.type.dtype for spec in specs}) > 1:
        raise failure("E0615", f"`{name}` makes one vector of its parameters, which must be of one type", rule.span)


def elaborate_rule(
    session: Session, rule: OptimizerEntry, path: str, type_: TensorType, decays: bool
) -> tuple[Graph, tuple[OptimizerState, ...]]:
    """The graph of an update: inputs p, g, t, lr, the states, settings; outputs p and the states.

    Of one parameter; or, of an optimizer that takes the objective, of all of them as one vector called `path`. A rule
    that returns two values has one more state, the second: it stands for p outside of training.
    """
    declaration, module = rule.form.declaration, rule.form.module
    signature = session.signature(declaration, module)
    frame = session.frame_of(rule.form, "optimizer", (rule.span,), path, "update")
    if not decays:
        frame.variables["weight_decay"] = 0.0
    evaluator = RuleEvaluator(session, f"{declaration.name} of {type_}", frame)
    evaluator.span = rule.span
    names = signature.tensor_names
    if len(names) not in (3, 4):
        raise Poisoned
    parameter, gradient, count, *objective = names
    axes = tuple(Axis(origin=rule.span) for _ in type_.shape)
    evaluator.parameter = TensorValue(evaluator.input("p", Role.PARAMETER, type_), axes)
    frame.variables[parameter] = evaluator.parameter
    frame.variables[gradient] = TensorValue(evaluator.input("g", Role.DATA, type_), axes)
    frame.variables[count] = TensorValue(evaluator.input("t", Role.DATA, SCALAR), ())
    frame.variables.update((name, objective_of(name, type_)) for name in objective)
    rate = evaluator.input("lr", Role.DATA, SCALAR)
    if "lr" in signature.types:
        _expect_rate(evaluator, rule)
        frame.variables["lr"] = TensorValue(rate, ())
    result = form_result(evaluator, declaration, rule.span)
    result, average = result.items if isinstance(result, TupleValue) and len(result.items) == 2 else (result, None)
    new = of_type(evaluator, f"the new value of `{parameter}`", result, type_, rule.span)
    evaluator.builder.output("p", Role.PARAMETER, new.value, updates="p")
    for state, _ in evaluator.found:
        value = frame.variables[state.name]
        assert isinstance(value, TensorValue)
        evaluator.builder.output(state.name, Role.OPTIMIZER_STATE, value.value, updates=state.name)
    if average is not None:
        if objective:
            message = f"`{declaration.name}` evaluates the loss itself, and returns one value, that of the parameters"
            raise failure("E0615", message, rule.span)
        shown_for = of_type(evaluator, f"the value in place of `{parameter}`", average, type_, rule.span)
        evaluator.input(AVERAGE, Role.OPTIMIZER_STATE, type_)
        evaluator.builder.output(AVERAGE, Role.OPTIMIZER_STATE, shown_for.value, updates=AVERAGE)
    return evaluator.builder.build(), tuple(state for state, _ in evaluator.found)


def _expect_rate(evaluator: Evaluator, rule: OptimizerEntry) -> None:
    """The one setting of an optimizer that its body cannot judge: there it is the scheduled rate."""
    given = (rule.form.settings or {})["lr"]
    number = plain(given)
    evaluator.session.limit(given, (">=", 0))
    if isinstance(number, int | float) and number < 0:
        message = f"`lr` of `{rule.form.declaration.name}` is at least 0, not {number!r}"
        raise failure("E0315", message, rule.span, *settings_in(evaluator, (given,)))


def form_result(evaluator: Evaluator, declaration: tree.Callable, span: Span) -> Value:
    """The value of a form's body; a mistake that shows in the library is reported where the form is named."""
    result = evaluator.run_form(declaration, span)
    if result is POISON:
        raise Poisoned
    evaluator.span = span
    return result


def of_type(evaluator: Evaluator, what: str, value: Value, type_: TensorType, span: Span) -> TensorValue:
    if is_number(value):
        value = scalar(evaluator, value, type_.dtype)
    if not isinstance(value, TensorValue):
        raise failure("E0612", f"{what} must be a tensor, not {describe(value)}", span)
    if value.rank and value.shape != type_.shape:
        raise failure("E0612", f"{what} must be {type_}, not {shown(evaluator, value)}", span)
    value = TensorValue(spread(evaluator, value, type_.shape), value.axes)
    return cast(evaluator, value, type_.dtype)


def elaborate_clip(session: Session, form: FormValue, span: Span) -> Clip:
    """A form of clip. It is global where its second tensor is `total`, the sum of squares of all gradients."""
    names = session.signature(form.declaration, form.module).tensor_names
    is_global = len(names) == 2 and names[1] == "total"
    if len(names) != 1 and not is_global:
        raise failure("E0603", f"`{form.declaration.name}` must take `(g)` or `(g, total)` to clip gradients", span)
    graphs: dict[TensorType, Graph] = {}

    def graph_of(type_: TensorType) -> Graph:
        if type_ not in graphs:
            graphs[type_] = _clip_graph(session, form, span, names, type_)
        return graphs[type_]

    return Clip(form.declaration.name, is_global, graph_of)


def _clip_graph(session: Session, form: FormValue, span: Span, names: tuple[str, ...], type_: TensorType) -> Graph:
    frame = session.frame_of(form, "fn", (span,), "clip", "0")
    evaluator = Evaluator(session, GraphBuilder(f"{form.declaration.name} of {type_}"), frame, training=True)
    evaluator.span = span
    axes = tuple(Axis(origin=span) for _ in type_.shape)
    frame.variables[names[0]] = TensorValue(evaluator.input("g", Role.DATA, type_), axes)
    if len(names) == 2:
        frame.variables[names[1]] = TensorValue(evaluator.input("total", Role.DATA, SCALAR), ())
    result = form_result(evaluator, form.declaration, span)
    clipped = of_type(evaluator, "a clipped gradient", result, type_, span)
    evaluator.builder.output("g", Role.OUTPUT, clipped.value)
    return evaluator.builder.build()


def objective_of(name: str, type_: TensorType) -> BuiltinValue:
    """The function called `name` of points of `type_`, which are f32[n]."""

    def evaluate(elaborator: Elaborator, p: Value, direction: Value = None) -> Value:
        """The loss and its gradient at `p`; with a direction, also the product of the Hessian with it."""
        given = {key: value for key, value in (("p", p), ("direction", direction)) if value is not None}
        tensors = [expect_tensor(elaborator, value, f"`{key}` of `{name}`") for key, value in given.items()]
        for key, tensor in zip(given, tensors, strict=True):
            if tensor.value.type != type_:
                elaborator.fail("E0417", f"`{key}` of `{name}` is {type_}, not {tensor.value.type}")
        results = elaborator.emit_all(Objective(), *(tensor.value for tensor in tensors))
        vector = tensors[0].axes
        return TupleValue(tuple(TensorValue(result, vector if result.type.rank else ()) for result in results))

    return BuiltinValue(built_in(evaluate, name), {})


class Optimizers:
    """The value of `optimizer`: one rule, or a list of which the first that selects a parameter updates it."""

    def __init__(
        self, session: Session, entries: Keys, freezing: Freezing, evaluator: Evaluator, expression: tree.Expression
    ) -> None:
        self.session, self.entries, self.freezing, self.evaluator = session, entries, freezing, evaluator
        self.span = expression.span
        # By optimizer, type and decay: parameters of one type share a graph.
        self.known: dict[tuple[int, TensorType, bool], tuple[Graph, tuple[OptimizerState, ...]]] = {}
        items = expression.items if isinstance(expression, tree.ListLiteral) else (expression,)
        self.rules = [
            self._rule(item, entries.prefix + ("optimizer" if len(items) == 1 else f"optimizer.{number}"))
            for number, item in enumerate(items)
        ]
        self._expect_rates()

    def updates(self, trained: Sequence[ParameterSpec], types: Mapping[str, TensorType]) -> tuple[UpdateRule, ...]:
        """The update of each parameter that is trained now; `types` are those of all that some epoch trains."""
        selected = [select_parameters(rule.on, types, "on", rule.on_span) for rule in self.rules]
        chosen = [(spec, _chosen(selected, spec, self.span)) for spec in trained]
        joint = [number for number, rule in enumerate(self.rules) if rule.takes_objective(self.session)]
        single = [self._update(number, spec) for spec, number in chosen if number not in joint]
        together = [(number, [spec for spec, n in chosen if n == number]) for number in joint]
        return (*single, *(self._joint_update(number, specs) for number, specs in together if specs))

    def _expect_rates(self) -> None:
        """Refuse what changes rates where no optimizer has one; the schedule `constant` changes none."""
        schedule = self.entries.expression("schedule")
        is_constant = isinstance(schedule, tree.Name) and schedule.id == "constant"
        if any(rule.rate for rule in self.rules):
            return
        for key in ("schedule", "plateau"):
            if self.entries.is_given(key) and not (key == "schedule" and is_constant):
                names = ", ".join(f"`{rule.form.declaration.name}`" for rule in self.rules)
                raise failure(
                    "E0301", f"`{key}` changes the setting `lr` of an optimizer, which {names} does not have", self.span
                )

    def _rule(self, item: tree.Expression, prefix: str) -> OptimizerEntry:
        bare, given = without_keywords(item, ("on", "decay_on"))
        self.evaluator.span = item.span
        form = self.evaluator.evaluate_key(Namespace.OPTIMIZER, bare, prefix)
        on, on_span = ("*",), item.span
        if "on" in given:
            on, on_span = selector_of(given["on"], "on", self.evaluator.evaluate), given["on"].span
        decay, decay_span = None, item.span
        if "decay_on" in given:
            decay_span = given["decay_on"].span
            if "weight_decay" not in (form.settings or {}):
                name = form.declaration.name
                message = f"`decay_on` selects the parameters of `weight_decay`, which `{name}` does not have"
                raise failure("E0301", message, decay_span)
            decay = selector_of(given["decay_on"], "decay_on", self.evaluator.evaluate)
        rate = (form.settings or {}).get("lr")
        if isinstance(rate, RunTimeNumber):
            # Every graph takes the scheduled rate as `lr`; the run passes the setting itself to the schedule.
            self.session.run_time.setdefault(rate.name, rate)
        return OptimizerEntry(
            form, f"{prefix}.lr" if rate is not None else "", on, on_span, decay, decay_span, item.span
        )

    def _update(self, number: int, spec: ParameterSpec) -> UpdateRule:
        """The update of one parameter."""
        rule = self.rules[number]
        decays = rule.decay_on is None or self._decays(rule, spec)
        key = number, spec.type, decays
        if key not in self.known:
            self.known[key] = elaborate_rule(self.session, rule, spec.path, spec.type, decays)
        graph, states = self.known[key]
        has_own = any(output.name == AVERAGE for output in graph.outputs)
        if has_own and self.entries.averages:
            message = f"`{rule.form.declaration.name}` says itself which weights stand for its own, and so does `ema`"
            raise failure("E0615", message, rule.span, hint("leave `ema` out"))
        if has_own or self.entries.averages:
            states = (*states, OptimizerState(AVERAGE, spec.type, spec.initializer))
        return UpdateRule(spec.path, graph, states, rule.rate, self.freezing.since(spec.path) or 0)

    def _joint_update(self, number: int, specs: list[ParameterSpec]) -> UpdateRule:
        """The update of parameters as one vector."""
        rule = self.rules[number]
        refuse_with_objective(self.entries, rule, specs)
        name = "(optimizer)" if len(self.rules) == 1 else f"(optimizer.{number})"
        type_ = TensorType(specs[0].type.dtype, (sum(static_elements(spec.type.shape) for spec in specs),))
        graph, states = elaborate_rule(self.session, rule, name, type_, True)
        return UpdateRule(name, graph, states, rule.rate, group=tuple(spec.path for spec in specs))

    def _decays(self, rule: OptimizerEntry, spec: ParameterSpec) -> bool:
        types = {s.path: s.type for s in self.session.parameters.values() if s.role is Role.PARAMETER}
        return spec.path in select_parameters(rule.decay_on or (), types, "decay_on", rule.decay_span)


def _chosen(selected: list[frozenset[str]], spec: ParameterSpec, span: Span) -> int:
    """The number of the first rule that selects a parameter."""
    number = next((i for i, paths in enumerate(selected) if spec.path in paths), None)
    if number is None:
        message = f"no optimizer updates `{spec.path}`"
        advice = hint('end the list with an optimizer for all others (`on = "*"`), or freeze the parameter')
        raise failure("E0606", message, span, Note("the parameter is declared here", spec.span), advice)
    return number


_METRIC = "(schedule).metric"


class _ScheduleEvaluator(Evaluator):
    """Evaluates a schedule. Its states are settings of run time, which the run changes at the end of an epoch.

    The rate of a step is what the body gives from the states as they stand: assignments do not move them.
    """

    def __init__(self, session: Session, frame: Frame, moves_states: bool) -> None:
        super().__init__(session, GraphBuilder(frame.name), frame, training=True)
        self.keeps_states = not moves_states
        self.kept: dict[str, str] = {}  # the setting of each state
        self.outermost = frame

    def follow(self, name: str, start: float) -> TensorValue:
        """A number of the run that follows its epochs."""
        return scalar(self, RunTimeNumber(name, start, frozenset({name}), "epoch"), DType.F32)

    def declare_optimizer_state(self, statement: tree.StateDeclaration) -> TensorValue:
        if self.frame is not self.outermost:
            raise failure("E0503", "a schedule with a `state` cannot be called by another", statement.span)
        value = self.evaluate_initializer(statement.initializer)
        start = _start(value)
        if start is None or statement.annotation is not None:
            message = f"the state `{statement.name}` of a schedule is one number, which is known from the start"
            advice = hint(f"such as `state {statement.name} = zeros` or `state {statement.name} = constant(inf)`")
            raise failure("E0503", message, statement.span, advice)
        self.kept[statement.name] = f"(schedule).{statement.name}"
        self.frame.states[statement.name] = statement.name
        return self.follow(self.kept[statement.name], start)


def _start(value: FormValue) -> float | None:
    """The result of an initialiser of one number, where it is known without running it."""
    if not value.module.is_library:
        return None
    settings = value.settings or {}
    number = {"zeros": 0.0, "ones": 1.0, "constant": settings.get("value")}.get(value.declaration.name)
    number = number.value if isinstance(number, RunTimeNumber) else number
    return float(number) if isinstance(number, int | float) else None


def elaborate_schedule(session: Session, form: FormValue, span: Span) -> tuple[Graph, Follower | None]:
    """The graph of a schedule (inputs lr and t, then settings; output lr), and what follows the epochs, if anything."""
    evaluator = _evaluated(session, form, span, moves_states=False)
    if not evaluator.kept and _METRIC not in evaluator.inputs:
        return evaluator.builder.build(), None
    moving = _evaluated(session, form, span, moves_states=True)
    moving.builder.outputs = []
    for name, setting in moving.kept.items():
        state = moving.frame.variables[name]
        assert isinstance(state, TensorValue)
        moving.builder.output(setting, Role.OUTPUT, state.value)
    return evaluator.builder.build(), Follower(moving.builder.build(), _METRIC)


def _evaluated(session: Session, form: FormValue, span: Span, moves_states: bool) -> _ScheduleEvaluator:
    declaration = form.declaration
    names = session.signature(declaration, form.module).tensor_names
    frame = session.frame_of(form, "schedule", (span,), "schedule", "0")
    evaluator = _ScheduleEvaluator(session, frame, moves_states)
    evaluator.span = span
    for name, given in zip(names, ("lr", "t"), strict=False):
        frame.variables[name] = TensorValue(evaluator.input(given, Role.DATA, SCALAR), ())
    for name in names[2:]:
        frame.variables[name] = evaluator.follow(_METRIC, float("inf"))
    result = form_result(evaluator, declaration, span)
    rate = of_type(evaluator, "the result of a schedule", result, SCALAR, span)
    evaluator.builder.output("lr", Role.OUTPUT, rate.value)
    return evaluator


def schedule_end(form: FormValue) -> Formula | int | float | str | None:
    """The update at which a schedule of the library ends, for those that have an end."""
    settings = form.settings or {}
    if not form.module.is_library:
        return None
    match form.declaration.name:
        case "linear" | "polynomial" | "cosine" | "one_cycle":
            return as_formula(settings["T"])
        case "warmup":
            then = settings["then"]
            rest = schedule_end(then) if isinstance(then, FormValue) else None
            return None if rest is None else Formula("+", (as_formula(settings["steps"]), rest))
        case _:
            return None
