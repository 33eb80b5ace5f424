"""`scan`: a body applied along an axis, each time to the carries of the step before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Role, Value, depending
from compiler.graph.op import Category, Cotangents, Op, TypeRuleError, Types
from compiler.ops import rules
from compiler.ops.autodiff import apply_chain_rule, gradient_of
from compiler.ops.build import filled
from compiler.ops.elementwise import Add, Cast, Negate, Subtract, Symbolic, Where
from compiler.ops.sources import RandomUniform
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import DType, TensorType, depends_on_batch

_STREAM_STEP = 0x9E3779B9  # odd: streams of different steps differ


@final
@record
class Scan(Op):
    """Operands: xs, carries, captures. Results: the carries after the last step, then stacks of what steps emit.

    `body` takes (an element of each x along its first axis, the carries, the captures) and gives (the next carries,
    what it emits). There are `length` steps, from the last element to the first where `reverse`; an emitted tensor
    stands in its stack where the x of its step stood. Scans inside a scan have a `level` of their own, so that the
    streams of random draws, which differ from step to step, differ from scan to scan too. Where rows are done `until` a
    condition held, the body sees values of them that no step would: their cotangents are 0 through infinite slopes.
    """

    body: Graph
    scanned: int
    carries: int
    length: int
    reverse: bool
    level: int
    until: bool = False
    name = "scan"
    category = Category.CONTROL

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        taken = [entry.value.type for entry in self.body.inputs]
        given = [entry.value.type for entry in self.body.outputs]
        if len(operands) != len(taken) or self.length < 0:
            raise TypeRuleError(f"this scan takes {len(taken)} tensors, but got {len(operands)}")
        for place, (operand, expected) in enumerate(zip(operands, taken, strict=True)):
            whole = self.stacked(expected) if place < self.scanned else expected
            if operand != whole:
                raise TypeRuleError(f"operand {place + 1} of a scan of {self.length} steps is {operand}, not {whole}")
        if taken[self.scanned : self.scanned + self.carries] != given[: self.carries]:
            raise TypeRuleError("a carry of a scan changes its type from step to step")
        return (*given[: self.carries], *map(self.stacked, given[self.carries :]))

    def stacked(self, type_: TensorType) -> TensorType:
        """The type of all steps' tensors of `type_`."""
        return TensorType(type_.dtype, (self.length, *type_.shape))

    @property
    def step_inputs(self) -> tuple[Value, ...]:
        return tuple(entry.value for entry in self.body.inputs[: self.scanned])

    @property
    def carried_inputs(self) -> tuple[Value, ...]:
        return tuple(entry.value for entry in self.body.inputs[self.scanned : self.scanned + self.carries])

    @property
    def captured_inputs(self) -> tuple[Value, ...]:
        return tuple(entry.value for entry in self.body.inputs[self.scanned + self.carries :])

    @property
    def next_carries(self) -> tuple[Value, ...]:
        return tuple(entry.value for entry in self.body.outputs[: self.carries])

    @property
    def emitted(self) -> tuple[Value, ...]:
        return tuple(entry.value for entry in self.body.outputs[self.carries :])

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        return _Backward(self, builder, node, cotangents).run()

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        xs = operands[: self.scanned]
        carries = tuple(operands[self.scanned : self.scanned + self.carries])
        captures = operands[self.scanned + self.carries :]
        emitted: list[tuple[Array, ...]] = []
        for place in self.places():
            found = _results(self.body_at(place), (*(x[place] for x in xs), *carries, *captures), batch)
            carries = found[: self.carries]
            emitted.append(found[self.carries :])
        if self.reverse:
            emitted.reverse()
        return (*carries, *(np.stack(column) for column in zip(*emitted, strict=True)))

    def body_at(self, place: int) -> Graph:
        """The body of the step at a place, with the random streams of that step."""
        is_drawn = any(map(draws, self.body.nodes)) if place else False
        return _shifted(self.body, place * self.stream_step) if is_drawn else self.body

    @property
    def stream_step(self) -> int:
        """By how much the random streams of the body differ from one place to the next."""
        return pow(_STREAM_STEP, self.level + 1, 2**32)

    def places(self) -> range:
        """The places along the scanned axis, in the order of the steps."""
        return range(self.length - 1, -1, -1) if self.reverse else range(self.length)


def scan_body(inputs: Sequence[Value], nodes: Sequence[Node], outputs: Sequence[Value]) -> Graph:
    """The graph of a body: its inputs and outputs are known by their order."""
    return Graph(
        "scan",
        tuple(GraphInput(f"x{k}", Role.DATA, value) for k, value in enumerate(inputs)),
        tuple(nodes),
        tuple(GraphOutput(f"y{k}", Role.OUTPUT, value) for k, value in enumerate(outputs)),
    )


