"""The first NaN or infinity of a step: its line, direction, element and operands.

The step is evaluated by the reference target, node by node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TypeAlias

import numpy as np

from compiler.diagnosis.parts import every_value, origin_of
from compiler.diagnosis.reports import NonfiniteReport, Site
from compiler.errors.diagnostics import Span
from compiler.evaluate import evaluate_node, inputs_of
from compiler.frontend.axes import NamedAxes
from compiler.frontend.program import Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphInput, Node, Origin, Role, Value, needed_by
from compiler.graph.op import Category
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.graph_passes.rewrite import Rewriting
from compiler.interface import Array, Options, Steps
from compiler.ops.movement import Concat, Slice
from compiler.ops.scan import Scan
from compiler.ops.spreading import Reshape
from compiler.programs.batched_executable import divided, inputs_of_rows
from compiler.programs.kinds import GraphKind, with_products
from compiler.programs.load import complete
from compiler.programs.stages import graph_of, prepared
from compiler.support.record import record
from compiler.types import BatchExtent, DType, Shape, TensorType

UNKNOWN_ROW = -1
"""A row of a step that takes several batches: the place in its batch is all that is told."""


def explain_step(program: Program, kind: GraphKind, options: Options, step: Steps) -> NonfiniteReport | None:
    """Where a single step of training stops being finite, and from what.

    Its tensors are as before the step, and stay so. None where the reference finds all values finite.
    """
    program = complete(program)
    batches = 1 if program.plan is None else program.plan.batches
    if batches > 1:
        step = divided(step, inputs_of_rows(program), batches)
        step = replace(step, rows=np.full(len(step.rows), UNKNOWN_ROW))
    whole = graph_of(program, kind, options)
    options = with_products(program, kind, options)
    optimised = _evaluated(prepared(whole, replace(options, verify=False)), step)
    # As it is written, a step is easier to read; but rewriting may remove what is not finite.
    written = to_dtype(whole, DType.F64) if options.dtype == "f64" else whole
    plain = _evaluated(written, step)
    found = plain if plain.spoilt == optimised.spoilt else optimised
    return explain_nonfinite(found, DimensionNames(program))


def _evaluated(graph: Graph, step: Steps) -> Evaluated:
    return evaluated(graph, inputs_of(graph, step), [int(row) for row in step.rows])


def explain_nonfinite(step: Evaluated, names: DimensionNames) -> NonfiniteReport | None:
    """Where the values that are not finite come from; None if there are none.

    The first operation that makes a NaN of what is none is where it was born. What it made it of may be infinite; then
    the first operation that made this of finite numbers is the cause. A scan is taken apart and looked into.
    """
    if not step.spoilt:
        return None
    born, cause = _found(step)
    for part in (born, cause):
        if isinstance(part, Node) and isinstance(part.op, Scan):
            return explain_nonfinite(taken_apart(step, part), names)
    if born is None:
        return None
    because = None if cause is None else _site(step, names, cause)
    return NonfiniteReport(step.spoilt, _site(step, names, born), because)


def _found(step: Evaluated) -> tuple[Node | GraphInput | None, Node | GraphInput | None]:
    """Where a NaN was born, and the cause of it. Without a NaN, the first infinity is all there is to tell."""
    bad = [output.value for output in step.graph.outputs if not step.is_finite(output.value)]
    nodes, inputs = _upstream(step, bad)
    spoilt = next((entry for entry in inputs if step.has_nan(entry.value)), None)
    if spoilt is not None:
        return spoilt, None
    born = next((node for node in nodes if _makes_nan(step, node)), None)
    if born is None:
        return _cause(step, nodes, inputs), None
    return born, _cause(step, *_upstream(step, [o for o in born.operands if not step.is_finite(o)]))


def _upstream(step: Evaluated, values: Iterable[Value]) -> tuple[list[Node], list[GraphInput]]:
    """The nodes, in their order, and the inputs that `values` got what is not finite from."""

    def needs(node: Node) -> Iterator[Value]:
        return (operand for operand in node.operands if not step.is_finite(operand))

    nodes, wanted = needed_by(step.graph.nodes, (value.index for value in values), needs)
    return nodes, [entry for entry in step.graph.inputs if entry.value.index in wanted]


def _makes_nan(step: Evaluated, node: Node) -> bool:
    has_nan = any(step.has_nan(result) for result in node.results)
    return has_nan and not any(step.has_nan(operand) for operand in node.operands)


def _cause(step: Evaluated, nodes: Sequence[Node], inputs: Sequence[GraphInput]) -> Node | GraphInput | None:
    """The first node that makes infinity of finite numbers; a constant that is infinite is meant to be."""
    made = (node for node in nodes if node.operands and all(map(step.is_finite, node.operands)))
    return next(made, inputs[0] if inputs else None)


def _site(step: Evaluated, names: DimensionNames, part: Node | GraphInput) -> Site:
    return _site_of_node(step, names, part) if isinstance(part, Node) else _site_of_input(step, names, part)


def _site_of_node(step: Evaluated, names: DimensionNames, node: Node) -> Site:
    result = next(r for r in node.results if not step.is_finite(r))
    place = _first_bad(step.values[result.index])
    origin = origin_of(node)
    return Site(
        node.op.name,
        None if origin is None else origin.user_span,
        "" if origin is None else origin.path,
        "" if origin is None else origin.direction.value,
        _shown_place(result.type, names.of(node.origins, result), place, step.rows),
        float(step.values[result.index][place]),
        tuple(_operand(step, node, result, place, operand) for operand in node.operands),
        tuple(f"{names.of_steps(s.scan) or 'step'} {s.place}" for s in step.steps.get(result.index, ())),
    )


def _site_of_input(step: Evaluated, names: DimensionNames, entry: GraphInput) -> Site:
    array = step.values[entry.value.index]
    place = _first_bad(array)
    kind = "input" if entry.role is Role.DATA else entry.role.value.replace("_", " ")
    where = _shown_place(entry.value.type, names.of_input(entry.name, entry.value), place, step.rows)
    return Site(f"{kind} {entry.name}", None, "", "", where, float(array[place]), ())


def _first_bad(array: Array) -> tuple[int, ...]:
    """The first NaN, or the first infinity where there is no NaN."""
    found = np.isnan(array) if np.isnan(array).any() else ~np.isfinite(array)
    return tuple(int(axis[0]) for axis in np.nonzero(found)) if array.ndim else ()


def _shown_place(type_: TensorType, names: Names, place: tuple[int, ...], rows: Sequence[int]) -> str:
    """`[batch 3 (row 17 of the data), time 5, 2]`: an index without a name in the text is a number alone."""
    shown: list[str] = []
    for extent, name, position in zip(type_.shape, names, place, strict=True):
        if isinstance(extent, BatchExtent):
            row = rows[position // extent.multiple]
            told = "" if row == UNKNOWN_ROW else f" (row {row} of the data)"
            shown.append(f"batch {position}{told}")
        else:
            shown.append(f"{name} {position}".strip())
    return f"[{', '.join(shown)}]" if shown else ""


def _operand(step: Evaluated, node: Node, result: Value, place: tuple[int, ...], operand: Value) -> str:
    """The operand's element at the same place, where there is one; else a summary of the whole operand."""
    array = step.values[operand.index]
    if node.op.category is Category.ELEMENTWISE and operand.type.shape == result.type.shape:
        return f"{array[place]:.6g}"
    if array.ndim == 0:
        return f"{array[()]:.6g}"
    numbers = array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    others = numbers.size - finite.size
    span = f"from {finite.min():.4g} to {finite.max():.4g}" if finite.size else "nothing finite"
    return f"{operand.type} ({span}{f', {others} not finite' if others else ''})"


