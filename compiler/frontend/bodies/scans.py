"""`scan`: its body is elaborated once, cut out of the graph around it, and stands there as one node.

What it runs over, its axis and its settings are evaluated before.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.scan_values import chosen, cut_gradient, known, leaves, next_carry, rebuilt
from compiler.frontend.bodies.statements import run_block
from compiler.frontend.elaborator import Elaborator, ScanRecord
from compiler.frontend.failures import Poisoned
from compiler.frontend.tensors.numbers import decided
from compiler.frontend.tensors.operators import binary, invert, logic
from compiler.frontend.tensors.shapes import UNNAMED, origin_notes, resolve_axis, shown
from compiler.frontend.values import AxisName, TensorValue, TupleValue, Value, describe, is_number
from compiler.graph import ir
from compiler.graph.ir import Node
from compiler.ops.build import filled
from compiler.ops.control import StopGradient
from compiler.ops.movement import Transpose
from compiler.ops.scan import Scan, draws, scan_body
from compiler.ops.sources import Iota
from compiler.support.record import record
from compiler.syntax import tree
from compiler.types import BatchExtent, DType, TensorType


def evaluate_scan(elaborator: Elaborator, scan: tree.Scan) -> Value:
    """The stacks of emitted values, then the carries of the last step; a single one is no tuple."""
    steps = steps_of(elaborator, scan)
    starts = [_start(elaborator, carry) for carry in scan.carries]
    first, last = scan.span, scan.axis.span
    elaborator.span = head = Span(first.source, first.line, first.column, last.end_line, last.end_column)
    elaboration = _Elaboration(elaborator, scan, steps, starts)
    elaboration.run_body()
    elaborator.span = head
    items = elaboration.results()
    if not items:
        elaborator.fail("E0207", "this `scan` gives nothing", hint("`emit` a value in its body, or `carry` one"))
    return items[0] if len(items) == 1 else TupleValue(tuple(items))


def _start(elaborator: Elaborator, carry: tree.Carry) -> Value:
    value = known(elaborator, carry.initial)
    return rebuilt(value, iter(leaves(elaborator, value, f"the carry `{carry.name}`")))


@record
class _Carried:
    """One tensor that is handed from step to step: its start, its value in a step, and the value handed on."""

    start: ir.Value
    seen: ir.Value
    handed_on: ir.Value


class _Elaboration:
    """One scan on its way into the graph. The inputs of a step are values that no node defines."""

    def __init__(self, elaborator: Elaborator, scan: tree.Scan, steps: ScannedSteps, starts: Sequence[Value]) -> None:
        self.elaborator, self.scan, self.steps, self.starts = elaborator, scan, steps, starts
        self.level = len(elaborator.scans)
        self.record = ScanRecord(elaborator.frame)
        self.elements = [self._element(stack) for stack in steps.stacks]
        self.mask = None if steps.mask is None else self._element(steps.mask)
        self.goes_on = self.mask  # whether a step of a row counts
        self.cut = None if steps.cuts is None else self._element(steps.cuts)
        self.carried = [rebuilt(start, map(self._seen, leaves(elaborator, start, ""))) for start in starts]
        self.next: list[TensorValue] = []
        self.nodes: list[Node] = []
        self.own: dict[str, ir.Value] = {}  # states of the declaration around, as they are before the scan
        self.new_own: dict[str, ir.Value] = {}  # those that the body gives another value
        self.new_states: dict[str, ir.Value] = {}  # the same of layers inside

    def _element(self, stack: TensorValue) -> TensorValue:
        return TensorValue(self.elaborator.builder.value(TensorType(stack.dtype, stack.shape[1:])), stack.axes[1:])

    def _seen(self, start: TensorValue) -> TensorValue:
        return TensorValue(self.elaborator.builder.value(start.value.type), start.axes)

    # The body

    def run_body(self) -> None:
        elaborator, scan = self.elaborator, self.scan
        with self._inside():
            variables = elaborator.frame.variables
            for part in (*scan.inputs, *scan.carries):
                elaborator.frame.states.pop(part.name, None)
            seen = [cut_gradient(elaborator, self.cut, value) for value in self.carried]
            variables.update({carry.name: value for carry, value in zip(scan.carries, seen, strict=True)})
            if scan.until is not None:
                self.goes_on = self._not_done(scan.until)
                again = [self._or_start(old, start) for old, start in zip(seen, self.starts, strict=True)]
                variables.update({carry.name: value for carry, value in zip(scan.carries, again, strict=True)})
            variables.update({s.name: element for s, element in zip(scan.inputs, self.elements, strict=True)})
            if not run_block(elaborator, scan.body) or elaborator.frame.has_result:
                raise Poisoned  # a `return` in a body is told where names are checked
            for carry, old in zip(scan.carries, seen, strict=True):
                new = next_carry(elaborator, scan, carry, old, variables[carry.name])
                self.next += self._unless_masked(new, leaves(elaborator, old, ""))
            emitted = self.record.emitted
            self.record.emitted = self._unless_masked(emitted, [None] * len(emitted))

    def _not_done(self, until: tree.Expression) -> TensorValue:
        """Where the condition of the carries does not hold, and the step is not masked."""
        elaborator = self.elaborator
        first = len(elaborator.builder.nodes)
        done = known(elaborator, until)
        if not isinstance(done, TensorValue) or done.dtype is not DType.BOOL:
            found = shown(elaborator, done) if isinstance(done, TensorValue) else describe(done)
            elaborator.fail("E0416", f"`until` of a `scan` is a tensor of bool, not {found}")
        if any(map(draws, elaborator.builder.nodes[first:])):
            message = "`until` draws at random, so rows that are done would go on"
            elaborator.fail("E0419", message, hint("draw before the `scan`, or carry the number that the body draws"))
        goes_on = invert(elaborator, done)
        return goes_on if self.mask is None else logic(elaborator, "and", self.mask, goes_on)

    def _or_start(self, old: Value, start: Value) -> Value:
        """A carry as the body sees it: where a row is done it is that of the beginning, and its result is not used.

        So the body computes nothing that no step would, such as a root of what has become 0, but in rows that are done
        from the beginning.
        """
        elaborator = self.elaborator
        assert self.goes_on is not None
        constants = (
            TensorValue(elaborator.emit(StopGradient(), t.value), t.axes) for t in leaves(elaborator, start, "")
        )
        pairs = zip(leaves(elaborator, old, ""), constants, strict=True)
        return rebuilt(old, (chosen(elaborator, self.goes_on, *pair) for pair in pairs))

    @contextmanager
    def _inside(self) -> Generator[None]:
        """The body has names, states and nodes of its own."""
        elaborator, frame = self.elaborator, self.elaborator.frame
        outside = frame.variables, frame.states, frame.pending, frame.variable, elaborator.states
        frame.variables, frame.states, frame.pending = dict(frame.variables), dict(frame.states), {}
        elaborator.states = {}
        first = len(elaborator.builder.nodes)
        elaborator.scans.append(self.record)
        self.own = self._hide_own_states()
        try:
            yield
        finally:
            self.new_own, self.new_states = frame.pending, elaborator.states
            self.nodes = elaborator.builder.nodes[first:]
            del elaborator.builder.nodes[first:]
            elaborator.scans.pop()
            frame.variables, frame.states, frame.pending, frame.variable, elaborator.states = outside
            frame.result, frame.has_result = None, False

    def _hide_own_states(self) -> dict[str, ir.Value]:
        """States of the declaration around the scan are seen as the step before left them."""
        frame, found = self.elaborator.frame, dict[str, ir.Value]()
        if not frame.makes_instances:
            return found
        for name, path in frame.states.items():
            value = frame.variables[name]
            if isinstance(value, TensorValue):
                found[path] = value.value
                frame.variables[name] = TensorValue(self.elaborator.state(path), value.axes)
        return found

    def _unless_masked(self, tensors: Sequence[TensorValue], others: Sequence[TensorValue | None]) -> list[TensorValue]:
        if self.goes_on is None:
            return list(tensors)
        return [chosen(self.elaborator, self.goes_on, t, other) for t, other in zip(tensors, others, strict=True)]

    # The node

    def results(self) -> list[Value]:
        """Add the node: the stacks and the last carries as the text sees them. States get their last values."""
        elaborator, emitted = self.elaborator, self.record.emitted
        starts = [leaf for start in self.starts for leaf in leaves(elaborator, start, "")]
        seen = [leaf for value in self.carried for leaf in leaves(elaborator, value, "")]
        carried = [_Carried(*(t.value for t in three)) for three in zip(starts, seen, self.next, strict=True)]
        changed = (self.new_own | self.new_states).items()
        states = {path: _Carried(self._before(path), self.record.states[path], new) for path, new in changed}
        found = iter(self._emit([*carried, *states.values()], [tensor.value for tensor in emitted]))
        last = iter([TensorValue(next(found), tensor.axes) for tensor in self.next])
        for path in states:
            changed = elaborator.frame.pending if path in self.new_own else elaborator.states
            changed[path] = next(found)
        stacks = [self._stack(next(found), tensor) for tensor in emitted]
        return [*stacks, *(rebuilt(start, last) for start in self.starts)]

    def _before(self, path: str) -> ir.Value:
        """A state as the first step finds it."""
        return self.own[path] if path in self.own else self.elaborator.state(path)

    def _emit(self, carried: Sequence[_Carried], emitted: Sequence[ir.Value]) -> tuple[ir.Value, ...]:
        steps = self.steps
        if not steps.length:  # the carries stay as they begin, and stacks are empty
            stacks = (TensorType(value.type.dtype, (0, *value.type.shape)) for value in emitted)
            return (*(c.start for c in carried), *(filled(self.elaborator.builder, 0, type_) for type_ in stacks))
        moved = {c.seen.index for c in carried}
        # A state that no step changes is a capture.
        same = {v.index: self._before(path) for path, v in self.record.states.items() if v.index not in moved}
        nodes = [replace(n, operands=tuple(same.get(v.index, v) for v in n.operands)) for n in self.nodes]
        stacks = [stack for stack in (*steps.stacks, steps.mask, steps.cuts) if stack is not None]
        elements = [element.value for element in (*self.elements, self.mask, self.cut) if element is not None]
        if self.record.place is not None:
            places = self.elaborator.emit(Iota((steps.length,), 0, DType.I64))
            stacks.append(TensorValue(places, (steps.axis,)))
            elements.append(self.record.place)
        self.elaborator.axes.update((stack.value.index, stack.axes) for stack in stacks)
        inputs = [*elements, *(c.seen for c in carried)]
        outputs = [same.get(v.index, v) for v in (*(c.handed_on for c in carried), *emitted)]
        captures = _captures(inputs, nodes, outputs)
        body = scan_body((*inputs, *captures), nodes, outputs)
        until = self.scan.until is not None
        scan = Scan(body, len(stacks), len(carried), steps.length, steps.is_reversed, self.level, until)
        starts = (c.start for c in carried)
        return self.elaborator.emit_all(scan, *(stack.value for stack in stacks), *starts, *captures)

    def _stack(self, value: ir.Value, tensor: TensorValue) -> TensorValue:
        """A stack, whose first axis is that of the steps, with that axis where the input has it, or last."""
        rank, place = tensor.rank, self.steps.place
        place = min(place, rank) if place >= 0 else max(place + rank + 1, 0)
        axes = (*tensor.axes[:place], self.steps.axis, *tensor.axes[place:])
        if place:
            value = self.elaborator.emit(Transpose((*range(1, place + 1), 0, *range(place + 1, rank + 1))), value)
        return TensorValue(value, axes)


def _captures(inputs: Sequence[ir.Value], nodes: Sequence[Node], outputs: Sequence[ir.Value]) -> list[ir.Value]:
    """The values that a body captures from the graph around it, in the order of its nodes."""
    own = {value.index for value in inputs}
    found: dict[int, ir.Value] = {}
    for node in nodes:
        found.update((v.index, v) for v in node.operands if v.index not in own)
        own.update(result.index for result in node.results)
    found.update((v.index, v) for v in outputs if v.index not in own)
    return list(found.values())


@record
class ScannedSteps:
    """Tensors with the scanned axis first: the inputs, whether a step counts, and whether a gradient stops before it.

    `place` is where stacks of what is emitted have the scanned axis; a negative one counts from the end.
    """

    length: int
    place: int
    axis: Axis
    is_reversed: bool
    stacks: tuple[TensorValue, ...]
    mask: TensorValue | None
    cuts: TensorValue | None


def steps_of(elaborator: Elaborator, scan: tree.Scan) -> ScannedSteps:
    """Evaluate everything before the body but the carries."""
    values = [known(elaborator, scanned.value) for scanned in scan.inputs]
    axis = elaborator.evaluate_axis(scan.axis)
    lengths: list[int] = []
    stacks: list[TensorValue] = []
    place: int | None = None
    named = Axis(origin=scan.inputs[0].span)
    for scanned, value in zip(scan.inputs, values, strict=True):
        elaborator.span = scanned.value.span
        if isinstance(value, TensorValue):
            found = resolve_axis(elaborator, value, axis)
            if place is None:
                place, named = found, value.axes[found]
            value = _axis_first(elaborator, value, found)
        else:
            value = _positions(elaborator, value)
        lengths.append(_length(elaborator, scan, value, lengths))
        stacks.append(value)
    if place is None:
        place = _place_of_stacks(elaborator, scan, axis)
    options = {option.name: option for option in scan.options}
    is_reversed = _reversed(elaborator, options.get("reverse"))
    mask = _mask(elaborator, options.get("where"), axis, place, lengths[0])
    cuts = _cuts(elaborator, options.get("truncate"), lengths[0], is_reversed)
    return ScannedSteps(lengths[0], place, named, is_reversed, tuple(stacks), mask, cuts)


def _axis_first(elaborator: Elaborator, tensor: TensorValue, place: int) -> TensorValue:
    if isinstance(tensor.shape[place], BatchExtent):
        elaborator.fail(
            "E0419",
            f"a `scan` over the batch, of {shown(elaborator, tensor)}: the rows of a batch do not follow one another",
            hint("scan over another axis, of a length that is known when the program is elaborated"),
        )
    order = (place, *(i for i in range(tensor.rank) if i != place))
    value = tensor.value if place == 0 else elaborator.emit(Transpose(order), tensor.value)
    return TensorValue(value, tuple(tensor.axes[i] for i in order))


def _positions(elaborator: Elaborator, value: Value) -> TensorValue:
    if not isinstance(value, range):
        message = f"a `scan` runs over a tensor or a range, not {describe(value)}"
        elaborator.fail("E0312", message, hint("a `for` runs over a list"))
    positions = TensorValue(elaborator.emit(Iota((len(value),), 0, DType.I32)), (Axis(origin=elaborator.here),))
    return binary(elaborator, "+", positions, value.start) if value.start else positions


def _length(elaborator: Elaborator, scan: tree.Scan, stack: TensorValue, before: Sequence[int]) -> int:
    length = stack.shape[0]
    assert isinstance(length, int)
    if before and length != before[0]:
        names = [scanned.name for scanned in scan.inputs]
        elaborator.fail(
            "E0419",
            f"the inputs of this `scan` have different lengths: `{names[0]}` {before[0]}, `{names[len(before)]}` "
            f"{length}",
            Note(f"`{names[0]}` comes from here", scan.inputs[0].span),
            *origin_notes(elaborator, (length, stack.axes[0])),
        )
    return length


def _place_of_stacks(elaborator: Elaborator, scan: tree.Scan, axis: Value) -> int:
    """The axis of a scan over ranges alone, which no tensor has."""
    elaborator.span = scan.axis.span
    if isinstance(axis, AxisName) or not is_number(axis):
        message = "a range has no dimensions that could be named"
        elaborator.fail("E0406", message, hint("`over 1` says where the emitted tensors have the axis of the steps"))
    return int(decided(elaborator, axis))


def _reversed(elaborator: Elaborator, option: tree.Keyword | None) -> bool:
    value = False if option is None else known(elaborator, option.value)
    if not isinstance(value, bool):
        elaborator.fail("E0312", f"`reverse` is `true` or `false`, not {describe(value)}")
    return value


def _mask(
    elaborator: Elaborator, option: tree.Keyword | None, axis: Value, place: int, length: int
) -> TensorValue | None:
    value = None if option is None else known(elaborator, option.value)
    if value is None or value is True:
        return None
    if not isinstance(value, TensorValue):
        elaborator.fail("E0312", f"`where` of a `scan` is a tensor of bool, not {describe(value)}")
    if value.dtype is not DType.BOOL:
        elaborator.fail("E0416", f"`where` is a tensor of bool, not {shown(elaborator, value)}")
    wanted = axis if isinstance(axis, AxisName) else place
    found = 0 if value.rank == 1 else resolve_axis(elaborator, value, wanted)
    if value.shape[found] != length:
        elaborator.fail("E0419", f"this `scan` has {length} steps, and its mask is {shown(elaborator, value)}")
    return _axis_first(elaborator, value, found)


def _cuts(elaborator: Elaborator, option: tree.Keyword | None, length: int, is_reversed: bool) -> TensorValue | None:
    """For each step but the first, whether its number is a multiple of `truncate`."""
    value = None if option is None else known(elaborator, option.value)
    if value is None:
        return None
    number = decided(elaborator, value) if is_number(value) else 0
    if not isinstance(number, int) or number < 1:
        elaborator.fail("E0312", f"`truncate` is a whole number of steps from 1, not {describe(value)}")
    if number >= length:
        return None
    count = TensorValue(elaborator.emit(Iota((length,), 0, DType.I32)), (UNNAMED,))
    if is_reversed:
        count = binary(elaborator, "-", length - 1, count)
    is_multiple = binary(elaborator, "==", binary(elaborator, "%", count, number), 0)
    return logic(elaborator, "and", is_multiple, binary(elaborator, "!=", count, 0))
