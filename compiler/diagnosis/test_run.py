"""The tests of a file: their claims evaluated, one error for each that does not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from compiler.diagnosis.differences import Element, WeightedOutputs, function_of
from compiler.diagnosis.parts import dependent_values, every_value, name_of, with_inputs, without_stops
from compiler.diagnosis.reports import TestResult
from compiler.errors.diagnostics import Diagnostic, Note, Span
from compiler.evaluate import evaluate, first_value, inputs_at
from compiler.frontend import test_blocks
from compiler.frontend.elaborate import elaborate_tests
from compiler.frontend.trace import GradientsAgree, Holds, IsCausal, Side, TestProgram
from compiler.graph.ir import Graph, Role, Value
from compiler.graph_passes.convert_dtype import unrounded
from compiler.interface import Array, Options
from compiler.pipeline import prepare_for_gradients
from compiler.programs.executables import executable
from compiler.support.cache import default_folder
from compiler.syntax.modules import load_modules

FAILED = "E1001"
_CUTS = 32  # places of a causal axis behind which everything is changed
_ELEMENTS = 1000  # more elements than these are compared by chance
_SAME = 1e-9

GraphEvaluator = Callable[[Graph, Mapping[str, Array]], Mapping[str, Array]]


def failures_of(test: TestProgram, seed: int, evaluation: GraphEvaluator | None = None) -> tuple[Diagnostic, ...]:
    """The claims of a test that do not hold, for parameters that start by `seed`.

    `evaluation` computes the values of a graph; by default the reference does. Gradients and dependence are always
    judged by the reference, in f64.
    """
    return tuple(_Run(test, seed, evaluation or partial(evaluate, batch=1)).failures())


class _Run:
    def __init__(self, test: TestProgram, seed: int, evaluation: GraphEvaluator) -> None:
        self._test, self._seed = test, seed
        self._random = np.random.default_rng(seed)
        self._results = evaluation(test.graph, self._inputs(test.graph))
        self._exact: tuple[Graph, dict[int, Array]] | None = None

    def failures(self) -> Iterator[Diagnostic]:
        for claim in self._test.claims:
            match claim:
                case Holds():
                    found = self._false(claim)
                case GradientsAgree():
                    found = self._disagreement(claim)
                case IsCausal():
                    found = self._dependence(claim)
            if found is not None:
                yield found

    def _inputs(self, graph: Graph) -> dict[str, Array]:
        tensors = {spec.path: first_value(spec.initializer, self._seed) for spec in self._test.parameters}
        return inputs_at(graph, tensors, self._seed)

    # Values

    def _false(self, claim: Holds) -> Diagnostic | None:
        if isinstance(claim.value, bool):
            is_false = np.array(not claim.value)
        else:
            is_false = ~self._results[test_blocks.name_of(claim.value)]
        if not is_false.any():
            return None
        place = tuple(int(axis[0]) for axis in np.nonzero(is_false)) if is_false.ndim else ()
        message = "this does not hold"
        if is_false.ndim:
            count, size = int(is_false.sum()), is_false.size
            share = f"the only such element of {size}" if count == 1 else f"one of {count} such elements of {size}"
            message += f" at {_shown_place(place)}, {share}"
        return _failure(message, claim.span, *(self._operand(side, place) for side in claim.sides))

    def _operand(self, side: Side, place: tuple[int, ...]) -> Note:
        if isinstance(side.value, str):
            return Note(f"`{side.text}` is {side.value}")
        array = self._results[test_blocks.name_of(side.value)]
        # an operand of fewer axes is repeated along the others
        own = place[len(place) - array.ndim :]
        own = tuple(0 if extent == 1 else position for extent, position in zip(array.shape, own, strict=True))
        return Note(f"`{side.text}`{'' if not own else ' there'} is {array[own]!s}")

    # Gradients and dependence, in f64

    def _in_f64(self) -> tuple[Graph, dict[int, Array]]:
        if self._exact is None:
            graph = unrounded(self._test.graph)
            self._exact = graph, every_value(graph, self._inputs(graph), 1)
        return self._exact

    def _between(self, by: Value, of: Value) -> tuple[Graph, Value, dict[str, Array]] | None:
        """The graph from one value of the test to another, the first one in it, and what all its inputs hold."""
        graph, values = self._in_f64()
        end = graph.output(test_blocks.name_of(of))
        start = graph.output(test_blocks.name_of(by)).value
        if start in (entry.value for entry in graph.inputs):
            return None
        cut = with_inputs(Graph(graph.name, graph.inputs, graph.nodes, (end,)), [start])
        if end.value.index not in dependent_values(cut, [name_of(start)]):
            return None
        whole, _ = without_stops(cut)
        point = {entry.name: values[entry.value.index] for entry in whole.inputs}
        # Only then: where the first value is a constant, what is made of it would be one, too.
        return prepare_for_gradients(whole), start, point

    def _disagreement(self, claim: GradientsAgree) -> Diagnostic | None:
        found = self._between(claim.by, claim.of)
        if found is None:
            return _failure("nothing flows from the second value to the first, so there is no gradient", claim.span)
        graph, start, point = found
        function = function_of(graph, point, 1, self._random, [name_of(start)])
        worst = _worst(function, self._random)
        if worst is None:
            return None
        ours, measured = worst.comparison.ours, worst.comparison.measured
        message = (
            f"the gradient is wrong at {_shown_place(worst.place)}: we have {ours:.6g}, and differences give "
            f"{measured:.6g}"
        )
        return _failure(message, claim.span)

    def _dependence(self, claim: IsCausal) -> Diagnostic | None:
        found = self._between(claim.by, claim.of)
        if found is None:
            return _failure("the first value does not depend on the second at all", claim.span)
        graph, start, point = found
        output = graph.outputs[0]
        given = point[name_of(start)]
        here = evaluate(graph, point, 1)[output.name]
        length = given.shape[claim.axis_by]
        for last in _cuts(length):
            changed = _changed_behind(given, claim.axis_by, last, self._random)
            there = evaluate(graph, {**point, name_of(start): changed}, 1)[output.name]
            place = _first_difference(here, there, claim.axis_of, last)
            if place is not None:
                time = place[claim.axis_of]
                message = f"position {time} of axis {claim.axis_of} depends on positions behind {last}"
                values = f"{here[place]:.6g} becomes {there[place]:.6g}"
                note = Note(f"at {_shown_place(place)} {values} where everything behind {last} is changed")
                return _failure(message, claim.span, note)
        return None


def _worst(function: WeightedOutputs, random: np.random.Generator) -> Element | None:
    wrong = [e for e in function.elements(_ELEMENTS, random) if not e.comparison.is_right]
    return max(wrong, key=lambda element: element.comparison.error, default=None)


def _cuts(length: int) -> list[int]:
    """Places of an axis, the last one left out."""
    every = range(length - 1)
    return list(every) if len(every) <= _CUTS else [int(p) for p in np.linspace(0, length - 2, _CUTS)]


def _changed_behind(array: Array, axis: int, last: int, random: np.random.Generator) -> Array:
    """Other values behind place `last` of an axis; integers stay in the range of those that are there."""
    other: Array
    shape: tuple[int, ...] = array.shape
    if array.dtype.kind == "f":
        other = array + random.normal(size=shape)
    elif array.dtype.kind == "b":
        other = ~array
    else:
        low, high = int(array.min()), int(array.max())
        other = random.integers(low, max(high, low + 1) + 1, shape).astype(array.dtype)
    return np.where(_up_to(array, axis, last), array, other)


def _first_difference(here: Array, there: Array, axis: int, last: int) -> tuple[int, ...] | None:
    differs = _up_to(here, axis, last) & ~np.isclose(here, there, _SAME, _SAME, equal_nan=True)
    if not differs.any():
        return None
    return tuple(int(places[0]) for places in np.nonzero(differs))


def _up_to(array: Array, axis: int, last: int) -> Array:
    """Where an element of the array stands at no place of the axis behind `last`, in a form that broadcasts."""
    length = int(array.shape[axis])
    kept = np.arange(length) <= last
    return kept.reshape([-1 if position == axis else 1 for position in range(array.ndim)])


def _shown_place(place: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, place))}]"


def _failure(message: str, span: Span, *notes: Note) -> Diagnostic:
    return Diagnostic(FAILED, message, span, notes)


def run_tests(
    path: Path, chosen: Callable[[str], bool], seed: int, options: Options, within: Path | None = None
) -> tuple[TestResult, ...]:
    """The tests of a file whose names are `chosen`, with values by the target of the options. Raises SourceError."""
    tests = elaborate_tests(load_modules(path, default_folder(), within))
    evaluation = None if options.target == "reference" else _by_native_code(options, seed)
    return tuple(
        TestResult(test.name, test.span, len(test.claims), failures_of(test, seed, evaluation))
        for test in tests
        if chosen(test.name)
    )


def _by_native_code(options: Options, seed: int) -> GraphEvaluator:
    def evaluation(graph: Graph, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        fed = tuple(replace(i, role=Role.DATA) if i.role in (Role.PARAMETER, Role.STATE) else i for i in graph.inputs)
        return executable(replace(graph, inputs=fed), options).call(dict(inputs), seed=seed)

    return evaluation