@record
class ScanStep:
    """A step of a scan, by its place along the scanned axis."""

    scan: Node
    place: int


@record
class Evaluated:
    """A graph with the content of each of its values. `rows` are those of the data that its batch is made of.

    `steps` says in which steps of scans, the outermost first, a value was made that is one of a scan's body.
    """

    graph: Graph
    values: Mapping[int, Array]
    rows: Sequence[int]
    steps: Mapping[int, tuple[ScanStep, ...]] = field(default_factory=dict[int, tuple[ScanStep, ...]])

    @property
    def spoilt(self) -> tuple[str, ...]:
        """The outputs that are not finite."""
        return tuple(o.name for o in self.graph.outputs if not self.is_finite(o.value))

    def is_finite(self, value: Value) -> bool:
        array = self.values[value.index]
        return array.dtype.kind != "f" or bool(np.isfinite(array).all())

    def has_nan(self, value: Value) -> bool:
        array = self.values[value.index]
        return array.dtype.kind == "f" and bool(np.isnan(array).any())


def evaluated(graph: Graph, inputs: Mapping[str, Array], rows: Sequence[int]) -> Evaluated:
    return Evaluated(graph, every_value(graph, inputs, len(rows)), rows)


def taken_apart(step: Evaluated, scan: Node) -> Evaluated:
    """The same with the steps of a scan one after the other, in place of it."""
    rewriting = Rewriting(step.graph)
    steps = dict(step.steps)
    for node in step.graph.nodes:
        current = rewriting.current(node)
        if node.results == scan.results:
            rewriting.replace(node, _unrolled(rewriting.builder, current, steps))
        else:
            rewriting.keep(current)
    graph = rewriting.finish()
    values = dict(step.values)
    for node in graph.nodes:
        if node.results[0].index not in values:
            results = evaluate_node(node, [values[operand.index] for operand in node.operands], len(step.rows))
            values.update((value.index, array) for value, array in zip(node.results, results, strict=True))
    return replace(step, graph=graph, values=values, steps=steps)


