"""A scalar function of arrays, whose gradient by the compiler's rules is compared with central differences in f64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from compiler.evaluate import evaluate
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.interface import Array
from compiler.ops.autodiff import gradients_of
from compiler.ops.build import filled
from compiler.ops.elementwise import Add, Multiply
from compiler.ops.spreading import Sum
from compiler.support.record import record

TOLERANCE = 1e-6
# With one of them the quotient is right, unless the gradient is wrong: after a long step it bends, after a short one
# it is all rounding.
_STEPS = (1e-5, 1e-4, 1e-6)
# A slope is compared with at least this part of all that is added up for the value.
_PART_OF_SIZE = 1e-3
_LEAST = 1e-300
# Where the slopes ahead and behind differ by more than this part, there is a kink: `max` of equals, `relu` at 0.
_BEND = 0.01
_FURTHER = 10  # times the step, where a kink bends as many times as much, and a curve by the square of that
_ROUNDING = 1e-14  # of a value, below which nothing says how it bends


@record
class SlopeComparison:
    """A slope by our rules, and by differences; `scale` is what an error is compared with at least.

    At a kink, every slope between those ahead and behind is right: `play` is how far from the mean of both that may be.
    """

    ours: float
    measured: float
    scale: float
    play: float = 0.0

    @property
    def error(self) -> float:
        """Relative; infinite where one of them is no number."""
        if not (np.isfinite(self.ours) and np.isfinite(self.measured)):
            return np.inf
        return max(abs(self.ours - self.measured) - self.play, 0.0) / max(
            abs(self.ours), abs(self.measured), self.scale, _LEAST
        )

    @property
    def is_right(self) -> bool:
        return self.error <= TOLERANCE


@record
class Element:
    """The derivative in one element of an input, given by the input's name and the element's place in it."""

    name: str
    place: tuple[int, ...]
    comparison: SlopeComparison


@record
class WeightedOutputs:
    """The sum of a graph's float outputs, each element with its weight.

    `weights` are by the name of the output, `slopes` by the name of the input: the gradient by our rules.
    """

    graph: Graph
    slopes: Mapping[str, Array]
    weights: Mapping[str, Array]
    point: Mapping[str, Array]
    batch: int

    @property
    def has_finite(self) -> bool:
        """Whether there is anything to compare."""
        return any(weight.any() for weight in self.weights.values())

    @property
    def is_finite(self) -> bool:
        return all(weight.all() for weight in self.weights.values())

    def along(self, random: np.random.Generator) -> SlopeComparison:
        """The derivative along one random direction of all inputs that have a slope."""
        directions = {name: _direction(slope.shape, random) for name, slope in self.slopes.items()}
        ours = sum(float((self.slopes[name] * direction).sum()) for name, direction in directions.items())
        return self._compared(ours, directions)

    def elements(self, limit: int | None, random: np.random.Generator) -> Iterator[Element]:
        """The elements of those inputs; of one that has more than `limit`, so many by chance."""
        for name, slope in self.slopes.items():
            shape = slope.shape
            size = int(np.prod(shape, dtype=np.int64))
            chosen = range(size) if limit is None or size <= limit else random.choice(size, limit, replace=False)
            for position in chosen:
                place = tuple(int(p) for p in np.unravel_index(int(position), shape)) if shape else ()
                direction = np.zeros(shape)
                direction[place] = 1.0
                yield Element(name, place, self._compared(float(slope[place]), {name: direction}))

    def _compared(self, ours: float, directions: Mapping[str, Array]) -> SlopeComparison:
        found: list[SlopeComparison] = []
        for step in _STEPS:
            ahead, behind = self._at(directions, step), self._at(directions, -step)
            change = sum(_weighed(ahead[n] - behind[n], w) for n, w in self.weights.items())
            size = sum(_weighed(np.abs(ahead[n]), np.abs(w)) for n, w in self.weights.items())
            found.append(SlopeComparison(ours, change / (2 * step), _PART_OF_SIZE * size))
            if found[-1].is_right:
                break
        best = min(found, key=lambda comparison: comparison.error)
        return best if best.is_right else replace(found[-1], play=self._play(directions, _STEPS[-1]))

    def _play(self, directions: Mapping[str, Array], step: float) -> float:
        """Half of the difference between the slopes ahead and behind, of the elements where there is a kink."""
        ahead, here, behind = (self._at(directions, s) for s in (step, 0.0, -step))
        further_ahead, further_behind = (self._at(directions, s) for s in (_FURTHER * step, -_FURTHER * step))
        play = 0.0
        for name, weight in self.weights.items():
            after, before = ahead[name] - here[name], here[name] - behind[name]
            bend = np.abs(after - before)
            further = np.abs(further_ahead[name] - 2 * here[name] + further_behind[name])
            # A smooth bend shrinks with the square of the step; in a sum of many, a kink is a small part.
            is_kink = (bend > further / (2 * _FURTHER)) & (bend > _ROUNDING * np.abs(here[name]))
            is_kink |= bend > _BEND * (np.abs(after) + np.abs(before))
            play += _weighed(np.where(is_kink, bend, 0.0), np.abs(weight)) / (2 * step)
        return play

    def _at(self, directions: Mapping[str, Array], step: float) -> Mapping[str, Array]:
        moved = {name: self.point[name] + step * direction for name, direction in directions.items()}
        return evaluate(self.graph, {**self.point, **moved}, self.batch)


def function_of(
    graph: Graph, point: Mapping[str, Array], batch: int, random: np.random.Generator, wanted: Sequence[str]
) -> WeightedOutputs:
    """A graph of f64 with random weights of its outputs, as a function of the float inputs called `wanted`.

    What is not finite has the weight 0: it has no derivative to compare.
    """
    here = evaluate(graph, point, batch)
    outputs = [output.name for output in graph.outputs if output.value.type.dtype.is_float]
    weights: dict[str, Array] = {}
    for name in outputs:
        shape: tuple[int, ...] = here[name].shape
        weights[name] = random.normal(size=shape) * np.isfinite(here[name])
    weighed = {_weight(name): weight for name, weight in weights.items()}
    slopes = evaluate(gradient_graph(graph, wanted), {**point, **weighed}, batch)
    return WeightedOutputs(graph, slopes, weights, point, batch)


def gradient_graph(graph: Graph, wanted: Sequence[str]) -> Graph:
    """The slopes of the weighed sum of a graph's float outputs, by the names of the inputs `wanted`.

    It takes a weight for each of those outputs, of the output's type.
    """
    builder = GraphBuilder(f"gradient of {graph.name}")
    inputs = {i.name: builder.input(i.name, i.role, i.value.type) for i in graph.inputs}
    results = builder.inline(graph, list(inputs.values()))
    total: Value | None = None
    for name, result in results.items():
        if result.type.dtype.is_float:
            weight = builder.input(_weight(name), Role.DATA, result.type)
            product = builder.emit(Multiply(), result, weight)
            part = builder.emit(Sum(tuple(range(result.type.rank))), product)
            total = part if total is None else builder.emit(Add(), total, part)
    found = [None] * len(wanted)
    if total is not None:
        found = gradients_of(builder, tuple(builder.nodes), total, [inputs[name] for name in wanted])
    for name, slope in zip(wanted, found, strict=True):
        builder.output(name, Role.OUTPUT, filled(builder, 0.0, inputs[name].type) if slope is None else slope)
    return eliminate_dead(builder.build())


def _weighed(values: Array, weights: Array) -> float:
    return float((values * weights).sum(where=weights != 0))


def _weight(output: str) -> str:
    return f"weight of {output}"


def _direction(shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """A direction of length 1, so that a step moves each tensor by a small part."""
    direction = np.asarray(random.normal(size=shape))
    return direction / max(float(np.sqrt((direction**2).sum())), _LEAST)
