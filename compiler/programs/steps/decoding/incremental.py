"""The graph of a whole window to a program of one position, which keeps the values of earlier positions.

A value that a position needs whole, such as the keys of attention, is a state: each step computes its own part of it
and writes it in place. A value that does not depend on the sequence, such as the result of an encoder, is computed
once, by the program that fills the states from a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.causality.reach import Breach, Reach
from compiler.causality.rules import carried_axes, gathered_axes, reaches_of
from compiler.errors.diagnostics import CompilerBug
from compiler.frontend.program import Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Role, Value, depending
from compiler.graph.op import Category
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.graph_passes.with_rows import with_rows
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Cast, Equal, Where
from compiler.ops.indexing import Gather, Put
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.rules import other_axes
from compiler.ops.scan import Scan, scan_body
from compiler.ops.sources import Constant, Iota
from compiler.programs.steps.decoding import window
from compiler.support.record import record
from compiler.types import BatchExtent, DType, Extent, Shape, TensorType

PARENTS = "parents"
"""An input of a step of beam search, i32[rows]: which sequence of the step before each one goes on."""


def prompt_graph(program: Program, rows: int) -> Graph:
    """The first token from a prompt, and the states after it. The feed is filled from the left up to `step`."""
    derived = _Derivation(program, rows)
    derived.run()
    return derived.prompt()


def position_graph(program: Program, rows: int) -> Graph:
    """The next token from the last one, `step` its position: inputs are the feed, [rows, 1], and the states."""
    derived = _Derivation(program, rows)
    return derived.run()


@record
class _State:
    """A tensor that lasts from step to step. `value` is its content, in the graph of a window.

    Of the carry of a scan, `value` is the stack of all steps' carries.
    """

    name: str
    value: Value
    type: TensorType


class _Derivation:
    """The step under construction, from the graph of a window."""

    def __init__(self, program: Program, rows: int) -> None:
        self.program, self.generation = program, window.generation_of(program)
        symbolic = window.scoring_graph(program)
        self.graph = with_rows(symbolic, rows)
        self.rows = rows
        self.batch_axes = _batch_axes(symbolic)
        self.reaches = reaches_of(symbolic, self.generation.feed, window.TIME)
        self.producers = {r.index: n for n in self.graph.nodes for r in n.results}
        self.inputs = {i.value.index: i for i in self.graph.inputs}
        self.fed = next(i.value for i in self.graph.inputs if i.name == self.generation.feed)
        self.of_data = self._of_data()
        self.builder = builder = GraphBuilder(f"{program.name} step")
        self.token = builder.input(self.generation.feed, Role.DATA, TensorType(self.fed.type.dtype, (rows, 1)))
        self.position = builder.input(window.STEP, Role.STEP, TensorType(DType.I64))
        self.place = builder.emit(Reshape((1,)), self.position)
        order = TensorType(DType.I32, (rows,))
        self.parents = None if self.generation.beam is None else builder.input(PARENTS, Role.DATA, order)
        self.states: list[_State] = []
        self.carried: dict[int, Node] = {}  # scans whose carries are states, by their first result
        self._whole: dict[int, Value] = {}
        self._made_again: dict[int, Value] = {}
        self._parts: dict[tuple[int, int], Value] = {}

    def run(self) -> Graph:
        builder, source = self.builder, self.graph.output(self.generation.source).value
        logits = window.flattened(builder, self.part(source, window.TIME))
        sampler = replace(self.generation, sampler=with_rows(self.generation.sampler, self.rows))
        window.add_sampler(builder, sampler, {window.STEP: self.position}, logits, lambda: self.whole(self.fed))
        return eliminate_dead(builder.build())

    def prompt(self) -> Graph:
        """All positions at once, as the window computes them; the contents of the states are its outputs."""
        builder = GraphBuilder(f"{self.program.name} prompt")
        values = window.inputs_of(builder, self.graph)
        stacked, known = self._with_stacks()
        found = builder.inline(stacked, [values[i.name] for i in stacked.inputs])
        for state in self.states:
            value = found[known[state.value.index]]
            if value.type != state.type:
                value = builder.emit(Gather(0), value, values[window.STEP])
            builder.input(state.name, Role.STATE, state.type)
            builder.output(state.name, Role.STATE, value, updates=state.name)
        sampler = replace(self.generation, sampler=with_rows(self.generation.sampler, self.rows))
        logits = window.at_position(builder, values, found[self.generation.source])
        window.add_sampler(builder, sampler, values, logits, lambda: values[self.generation.feed])
        return eliminate_dead(builder.build())

    def _with_stacks(self) -> tuple[Graph, Mapping[int, str]]:
        """The window's graph with the contents of states as further outputs, and their names by the value."""
        nodes = [self.carried.get(n.results[0].index, n) for n in self.graph.nodes]
        builder = GraphBuilder(self.graph.name)
        builder.outputs = list(self.graph.outputs)
        names = {state.value.index: f"state {k}" for k, state in enumerate(self.states)}
        for state in self.states:
            builder.output(names[state.value.index], Role.OUTPUT, state.value)
        return Graph(self.graph.name, self.graph.inputs, tuple(nodes), tuple(builder.outputs)), names

    def _of_data(self) -> frozenset[int]:
        """Values that depend on other inputs of a run than the sequence."""
        found = {i.value.index for i in self.graph.inputs if i.role is Role.DATA and i.value != self.fed}
        return frozenset(depending(self.graph.nodes, found))

    def reach(self, value: Value) -> Reach:
        found = self.reaches[value.index]
        if isinstance(found, Breach):
            raise CompilerBug("decoding", f"a value that is not causal is needed for `{self.generation.source}`")
        return found

    # Whole values

    def whole(self, value: Value) -> Value:
        """All of a value; of what depends on the sequence, the positions up to this one are right."""
        if value.index not in self._whole:
            self._whole[value.index] = self._all_of(value)
        return self._whole[value.index]

    def _all_of(self, value: Value) -> Value:
        reach = self.reach(value)
        if not reach.depends:
            return self._kept(value) if value.index in self.of_data else self.made_again(value)
        axis = next(iter(reach.offsets), None)
        # An axis shorter than the window, such as that of all tokens but the last, has no place for some position.
        is_long = axis is not None and value.type.shape[axis] == self.fed.type.shape[window.TIME]
        if len(reach.offsets) == 1 and axis is not None and is_long and self._is_part_known(value, axis):
            return self._extended(value, axis)
        return self.made_again(value)

    def _kept(self, value: Value) -> Value:
        """An input in place of a value that is the same for all positions of a sequence."""
        return self.builder.input(self._state(value, value.type), Role.STATE, value.type)

    def _state(self, value: Value, type_: TensorType) -> str:
        name = f"(state):{len(self.states)}"
        self.states.append(_State(name, value, type_))
        return name

    def _extended(self, value: Value, axis: int) -> Value:
        """A state with this position's part written into it."""
        part = self.part(value, axis)
        name = self._state(value, value.type)
        before = self._followed(value, self.builder.input(name, Role.STATE, value.type))
        after = self.builder.emit(Put(axis), before, part, self.position)
        self.builder.output(name, Role.STATE, after, updates=name)
        return after

    def _followed(self, value: Value, before: Value) -> Value:
        """A state in the order of the sequences that go on."""
        axis = self.batch_axes.get(value.index)
        if self.parents is None or axis is None:
            return before
        return self.builder.emit(Gather(axis), before, self.parents)

    def made_again(self, value: Value) -> Value:
        """Computed from whole operands."""
        if value.index in self.inputs:
            entry = self.inputs[value.index]
            if value == self.fed:
                raise CompilerBug("decoding", "the sequence itself is a state")
            return self.builder.input(entry.name, entry.role, value.type)
        if value.index not in self._made_again:
            node = self.producers[value.index]
            operands = [self.whole(operand) for operand in node.operands]
            with self.builder.at(node.origins):
                results = self.builder.emit_all(node.op, *operands)
            self._made_again.update((old.index, new) for old, new in zip(node.results, results, strict=True))
        return self._made_again[value.index]

    # Parts of values

    def part(self, value: Value, axis: int) -> Value:
        """The part of a value at this position along `axis`, whose extent becomes 1."""
        key = (value.index, axis)
        if key not in self._parts:
            self._parts[key] = self._part(value, axis)
        return self._parts[key]

    def _is_part_known(self, value: Value, axis: int) -> bool:
        """Whether the part can be computed without the rest."""
        if value.index in self.inputs:
            return value == self.fed and axis == window.TIME
        node = self.producers[value.index]
        if isinstance(node.op, Scan):
            return axis == 0 and axis in self.reach(value).offsets
        return is_sliceable(node, axis)

    def _part(self, value: Value, axis: int) -> Value:
        if value == self.fed and axis == window.TIME:
            return self.token
        if not self._is_part_known(value, axis):
            all_ = self.made_again(value) if self.reach(value).depends else self.whole(value)
            return self.builder.emit(Gather(axis), all_, self.place)
        node = self.producers[value.index]
        if isinstance(node.op, Scan):
            return self._step(node, node.op, value)
        operands = [
            self.whole(operand) if own is None else self.part(operand, own)
            for operand, own in zip(node.operands, operand_axes(node, axis), strict=True)
        ]
        with self.builder.at(node.origins):
            parts = sliced(self.builder, node, axis, operands, self.position)
        self._parts.update(((old.index, axis), new) for old, new in zip(node.results, parts, strict=True))
        return self._parts[value.index, axis]

    # Scans

    def _step(self, node: Node, scan: Scan, value: Value) -> Value:
        """One application of the body of a scan over the sequence, whose carries are states."""
        builder = self.builder
        xs = [self.part(operand, 0) for operand in node.operands[: scan.scanned]]
        xs = [builder.emit(Reshape(x.type.shape[1:]), x) for x in xs]
        starts = [self.whole(o) for o in node.operands[scan.scanned :][: scan.carries]]
        captures = [self.whole(o) for o in node.operands[scan.scanned + scan.carries :]]
        widened = _emitting_carries(node, scan)
        self.carried[node.results[0].index] = widened
        stacks = widened.results[len(node.results) :]
        is_first = builder.emit(Equal(), self.position, builder.emit(Constant(0, DType.I64)))
        names = [self._state(stack, start.type) for stack, start in zip(stacks, starts, strict=True)]
        carries: list[Value] = []
        for name, start, old in zip(names, starts, node.operands[scan.scanned :], strict=False):
            before = self._followed(old, builder.input(name, Role.STATE, start.type))
            condition = builder.emit(Broadcast(start.type.shape, ()), is_first)
            carries.append(builder.emit(Where(), condition, start, before))
        found = list(builder.inline(scan.body, [*xs, *carries, *captures]).values())
        for name, after in zip(names, found, strict=False):
            builder.output(name, Role.STATE, after, updates=name)
        for stack, emitted in zip(node.results[scan.carries :], found[scan.carries :], strict=True):
            self._parts[stack.index, 0] = builder.emit(Reshape((1, *emitted.type.shape)), emitted)
        return self._parts[value.index, 0]