def _unrolled(builder: GraphBuilder, node: Node, steps: dict[int, tuple[ScanStep, ...]]) -> list[Value]:
    """The results of a scan from all its steps, which are noted in `steps`."""
    op = node.op
    assert isinstance(op, Scan)
    stacks, captures = node.operands[: op.scanned], node.operands[op.scanned + op.carries :]
    carries = list(node.operands[op.scanned : op.scanned + op.carries])
    around = steps.get(node.results[0].index, ())
    emitted: list[list[Value]] = []
    for place in op.places():
        first = len(builder.nodes)
        elements = [_element(builder, stack, place) for stack in stacks]
        body = op.body_at(place)
        found = builder.inline(body, (*elements, *carries, *captures))
        results = [found[output.name] for output in body.outputs]
        made = (result.index for new in builder.nodes[first:] for result in new.results)
        steps.update(dict.fromkeys(made, (*around, ScanStep(node, place))))
        carries, rest = results[: op.carries], results[op.carries :]
        emitted.append(rest)
    if op.reverse:
        emitted.reverse()
    with builder.at(node.origins):
        return [*carries, *(_stacked(builder, column) for column in zip(*emitted, strict=True))]


def _element(builder: GraphBuilder, stack: Value, place: int) -> Value:
    _, *rest = stack.type.shape
    zeros, ones = (0,) * len(rest), (1,) * len(rest)
    cut = builder.emit(Slice((place, *zeros), (1, *rest), (1, *ones)), stack)
    return builder.emit(Reshape(tuple(rest)), cut)


def _stacked(builder: GraphBuilder, column: Sequence[Value]) -> Value:
    return builder.emit(Concat(0), *(builder.emit(Reshape((1, *value.type.shape)), value) for value in column))


Names: TypeAlias = tuple[str, ...]
_Place: TypeAlias = tuple[Span, tuple[Span, ...]]


class DimensionNames:
    """The names that the text has for the dimensions of values, found by the line and the shape of a value.

    Values of a step that is derived from a program, backward ones among them, know the lines that they come from, and
    what the text calls the dimensions of that line's own values. The program is complete; an axis without a name, or
    with one of several, is called ``.
    """

    def __init__(self, program: Program) -> None:
        self._named: dict[tuple[_Place, Shape], Names] = {}
        self._steps: dict[_Place, str] = {}
        self._inputs = {spec.name: tuple(name or "" for name in spec.dimension_names) for spec in program.inputs}
        axes = program.axes
        if axes is None:
            return
        made, read = _Table(axes), _Table(axes)
        for node in _every_node(program.training_graph.nodes):
            for origin in node.origins:
                place = _place(origin)
                made.add(place, node.results)
                read.add(place, node.operands)
                if isinstance(node.op, Scan) and node.op.scanned:
                    self._steps.setdefault(place, axes.names(node.operands[0])[0])
        # Operands of a function have the names of its caller.
        self._named = {**read.named, **made.named}

    def of(self, origins: Sequence[Origin], value: Value) -> Names:
        """The names of the axes of a value that comes from these places."""
        found = [self._named[key] for o in origins if (key := (_place(o), value.type.shape)) in self._named]
        return found[0] if found else ("",) * value.type.rank

    def of_input(self, name: str, value: Value) -> Names:
        found = self._inputs.get(name, ())
        return found if len(found) == value.type.rank else ("",) * value.type.rank

    def of_steps(self, scan: Node) -> str:
        """The name of the axis over which a scan runs."""
        return next((self._steps[place] for o in scan.origins if (place := _place(o)) in self._steps), "")


class _Table:
    """The names of values by the lines that make them, or read them, and by their shapes."""

    def __init__(self, axes: NamedAxes) -> None:
        self._axes = axes
        self.named: dict[tuple[_Place, Shape], Names] = {}

    def add(self, place: _Place, values: Iterable[Value]) -> None:
        for value in values:
            names, key = self._axes.names(value), (place, value.type.shape)
            if any(names):
                self.named[key] = _agreed(self.named.get(key, names), names)


def _place(origin: Origin) -> _Place:
    return origin.span, origin.calls


def _every_node(nodes: Iterable[Node]) -> Iterator[Node]:
    """With those in the bodies of scans."""
    for node in nodes:
        yield node
        if isinstance(node.op, Scan):
            yield from _every_node(node.op.body.nodes)


def _agreed(one: Names, other: Names) -> Names:
    """The names of two values of one line and shape: a name that one of them lacks is that of the other."""
    return tuple(a if a == b or not b else b if not a else "" for a, b in zip(one, other, strict=True))
