"""Schedules: `.dl` text elaborated into the graph of a rate, and that of the states which follow the loss of epochs."""

from __future__ import annotations

from compiler.errors.diagnostics import Span, hint
from compiler.frontend.arithmetic import Formula
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.elaborator import Frame, Session
from compiler.frontend.failures import failure
from compiler.frontend.program import Follower
from compiler.frontend.settings import as_formula
from compiler.frontend.tensors.operators import scalar
from compiler.frontend.train.updates import SCALAR, form_result, of_type
from compiler.frontend.values import FormValue, RunTimeNumber, TensorValue
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.syntax import tree
from compiler.types import DType

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
            raise failure(
                "E0503",
                f"the state `{statement.name}` of a schedule is one number, which is known from the start",
                statement.span,
                hint(f"such as `state {statement.name} = zeros` or `state {statement.name} = constant(inf)`"),
            )
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
