"""The constant that all elements of a zone share, such as the scores of later keys under a causal mask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations

from compiler.causality.reach import Zone
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Op
from compiler.ops.elementwise import Add, And, Divide, Maximum, Minimum, Multiply, Or, Subtract, Where
from compiler.ops.movement import Broadcast
from compiler.ops.sources import BatchSize, RandomUniform
from compiler.support.arrays import Array, np
from compiler.types import numpy_dtype, static_elements

_LARGEST = 1 << 25  # elements of a value that is computed to look into its zones


class KnownValues:
    """The values of a graph that depend on no input, computed when they are asked for (for one row, where the batch
    is an axis)."""

    def __init__(self, graph: Graph) -> None:
        self._producers: dict[int, Node] = {}
        for node in graph.nodes:
            if isinstance(node.op, BatchSize | RandomUniform):
                continue
            if all(operand.index in self._producers for operand in node.operands):
                self._producers.update((result.index, node) for result in node.results)
        self._arrays: dict[int, Array] = {}
        self._constants: dict[tuple[int, Zone], float | None] = {}

    def __contains__(self, value: Value) -> bool:
        return value.index in self._producers

    def constant(self, value: Value, zone: Zone) -> float | None:
        """The number that all elements of a zone are, if they are all the same."""
        if value not in self or max(zone) >= value.type.rank:
            return None
        value, zone = self._unrepeated(value, zone)
        if (value.index, zone) not in self._constants:
            self._constants[value.index, zone] = self._found(value, zone)
        return self._constants[value.index, zone]

    def masked(self, value: Value) -> list[Zone]:
        """Zones of two axes of equal extents along which a known value may be a mask."""
        if value not in self:
            return []
        node, shape = self._producers[value.index], value.type.shape
        if isinstance(node.op, Broadcast):
            return [(node.op.axes[row], node.op.axes[key]) for row, key in self.masked(node.operands[0])]
        return [pair for pair in permutations(range(len(shape)), 2) if shape[pair[0]] == shape[pair[1]] != 1]

    def _unrepeated(self, value: Value, zone: Zone) -> tuple[Value, Zone]:
        """The value that another one repeats along further axes, and the same zone there; a number keeps the zone."""
        while isinstance(op := self._producers[value.index].op, Broadcast):
            (given,) = self._producers[value.index].operands
            places = [op.axes.index(axis) for axis in zone if axis in op.axes]
            if given.type.rank > 0 and (len(places) < 2 or 1 in (given.type.shape[place] for place in places)):
                break
            value, zone = given, (places[0], places[1]) if given.type.rank else zone
        return value, zone

    def _found(self, value: Value, zone: Zone) -> float | None:
        if static_elements(value.type.shape) > _LARGEST:
            return None
        if value.type.rank == 0:
            return float(self._array(value))
        row, key = zone
        array = np.moveaxis(self._array(value), (row, key), (-2, -1))
        rows, keys = (np.arange(array.shape[axis], dtype=np.int64) for axis in (-2, -1))
        after = keys > rows[:, None]
        found = array[..., after]
        return float(found.flat[0]) if found.size and (found == found.flat[0]).all() else None

    def _array(self, value: Value) -> Array:
        if value.index not in self._arrays:
            node = self._producers[value.index]
            with np.errstate(all="ignore"):
                found = node.op.evaluate([self._array(operand) for operand in node.operands], 1)
            self._arrays.update((result.index, array) for result, array in zip(node.results, found, strict=True))
        return self._arrays[value.index]


def zones_of(
    node: Node, zones: Sequence[Zone], given: Sequence[Mapping[Zone, float]], known: KnownValues
) -> dict[Zone, float]:
    """Of an elementwise node, the zones that have a constant; `given` are those of its operands."""
    found: dict[Zone, float] = {}
    for zone in zones:
        constants = [
            own[zone] if zone in own else known.constant(operand, zone)
            for operand, own in zip(node.operands, given, strict=True)
        ]
        number = _result(node, constants)
        if number is not None:
            found[zone] = number
    return found


def _result(node: Node, constants: Sequence[float | None]) -> float | None:
    """The result of an elementwise op on numbers of which some are unknown."""
    numbers = [number for number in constants if number is not None]
    if not numbers:
        return None
    if len(numbers) == len(constants):
        given = [np.array(n, numpy_dtype(o.type.dtype)) for n, o in zip(numbers, node.operands, strict=True)]
        with np.errstate(all="ignore"):
            (result,) = node.op.evaluate(given, 1)
        return None if math.isnan(result) else float(result)
    if isinstance(node.op, Where):
        condition, first, second = constants
        return (first if first == second else None) if condition is None else first if condition else second
    return _absorbed(node.op, constants)


def _absorbed(op: Op, constants: Sequence[float | None]) -> float | None:
    """The result that one known operand decides alone: 0 * x = 0, -inf - x = -inf (values x are finite)."""
    first, second = constants[0], constants[-1]
    either = {number for number in (first, second) if number is not None}
    match op:
        case Multiply() | And() if 0 in either:
            return 0.0
        case Or() if 1 in either:
            return 1.0
        case Divide() if first == 0:
            return 0.0
        case Add() | Subtract() if first is not None and math.isinf(first):
            return first
        case Add() if second is not None and math.isinf(second):
            return second
        case Subtract() if second is not None and math.isinf(second):
            return -second
        case Minimum() if -math.inf in either:
            return -math.inf
        case Maximum() if math.inf in either:
            return math.inf
        case _:
            return None
