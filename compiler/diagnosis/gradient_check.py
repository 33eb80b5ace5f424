"""The derivatives of a program, as a whole and layer by layer, compared with central differences in f64.

Where a layer's are wrong, its operations are compared one by one, which names the line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from compiler.diagnosis import parts
from compiler.diagnosis.differences import Element, WeightedOutputs, function_of
from compiler.diagnosis.reports import GradientReport, LayerCheck
from compiler.errors.diagnostics import Diagnostic, Note, Span
from compiler.evaluate import evaluate, first_value, inputs_at
from compiler.frontend.program import EPOCH_NUMBER, SAMPLE_NUMBERS, Program
from compiler.graph.ir import Graph, Role
from compiler.graph_passes.convert_dtype import unrounded
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.interface import Array
from compiler.ops.control import CustomGradient
from compiler.pipeline import prepare_for_gradients
from compiler.programs.load import complete
from compiler.syntax.suppressions import without_suppressed

WRONG_GRADIENT = "W1001"
_DIRECTIONS = 2
_ELEMENTS = 20  # of a tensor whose derivative is wrong, so many are looked at to show the worst
_AT_KINKS = 200  # the same where a direction shows kinks, and is wrong
_NOISE = 0.1


def check_gradients(
    program: Program,
    data: Mapping[str, Array],
    settings: Mapping[str, float],
    batch: int,
    seed: int = 0,
    full: bool = False,
) -> GradientReport:
    """Compare along random directions; with `full`, in every element of every input of every layer as well.

    data: inputs and targets as they come from a loader, `batch` rows of each.
    """
    program, random = complete(program), np.random.default_rng(seed)
    graph = prepare_for_gradients(unrounded(_forward(program)))
    known = {**augmented(program, data, settings, batch, seed), **_weights(program, random, seed)}
    return _Check(graph, inputs_at(graph, known, seed, settings), batch, random, full).report()


def _weights(program: Program, random: np.random.Generator, seed: int) -> dict[str, Array]:
    """Where the derivatives are taken: at the first weights, with those moved that are all the same."""
    found: dict[str, Array] = {}
    for spec in program.parameters:
        value = first_value(unrounded(spec.initializer), seed)
        is_flat = spec.role is Role.PARAMETER and bool((value == value.ravel()[:1]).all())
        found[spec.path] = value + _NOISE * random.normal(size=value.shape) if is_flat else value
    return found


class _Check:
    def __init__(
        self, graph: Graph, point: Mapping[str, Array], batch: int, random: np.random.Generator, full: bool
    ) -> None:
        self._batch, self._random, self._full = batch, random, full
        self._values = parts.every_value(graph, point, batch)
        self._graph, stopped = parts.without_stops(graph)
        self._point_of_whole = {**point, **{parts.name_of(value): self._values[value.index] for value in stopped}}
        moving = [i for i in graph.inputs if i.value.type.dtype.is_float and i.role in (Role.PARAMETER, Role.DATA)]
        self._moving = [entry.name for entry in moving if np.isfinite(point[entry.name]).all()]
        self._dependent = parts.dependent_values(self._graph, self._moving)

    def report(self) -> GradientReport:
        findings: list[Diagnostic] = []
        checks: list[LayerCheck] = []
        for path, part in parts.layers_of(self._graph).items():
            function = self._function(part)
            if function is not None:
                checks.append(self._compared(path, function, part.graph))
                if checks[-1].is_right is False:
                    findings += self._wrong_lines(part, checks[-1])
        whole = self._whole()
        if whole is not None:
            checks.insert(0, whole)
            if whole.is_right is False and not findings:
                findings.append(_without_line(whole, self._graph))
        return GradientReport(tuple(checks), without_suppressed(findings))

    def _whole(self) -> LayerCheck | None:
        if not self._moving:
            return None
        function = function_of(self._graph, self._point_of_whole, self._batch, self._random, self._moving)
        return self._compared(None, function, self._graph)

    def _function(self, part: parts.Subgraph) -> WeightedOutputs | None:
        """The part as a function of what depends on weights and data, where that is finite; None if nothing is."""
        point = part.point(self._values)
        wanted = [name for name in part.moving(self._dependent) if np.isfinite(point[name]).all()]
        if not wanted or not any(output.value.type.dtype.is_float for output in part.graph.outputs):
            return None
        return function_of(part.graph, point, self._batch, self._random, wanted)

    def _compared(self, path: str | None, function: WeightedOutputs, graph: Graph) -> LayerCheck:
        span = None if path is None else _first_line(graph)
        if not function.has_finite:
            return LayerCheck(path, span, math.nan, None)
        found = [function.along(self._random) for _ in range(_DIRECTIONS)]
        is_wrong = not all(c.is_right for c in found)
        if is_wrong or any(c.play for c in found):
            limit = _AT_KINKS if is_wrong else _ELEMENTS
            single = [element.comparison for element in function.elements(limit, self._random)]
            if any(c.play for c in (*found, *single)):
                found = single  # over many kinks mistakes may cancel, and so may the kinks: each counts by itself
        elements = 0
        if self._full and path is not None:
            elementwise = [element.comparison for element in function.elements(None, self._random)]
            found, elements = found + elementwise, len(elementwise)
        error, is_right = max(c.error for c in found), all(c.is_right for c in found)
        return LayerCheck(path, span, error, is_right if is_right or function.is_finite else None, elements)

    def _wrong_lines(self, layer: parts.Subgraph, check: LayerCheck) -> list[Diagnostic]:
        found: list[Diagnostic] = []
        for part in parts.operations_of(layer):
            function = self._function(part)
            if function is not None and function.has_finite:
                found += [_finding(part, worst) for worst in self._worst(function)]
        return found or [_without_line(check, layer.graph)]

    def _worst(self, function: WeightedOutputs) -> list[Element]:
        """Of each input that has wrong derivatives, the element where it is most wrong."""
        worst: dict[str, Element] = {}
        for element in function.elements(None if self._full else _ELEMENTS, self._random):
            known = worst.get(element.name)
            is_worse = known is None or element.comparison.error > known.comparison.error
            if not element.comparison.is_right and is_worse:
                worst[element.name] = element
        return list(worst.values())


def _forward(program: Program) -> Graph:
    """The training program up to its loss; without one, up to its outputs."""
    graph = program.training_graph
    names = program.outputs if program.plan is None else ("loss",)
    return eliminate_dead(replace(graph, outputs=tuple(o for o in graph.outputs if o.name in names)))


def augmented(
    program: Program, data: Mapping[str, Array], settings: Mapping[str, float], batch: int, seed: int
) -> Mapping[str, Array]:
    """The inputs and targets as training sees them."""
    graph = program.augmentation
    if graph is None:
        return data
    numbers = {SAMPLE_NUMBERS: np.arange(batch), EPOCH_NUMBER: np.array(0)}
    inputs = inputs_at(graph, {**data, **numbers}, seed, settings)
    return {**data, **evaluate(graph, inputs, batch)}


def _first_line(graph: Graph) -> Span | None:
    """The line of the user's text from which a layer comes."""
    origins = [origin for node in graph.nodes if (origin := parts.origin_of(node)) is not None]
    return origins[0].user_span if origins else None