def _emitting_carries(node: Node, scan: Scan) -> Node:
    """The scan with the stacks of its carries behind its results."""
    inputs = [i.value for i in scan.body.inputs]
    outputs = [o.value for o in scan.body.outputs]
    body = scan_body(inputs, scan.body.nodes, [*outputs, *outputs[: scan.carries]])
    op = replace(scan, body=body)
    indices = range(1 << 40, (1 << 40) + scan.carries)  # of no value of the graph
    first = min(r.index for r in node.results)
    added = tuple(
        Value(index + first * 1024, scan.stacked(value.type))
        for index, value in zip(indices, outputs[: scan.carries], strict=True)
    )
    return Node(op, node.operands, (*node.results, *added), node.origins)


def _batch_axes(graph: Graph) -> dict[int, int]:
    """The axis of each value that counts the rows of the batch."""
    values = [i.value for i in graph.inputs] + [r for n in graph.nodes for r in n.results]
    return {
        value.index: axis for value in values for axis, extent in enumerate(value.type.shape) if extent == BatchExtent()
    }


def is_sliceable(node: Node, axis: int) -> bool:
    """Whether the part of a result at one position along `axis` needs no more than parts of what has this axis."""
    op = node.op
    shape = node.operands[0].type.shape if node.operands else ()
    match op:
        case _ if op.category is Category.ELEMENTWISE:
            return True
        case Iota() | Transpose() | Broadcast() | Sum() | Max() | Min() | Moments() | ArgMax() | Contraction():
            return True
        case Reshape():
            return axis in carried_axes(shape, op.shape).values()
        case Slice():
            return op.starts[axis] == 0 and op.steps[axis] == 1
        case Pad():
            return op.low[axis] == op.high[axis] == 0
        case Concat():
            return op.axis != axis
        case CumulativeSum():
            return op.axis != axis
        case Reverse():
            return axis not in op.axes
        case Gather():
            return not (op.by_row and axis == 0)
        case _:
            return False


