"""Two passes over scans: alike scans become one, and products leave a loop that need not run in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value, depending, needed_by
from compiler.graph.op import Category
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.contraction import Contraction
from compiler.ops.control import StopGradient
from compiler.ops.elementwise import Add
from compiler.ops.indexing import Gather
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.scan import Scan, scan_body
from compiler.ops.sources import BatchSize, Constant, Iota
from compiler.ops.window import Window


def merge_scans(graph: Graph) -> Graph:
    """A scan with the stacks of all its likes stands in place of the first."""
    families: list[list[Node]] = []
    by_operands: dict[tuple[int, ...], list[list[Node]]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Scan):
            known = by_operands.setdefault(tuple(o.index for o in node.operands), [])
            family = next((f for f in known if _is_alike(f[0], node)), None)
            if family is None:
                family = list[Node]()
                known.append(family)
                families.append(family)
            family.append(node)
    if all(len(family) == 1 for family in families):
        return graph
    home = {node.results[0].index: family for family in families for node in family if node.results}
    merged: dict[int, dict[int, Value]] = {}  # by the first result of a family's first scan: stacks by emitted value
    rewriting = Rewriting(graph)
    for node in map(rewriting.current, graph.nodes):
        if not isinstance(node.op, Scan) or len(family := home[node.results[0].index]) == 1:
            rewriting.keep(node)
            continue
        key = family[0].results[0].index
        if key not in merged:
            merged[key] = _merged(rewriting, node, family)
        carries = [merged[key][-1 - k] for k in range(node.op.carries)]
        rewriting.replace(node, (*carries, *(merged[key][value.index] for value in node.op.emitted)))
    return rewriting.finish()


def _is_alike(first: Node, second: Node) -> bool:
    """Whether two scans of the same operands take the same steps."""
    a, b = first.op, second.op
    assert isinstance(a, Scan)
    assert isinstance(b, Scan)
    same = replace(a, body=b.body) == b
    carried = a.body.outputs[: a.carries] == b.body.outputs[: b.carries]
    return same and carried and a.body.inputs == b.body.inputs and a.body.nodes == b.body.nodes


def _merged(rewriting: Rewriting, node: Node, family: list[Node]) -> dict[int, Value]:
    """One scan for a family; its stacks by the value that they hold, its carries under -1, -2, …"""
    op = node.op
    assert isinstance(op, Scan)
    emitted = {value.index: value for other in family if isinstance(other.op, Scan) for value in other.op.emitted}
    inputs = [entry.value for entry in op.body.inputs]
    body = scan_body(inputs, op.body.nodes, (*op.next_carries, *emitted.values()))
    results = rewriting.builder.emit_all(replace(op, body=body), *node.operands)
    stacks = dict(zip(emitted, results[op.carries :], strict=True))
    return stacks | {-1 - k: results[k] for k in range(op.carries)}


_MADE_AGAIN = (Constant, Iota, BatchSize, Broadcast, Transpose, Reshape)  # cheaper than a stack of them


def split_scans(graph: Graph) -> Graph:
    """Moves products out of a scan that do not depend on its carries, or on which no carry depends.

        for t: z = x[t] @ W + h @ U          X @ W before the loop
        for t: y = h @ V                     H @ V behind it
        for t: dU = dU + h[t].T @ dz[t]      sum over t of H.T @ dZ, one product, behind it

    Only what is worth it leaves: products, reductions that a carry sums up, and what comes after these. Elementwise
    work stays, beside the work of the step that it fuses with.
    """
    if not any(isinstance(node.op, Scan) for node in graph.nodes):
        return graph
    rewriting = Rewriting(graph)
    for node in map(rewriting.current, graph.nodes):
        if isinstance(node.op, Scan):
            rewriting.replace(node, _Split(rewriting.builder, node).run())
        else:
            rewriting.keep(node)
    return rewriting.finish()


class _Lifting:
    """Values of a body, made outside it: for all steps at once where they differ, else as they are."""

    def __init__(self, builder: GraphBuilder, op: Scan, nodes: dict[int, Node]) -> None:
        self.builder, self.steps, self.nodes = builder, op.length, nodes
        self.known: dict[int, Value] = {}
        self.stacked: set[int] = set()

    def give(self, index: int, value: Value, stacked: bool) -> None:
        self.known[index] = value
        if stacked:
            self.stacked.add(index)

    def of(self, value: Value) -> Value:
        if value.index not in self.known:
            node = self.nodes[value.index]
            operands = [self.of(operand) for operand in node.operands]
            stacked = [operand.index in self.stacked for operand in node.operands]
            with self.builder.at(node.origins):
                if any(stacked):
                    results = lift(self.builder, node, operands, stacked, self.steps)
                else:
                    results = self.builder.emit_all(node.op, *operands)
            for own, result in zip(node.results, results, strict=True):
                self.give(own.index, result, any(stacked))
        return self.known[value.index]


class _Split:
    """One scan and what becomes of it."""

    def __init__(self, builder: GraphBuilder, node: Node) -> None:
        assert isinstance(node.op, Scan)
        self.builder, self.node, self.op = builder, node, node.op
        operands, op = node.operands, node.op
        self.nodes = {r.index: n for n in op.body.nodes for r in n.results}
        self.xs = dict(zip((v.index for v in op.step_inputs), zip(op.step_inputs, operands, strict=False), strict=True))
        behind = op.scanned + op.carries
        captured = zip(op.captured_inputs, operands[behind:], strict=True)
        self.captures = {own.index: (own, outer) for own, outer in captured}
        self.starts = operands[op.scanned : behind]
        self.body = list(op.body.nodes)

    def run(self) -> tuple[Value, ...]:
        self.take_in_constants()
        self.hoist()
        return self.sink()

    # before the loop

    def take_in_constants(self) -> None:
        """A captured number is better known to the body."""
        for index, (own, outer) in list(self.captures.items()):
            made = self.builder.definition(outer)
            if made is not None and isinstance(made.op, Constant):
                constant = Node(made.op, (), (own,), made.origins)
                self.body.insert(0, constant)
                self.nodes[index] = constant
                del self.captures[index]

    def hoist(self) -> None:
        lifting = self.lifting()
        varying = {*self.xs}
        waiting = {value.index for value in self.op.carried_inputs}  # values that wait for carries, or cannot leave
        left: list[Node] = []
        for node in self.body:
            operands = {operand.index for operand in node.operands}
            stacked = [operand.index in varying for operand in node.operands]
            results = [result.index for result in node.results]
            is_bound = node.op.category in (Category.SOURCE, Category.CONTROL) and not isinstance(node.op, _MADE_AGAIN)
            if any(stacked):
                varying.update(results)
            if operands & waiting or is_bound or (any(stacked) and not is_liftable(node, stacked)):
                waiting.update(results)
            elif isinstance(node.op, (Contraction, Gather)):
                for result in node.results:
                    inputs = self.xs if any(stacked) else self.captures
                    inputs[result.index] = (result, lifting.of(result))
                continue
            left.append(node)
        self.body = left

    def lifting(self) -> _Lifting:
        lifting = _Lifting(self.builder, self.op, self.nodes)
        for index, (_, stack) in self.xs.items():
            lifting.give(index, stack, stacked=True)
        for index, (_, value) in self.captures.items():
            lifting.give(index, value, stacked=False)
        return lifting

    # behind the loop

    def sink(self) -> tuple[Value, ...]:
        op = self.op
        sums = self.running_sums()
        sunk = self.leaving(sums)
        sums = {k: term for k, term in sums.items() if term.index in sunk}
        if any(n.results[0].index in sunk for n in self.carry_cone(sums)):
            sums, sunk = {}, set[int]()  # a sum of what another carry needs
        carries = [k for k in range(op.carries) if k not in sums]
        taken = {v.index: v for v in (*sums.values(), *(e for e in op.emitted if e.index in sunk))}
        emitted = {v.index: v for v in op.emitted if v.index not in sunk and v.index not in self.xs}
        emitted |= self.frontier(list(taken.values()), sunk)
        results = self.emit(carries, list(emitted.values()), sunk)

        lifting = self.lifting()
        stacks = dict(zip(emitted, results[len(carries) :], strict=True))
        for index, stack in stacks.items():
            lifting.give(index, stack, stacked=True)
        finals = dict(zip(carries, results, strict=False))
        for k, term in sums.items():
            with self.builder.at(self.nodes[term.index].origins):
                total = self.builder.emit(Sum((0,)), self.stack(lifting, term))
                finals[k] = self.builder.emit(Add(), self.starts[k], total)
        return (*(finals[k] for k in range(op.carries)), *(self.stack(lifting, v) for v in op.emitted))

    def stack(self, lifting: _Lifting, value: Value) -> Value:
        found = lifting.of(value)
        assert value.index in lifting.stacked
        return found

    def running_sums(self) -> dict[int, Value]:
        """The summand of each step, by the place of the carry that is nothing but a running sum."""
        op = self.op
        uses = Counter(operand.index for node in self.body for operand in node.operands)
        uses.update(output.value.index for output in op.body.outputs)
        found: dict[int, Value] = {}
        for k, (before, after) in enumerate(zip(op.carried_inputs, op.next_carries, strict=True)):
            node = self.nodes.get(after.index)
            if node is None or not isinstance(node.op, Add) or uses[before.index] != 1 or uses[after.index] != 1:
                continue
            terms = [operand for operand in node.operands if operand != before]
            if len(terms) == 1 and self.is_worth_it(terms[0]):
                found[k] = terms[0]
        return found

    def is_worth_it(self, term: Value) -> bool:
        node = self.nodes.get(term.index)
        while node is not None and isinstance(node.op, (Transpose, Reshape)):
            node = self.nodes.get(node.operands[0].index)
        return node is not None and isinstance(node.op, (Contraction, Sum))

    def carry_cone(self, sums: dict[int, Value]) -> list[Node]:
        """The nodes that the next carries need, but for running sums."""
        return needed_by(self.body, (v.index for k, v in enumerate(self.op.next_carries) if k not in sums))[0]

    def leaving(self, sums: dict[int, Value]) -> set[int]:
        """The values that no carry needs and that are better computed behind the loop."""
        own = {self.nodes[self.op.next_carries[k].index].results[0].index for k in sums}  # the additions themselves
        bound = {r.index for node in self.carry_cone(sums) for r in node.results}
        varying = self.varying()
        roots = {term.index for term in sums.values()}
        leaving: set[int] = set()
        for node in self.body:
            results = {r.index for r in node.results}
            if results & (bound | own):
                continue
            is_root = bool(results & roots) or isinstance(node.op, Contraction)
            behind = any(operand.index in leaving for operand in node.operands)
            if not (is_root or behind) or not results & varying:
                continue
            if not self.can_follow(node, varying, own):
                return self.leaving({}) if sums else set()
            leaving |= results
        return leaving

    def can_follow(self, node: Node, varying: set[int], own: set[int]) -> bool:
        """Whether a node and all that is computed from it can run for all steps at once."""
        reached = {r.index for r in node.results}
        for other in (node, *self.body):
            if other is node or any(operand.index in reached for operand in other.operands):
                if other.results[0].index in own:
                    continue
                if not is_liftable(other, [operand.index in varying for operand in other.operands]):
                    return False
                reached.update(r.index for r in other.results)
        return True

    def varying(self) -> set[int]:
        def is_drawn(node: Node) -> bool:
            return node.op.category in (Category.SOURCE, Category.CONTROL) and not isinstance(node.op, _MADE_AGAIN)

        return depending(self.body, (*self.xs, *(value.index for value in self.op.carried_inputs)), is_drawn)

    def frontier(self, wanted: list[Value], sunk: set[int]) -> dict[int, Value]:
        """The values of the loop from which the `wanted` ones are computed behind it."""
        varying, found = self.varying(), dict[int, Value]()
        seen: set[int] = set()
        waiting = list(wanted)
        while waiting:
            value = waiting.pop()
            if value.index in seen or value.index in self.xs or value.index in self.captures:
                continue
            seen.add(value.index)
            node = self.nodes.get(value.index)
            is_made_again = node is not None and (
                value.index in sunk or value.index not in varying or isinstance(node.op, _MADE_AGAIN)
            )
            if node is None or not is_made_again:
                found[value.index] = value
            else:
                waiting.extend(node.operands)
        return found

    def emit(self, carries: list[int], emitted: list[Value], sunk: set[int]) -> tuple[Value, ...]:
        """The scan that is left: these carries, and these stacks."""
        op = self.op
        inputs = [
            *(own for own, _ in self.xs.values()),
            *(op.carried_inputs[k] for k in carries),
            *(own for own, _ in self.captures.values()),
        ]
        operands = [
            *(outer for _, outer in self.xs.values()),
            *(self.starts[k] for k in carries),
            *(outer for _, outer in self.captures.values()),
        ]
        dropped = {op.next_carries[k].index for k in range(op.carries) if k not in carries}
        nodes = [n for n in self.body if not {r.index for r in n.results} & (sunk | dropped)]
        body = scan_body(inputs, nodes, [*(op.next_carries[k] for k in carries), *emitted])
        changed = replace(op, body=body, scanned=len(self.xs), carries=len(carries))
        if not carries and not emitted:
            return ()
        with self.builder.at(self.node.origins):
            return self.builder.emit_all(changed, *operands)


_ALONG_AXES = (Sum, Max, Min, Moments, Reverse, Window)
_ALONG_AXIS = (ArgMax, CumulativeSum)
_OTHERS = (Broadcast, Concat, Contraction, Pad, Reshape, Slice, StopGradient, Transpose)


def is_liftable(node: Node, stacked: Sequence[bool]) -> bool:
    """Whether `lift` knows the op; `stacked` says which operands differ from step to step."""
    if isinstance(node.op, Gather):
        return not node.op.by_row and not all(stacked)
    return node.op.category is Category.ELEMENTWISE or isinstance(node.op, (*_ALONG_AXES, *_ALONG_AXIS, *_OTHERS))


def lift(
    builder: GraphBuilder, node: Node, operands: Sequence[Value], stacked: Sequence[bool], steps: int
) -> tuple[Value, ...]:
    """The results of `node` for all steps, stacked in front. `operands`: those of the node, some of them `stacked`."""
    op = node.op
    match op:
        case Contraction(lhs=lhs, rhs=rhs, out=out):
            step = max((*lhs, *rhs)) + 1
            left, right = (((step,) if s else ()) for s in stacked)
            return builder.emit_all(Contraction((*left, *lhs), (*right, *rhs), (step, *out)), *operands)
        case Gather(axis=axis) if stacked[1]:  # the steps stand where the indices do
            (found,) = builder.emit_all(op, *operands)
            rank = found.type.rank
            order = (axis, *(k for k in range(rank) if k != axis))
            return (builder.emit(Transpose(order), found),)
        case Gather(axis=axis):
            return builder.emit_all(replace(op, axis=axis + 1), *operands)
        case Transpose(permutation=permutation):
            return builder.emit_all(Transpose((0, *(axis + 1 for axis in permutation))), *operands)
        case Broadcast(shape=shape, axes=axes):
            return builder.emit_all(Broadcast((steps, *shape), (0, *(axis + 1 for axis in axes))), *operands)
        case Reshape(shape=shape):
            return builder.emit_all(Reshape((steps, *shape)), *operands)
        case Slice(starts=starts, sizes=sizes, steps=strides):
            return builder.emit_all(Slice((0, *starts), (steps, *sizes), (1, *strides)), *operands)
        case Pad(low=low, high=high, value=value):
            return builder.emit_all(Pad((0, *low), (0, *high), value), *operands)
        case Sum() | Max() | Min() | Moments() | Reverse() | Window():
            return builder.emit_all(replace(op, axes=tuple(axis + 1 for axis in op.axes)), *operands)
        case ArgMax() | CumulativeSum():
            return builder.emit_all(replace(op, axis=op.axis + 1), *operands)
        case _:
            every = (o if s else repeated(builder, o, steps) for o, s in zip(operands, stacked, strict=True))
            return builder.emit_all(Concat(op.axis + 1) if isinstance(op, Concat) else op, *every)


def repeated(builder: GraphBuilder, value: Value, steps: int) -> Value:
    """The same value at each step."""
    shape = value.type.shape
    return builder.emit(Broadcast((steps, *shape), tuple(range(1, len(shape) + 1))), value)
