"""W0121: a loss that not every parameter lowers, by which the best epoch is chosen all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.program import Program, TrainingPlan
from compiler.frontend.trace import Subject
from compiler.frontend.update_rules import UpdateRule
from compiler.graph.ir import Graph, GraphInput, Node, Role, Value
from compiler.lints.flow import Flow, inlined, place_of
from compiler.ops.control import CustomGradient, StopGradient
from compiler.support.arrays import Array, np
from compiler.types import at_batch, numpy_dtype, static_elements

_ROWS = 2


def find_opposed_losses(subject: Subject) -> Iterator[Diagnostic]:
    """Adversaries: one part of the parameters lowers what another part raises."""
    program, train = subject.program, subject.train
    plan = program.plan
    if plan is None or train is None or not plan.restores:
        return
    flow = Flow(inlined(program.training_graph))
    place = train.place_of("loss")
    reason = _reversed(flow) or _opposed(flow) or _climbing(program, plan)
    if reason is None:
        return
    why, where = reason
    message = f"{why}, so the lowest loss need not be the best, but `test` and `dlc eval` take the epoch that has it"
    advice = hint("`restore = false` keeps the last weights; `dlc eval RUN --last` takes them")
    notes = () if where is None or where == place else (Note("here", where),)
    yield Diagnostic("W0121", message, place, (advice, *notes), "warning")


_Reason = tuple[str, Span | None]


def _reversed(flow: Flow) -> _Reason | None:
    """A function that changes nothing but the sign of the gradient."""
    for node in flow.graph.nodes:
        if isinstance(node.op, CustomGradient) and _is_own(node) and _turns(flow, node, node.op):
            return "a gradient is reversed", place_of(node)
    return None


def _turns(flow: Flow, node: Node, op: CustomGradient) -> bool:
    x, *rest = node.operands
    if op.inputs != 1 or len(rest) != 1 or x.type != rest[0].type or flow.source(x) != flow.source(rest[0]):
        return False
    from compiler.evaluate import evaluate  # few texts have a gradient of their own

    ones = {entry.name: np.ones(*_form(entry.value)) for entry in op.rule.inputs}
    return bool((evaluate(op.rule, ones, _ROWS)["d0"] < 0).all())


def _opposed(flow: Flow) -> _Reason | None:
    """Whether a value of parameters meets further ones twice, once without a gradient: a generator and its judge."""
    graph = flow.graph
    parameters = [entry.value for entry in graph.inputs if entry.role is Role.PARAMETER]
    learned = flow.depending(parameters)
    known = {value.index for value in parameters}
    followed = Flow(replace(graph, nodes=tuple(n for n in graph.nodes if not isinstance(n.op, StopGradient))))
    for node in graph.nodes:
        if not isinstance(node.op, StopGradient) or not _is_own(node) or node.operands[0].index not in learned:
            continue
        made = node.operands[0]
        if any(isinstance(taker.op, CustomGradient) for taker in flow.takers(made)):
            continue  # inside a function with a gradient of its own
        own = known & flow.reaching([made])
        held, free = (
            _met(graph, f.depending([v]), known - own) for f, v in ((flow, node.results[0]), (followed, made))
        )
        if held & free:
            return "some parameters work against others", place_of(node)
    return None


def _met(graph: Graph, values: set[int], parameters: set[int]) -> set[int]:
    """The parameters that are combined with some of the values at once."""
    found: set[int] = set()
    for node in graph.nodes:
        operands = {operand.index for operand in node.operands}
        if operands & values:
            found |= operands & parameters
    return found


def _climbing(program: Program, plan: TrainingPlan) -> _Reason | None:
    """An update in the direction of the gradient."""
    smallest: dict[str, UpdateRule] = {}
    for rule in plan.rules:
        least = smallest.setdefault(rule.rate, rule)
        if _size(rule) < _size(least):
            smallest[rule.rate] = rule
    settings = {setting.name: setting.value for setting in program.settings}
    if any(_climbs(rule, settings) for rule in smallest.values()):
        return "an optimizer raises the loss that it should lower", None
    return None


def _size(rule: UpdateRule) -> int:
    return next((static_elements(e.value.type.shape) for e in rule.graph.inputs if e.name == "p"), 0)


def _climbs(rule: UpdateRule, settings: Mapping[str, object]) -> bool:
    """Whether the first step from 0, with a gradient of ones, goes upwards."""
    graph = rule.graph
    if rule.group:  # which evaluates the loss itself
        return False
    rate = settings.get(rule.rate, 1)
    if isinstance(rate, int | float) and rate >= 0 and not any(_is_own(node) for node in graph.nodes):
        return False  # the library's go down
    from compiler.evaluate import evaluate  # few texts have an optimizer of their own

    states = {state.name: state.initializer for state in rule.states}
    given: dict[str, Array] = {}
    for entry in graph.inputs:
        if entry.name in states:
            given[entry.name] = evaluate(states[entry.name], _nothing(states[entry.name]), 1)["value"]
        else:
            given[entry.name] = _number(entry, rule, settings)
    return bool((evaluate(graph, given, 1)["p"] > 0).any())


def _nothing(graph: Graph) -> dict[str, Array]:
    return {entry.name: np.zeros(*_form(entry.value)) for entry in graph.inputs}


def _number(entry: GraphInput, rule: UpdateRule, settings: Mapping[str, object]) -> Array:
    shape, dtype = _form(entry.value)
    if entry.name == "p":
        return np.zeros(shape, dtype)
    value = settings.get(rule.rate if entry.name == "lr" else entry.name, 1)
    return np.full(shape, value if isinstance(value, int | float) else 1, dtype)


def _form(value: Value) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    return at_batch(value.type.shape, _ROWS), numpy_dtype(value.type.dtype)


def _is_own(node: Node) -> bool:
    return bool(node.origins) and not node.origins[0].span.source.is_library