def operand_axes(node: Node, axis: int) -> list[int | None]:
    """The axis of each operand along which its part at the same position serves; None where it must be whole."""
    op = node.op
    shape = node.operands[0].type.shape if node.operands else ()
    match op:
        case _ if op.category is Category.ELEMENTWISE:
            return [axis] * len(node.operands)
        case Transpose():
            return [op.permutation[axis]]
        case Broadcast():
            own = op.axes.index(axis) if axis in op.axes else None
            return [own if own is not None and shape[own] == op.shape[axis] else None]
        case Reshape():
            return [next(a for a, place in carried_axes(shape, op.shape).items() if place == axis)]
        case Sum(axes=axes) | Max(axes=axes) | Min(axes=axes) | Moments(axes=axes):
            return [other_axes(len(shape), axes)[axis]]
        case ArgMax():
            return [other_axes(len(shape), (op.axis,))[axis]]
        case Contraction():
            label = op.out[axis]
            return [labels.index(label) if label in labels else None for labels in (op.lhs, op.rhs)]
        case Gather():
            maps = gathered_axes(op, *(operand.type.rank for operand in node.operands))
            return [next((a for a, place in own.items() if place == axis), None) for own in maps]
        case Iota():
            return []
        case _:
            return [axis] * len(node.operands)


def sliced(
    builder: GraphBuilder, node: Node, axis: int, operands: Sequence[Value], position: Value
) -> tuple[Value, ...]:
    """The parts of a node's results at `position` along `axis`, from those parts of its operands."""
    op = node.op
    match op:
        case Iota() if op.axis == axis:
            number = builder.emit(Cast(op.dtype), position)
            return (builder.emit(Broadcast(_single(op.shape, axis), ()), number),)
        case Iota() | Broadcast() | Reshape():
            return builder.emit_all(replace(op, shape=_single(op.shape, axis)), *operands)
        case Slice():
            return builder.emit_all(replace(op, sizes=_single(op.sizes, axis)), *operands)
        case _:
            return builder.emit_all(op, *operands)


def _single(shape: Shape, axis: int) -> tuple[Extent, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])