def draws(node: Node) -> bool:
    """Whether a node draws random numbers, which differ from step to step of a scan."""
    return isinstance(node.op, RandomUniform) or (isinstance(node.op, Scan) and any(map(draws, node.op.body.nodes)))


def draws_for_rows(node: Node) -> bool:
    """Whether a node draws for each row of the batch."""
    if isinstance(node.op, Scan):
        return any(map(draws_for_rows, node.op.body.nodes))
    return isinstance(node.op, RandomUniform) and depends_on_batch(node.op.shape)


def _shifted(body: Graph, shift: int) -> Graph:
    def moved(op: Op) -> Op:
        if isinstance(op, RandomUniform):
            return replace(op, stream=(op.stream + shift) % 2**32)
        return replace(op, body=_shifted(op.body, shift)) if isinstance(op, Scan) else op

    return replace(body, nodes=tuple(Node(moved(n.op), n.operands, n.results, n.origins) for n in body.nodes))


def with_bodies(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes, and those in the bodies of scans before the scans."""
    for node in nodes:
        if isinstance(node.op, Scan):
            yield from with_bodies(node.op.body.nodes)
        yield node


def _results(body: Graph, inputs: Sequence[Array], batch: int) -> tuple[Array, ...]:
    """The outputs of one step, in order."""
    values = {entry.value.index: array for entry, array in zip(body.inputs, inputs, strict=True)}
    for node in body.nodes:
        arrays = node.op.evaluate([values[operand.index] for operand in node.operands], batch)
        for result, array in zip(node.results, arrays, strict=True):
            values[result.index] = rules.round_to_bf16(array) if result.type.dtype is DType.BF16 else array
    return tuple(values[output.value.index] for output in body.outputs)


_FINITE = (Add, Subtract, Negate, Where, Cast)  # their slopes are 0, 1 and -1


def _sparing(builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
    """As `gradient_of`, with 0 for 0 times a slope that is infinite or NaN.

    Only what is NaN is replaced, so that derivatives of the gradient are those of the product.
    """
    found = gradient_of(builder, node, cotangents)
    if node.op.category is not Category.ELEMENTWISE or isinstance(node.op, _FINITE) or cotangents[0] is None:
        return found
    given = Symbolic(builder, cotangents[0])
    is_zero = given.equals(0)

    def spared(cotangent: Value | None) -> Value | None:
        if cotangent is None:
            return None
        product = Symbolic(builder, cotangent)
        is_number = product.equals(product)
        return is_number.choose(product, is_zero.choose(given.zeros(), product)).value

    return tuple(map(spared, found))


class _Backward:
    """The gradient of a scan: a scan in the other direction, over stacks that a forward scan emits for it.

    The forward scan is made once more, with the values for the backward one among its stacks; a later pass finds that
    it computes everything that the first one does. Gradients of captures are carried as running sums.
    """

    def __init__(self, scan: Scan, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> None:
        self.scan, self.outer, self.node = scan, builder, node
        self.final, self.stacks = cotangents[: scan.carries], cotangents[scan.carries :]
        self.inner = GraphBuilder.continuing(scan.body)
        self.inner.inputs = []
        self.producers = {r.index: n for n in scan.body.nodes for r in n.results}

    def run(self) -> Cotangents:
        scan, inner = self.scan, self.inner
        float_carries = [k for k, value in enumerate(scan.carried_inputs) if value.type.dtype.is_float]
        known: dict[int, Value] = {}
        carried = {k: inner.value(scan.carried_inputs[k].type.of_slope) for k in float_carries}
        for k, cotangent in carried.items():
            self.add_known(known, scan.next_carries[k], cotangent)
        given = [(value, stack) for value, stack in zip(scan.emitted, self.stacks, strict=True) if stack is not None]
        emitted = [inner.value(value.type.of_slope) for value, _ in given]
        for (value, _), cotangent in zip(given, emitted, strict=True):
            self.add_known(known, value, cotangent)
        wanted = [v for v in self.inputs() if v.type.dtype.is_float]
        gradient = _sparing if scan.until else gradient_of
        found = apply_chain_rule(inner, scan.body.nodes, known, wanted, gradient)
        slopes = {value.index: slope for value, slope in zip(wanted, found, strict=True)}

        captured = [v for v in scan.captured_inputs if slopes.get(v.index) is not None]
        sums = [inner.value(v.type.of_slope) for v in captured]
        next_carries = [self.slope(slopes, scan.carried_inputs[k]) for k in float_carries]
        next_carries += [inner.emit(Add(), s, self.slope(slopes, v)) for s, v in zip(sums, captured, strict=True)]
        stepped = [v for v in scan.step_inputs if slopes.get(v.index) is not None]
        outputs = [*next_carries, *(self.slope(slopes, v) for v in stepped)]

        residuals, captures, nodes = self.needed(outputs, {v.index for v in (*carried.values(), *emitted, *sums)})
        xs = [*(stack for _, stack in given), *self.stacks_of(residuals)]
        starts = [self.start(self.final[k], scan.carried_inputs[k].type) for k in float_carries]
        starts += [filled(self.outer, 0, v.type.of_slope) for v in captured]
        operands = dict(zip((v.index for v in self.inputs()), self.node.operands, strict=True))
        body = scan_body((*emitted, *residuals, *carried.values(), *sums, *captures), nodes, outputs)
        op = Scan(body, len(xs), len(starts), scan.length, not scan.reverse, scan.level, scan.until)
        results = self.outer.emit_all(op, *xs, *starts, *(operands[v.index] for v in captures))
        of_input = dict(zip((v.index for v in stepped), results[len(starts) :], strict=True))
        of_input |= {scan.carried_inputs[k].index: r for k, r in zip(float_carries, results, strict=False)}
        of_input |= dict(zip((v.index for v in captured), results[len(float_carries) : len(starts)], strict=True))
        return tuple(of_input.get(value.index) for value in self.inputs())

    def inputs(self) -> tuple[Value, ...]:
        return tuple(entry.value for entry in self.scan.body.inputs)

    def add_known(self, known: dict[int, Value], value: Value, cotangent: Value) -> None:
        before = known.get(value.index)
        known[value.index] = cotangent if before is None else self.inner.emit(Add(), before, cotangent)

    def slope(self, slopes: dict[int, Value | None], value: Value) -> Value:
        found = slopes[value.index]
        return filled(self.inner, 0, value.type.of_slope) if found is None else found

    def start(self, cotangent: Value | None, type_: TensorType) -> Value:
        return filled(self.outer, 0, type_.of_slope) if cotangent is None else cotangent

    def needed(self, outputs: Sequence[Value], given: set[int]) -> tuple[list[Value], list[Value], list[Node]]:
        """Values of the forward body that the backward one takes from stacks, captures, and the backward nodes.

        What depends on nothing but captures, and what only moves elements, is made again.
        """
        own = {r.index: n for n in self.inner.nodes for r in n.results}
        captures = {v.index: v for v in self.scan.captured_inputs}
        varying = self.varying()
        residuals: dict[int, Value] = {}
        taken: dict[int, Value] = {}
        kept: dict[int, Node] = {}  # by the first result
        waiting = list(outputs)
        seen: set[int] = set()
        while waiting:
            value = waiting.pop()
            if value.index in seen or value.index in given:
                continue
            seen.add(value.index)
            producer = own.get(value.index) or self.producers.get(value.index)
            if value.index in captures:
                taken[value.index] = value
            elif producer is None or (
                value.index not in own and value.index in varying and producer.op.name not in ("broadcast", "transpose")
            ):
                residuals[value.index] = value
            else:
                kept[producer.results[0].index] = producer
                waiting.extend(producer.operands)
        nodes = [n for n in (*self.scan.body.nodes, *self.inner.nodes) if n.results[0].index in kept]
        return list(residuals.values()), [v for i, v in captures.items() if i in taken], nodes

    def varying(self) -> set[int]:
        """The values of the forward body that differ from step to step."""
        given = (v.index for v in (*self.scan.step_inputs, *self.scan.carried_inputs))
        return depending(self.scan.body.nodes, given, draws)

    def stacks_of(self, residuals: Sequence[Value]) -> list[Value]:
        """All steps' values of the forward body: its own inputs, or stacks of a forward scan."""
        scan = self.scan
        known = {v.index: stack for v, stack in zip(scan.step_inputs, self.node.operands, strict=False)}
        places = {v.index: k for k, v in reversed(list(enumerate(scan.emitted)))}
        missing = [v for v in residuals if v.index not in known and v.index not in places]
        results = self.node.results
        if missing:
            outputs = (*(o.value for o in scan.body.outputs), *missing)
            body = scan_body(self.inputs(), scan.body.nodes, outputs)
            results = self.outer.emit_all(replace(scan, body=body), *self.node.operands)
            places |= {v.index: len(scan.emitted) + k for k, v in enumerate(missing)}
        return [known[v.index] if v.index in known else results[scan.carries + places[v.index]] for v in residuals]