def _finding(part: parts.Subgraph, worst: Element) -> Diagnostic:
    ours, measured = worst.comparison.ours, worst.comparison.measured
    numbers = f"{ours:.6g}, and differences give {measured:.6g}"
    at = f"[{', '.join(map(str, worst.place))}]" if worst.place else ""
    rule = part.rule
    if rule is not None and isinstance(rule.op, CustomGradient):
        # which tensor parameter of a function with its own gradient an input of the part is
        position = [parts.name_of(operand) for operand in rule.operands].index(worst.name)
        parameter = rule.op.rule.inputs[position].name
        clause = rule.origins[0]
        span = _place_in_clause(rule.op.rule, position) or clause.span
        notes = [Note("of the function that is called here", call) for call in clause.calls[-1:]]
        message = f"the `gradient` of `{parameter}` is wrong: at {parameter}{at} the clause gives {numbers}"
        return Diagnostic(WRONG_GRADIENT, message, span, tuple(notes), "warning")
    names = " and ".join(dict.fromkeys(node.op.name for node in part.nodes))
    message = f"the derivative of this line (`{names}`) is wrong: at {at or 'its operand'} we have {numbers}"
    return Diagnostic(WRONG_GRADIENT, message, _line(part), (), "warning")


def _place_in_clause(rule: Graph, position: int) -> Span | None:
    """The line of the clause that gives the cotangent of that parameter."""
    result = next((o.value for o in rule.outputs if o.name == f"d{position}"), None)
    node = next((n for n in rule.nodes if result is not None and result in n.results), None)
    origin = None if node is None else parts.origin_of(node)
    return None if origin is None else origin.span


def _line(part: parts.Subgraph) -> Span:
    origins = [origin for node in reversed(part.nodes) if (origin := parts.origin_of(node)) is not None]
    return origins[0].user_span


def _without_line(check: LayerCheck, graph: Graph) -> Diagnostic:
    what = "of the whole program" if check.path is None else f"of `{check.path}`" if check.path else "outside of layers"
    message = f"the derivatives {what} differ from differences by {check.error:.2g} of their size"
    place = _first_line(graph)
    assert place is not None
    return Diagnostic(WRONG_GRADIENT, message, place, (), "warning")
