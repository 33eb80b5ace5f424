"""W0108: a logarithm, a root or a division whose argument can leave its range."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping

from compiler.errors.diagnostics import Diagnostic, Edit, Note, Span, hint
from compiler.frontend.program import Program
from compiler.frontend.trace import Subject
from compiler.graph.ir import Graph, Node, Role, Value
from compiler.graph.op import Op
from compiler.lints.flow import inlined, owner_place, place_of, unchanged
from compiler.lints.known_steps import known_ranges
from compiler.lints.ranges import Ranges
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Divide, Multiply, Negate, Subtract, Where
from compiler.ops.indexing import Gather
from compiler.ops.intervals import Range
from compiler.ops.mathematics import Log, Log1p, Power, Rsqrt, Sigmoid, Sqrt
from compiler.ops.movement import Concat
from compiler.ops.reduction import CumulativeSum, Max, Min, Moments
from compiler.ops.spreading import Sum

_POLES: Mapping[type[Op], float] = {Log: 0.0, Rsqrt: 0.0, Log1p: -1.0}
"""Functions of one value, and where they have a pole."""
_INFINITE, _UNDEFINED = "infinities and NaN", "NaN"


def find_possible_zero(subject: Subject) -> Iterator[Diagnostic]:
    """In the user's own lines: the library is tested."""
    program = subject.program
    for whole in (program.training_graph, program.inference_graph):
        yield from _Search(subject, whole, {}).findings()
    settings = {s.name: float(s.value) for s in program.settings if isinstance(s.value, int | float)}
    for sampler in program.samplers:
        yield from _Search(subject, sampler.graph, known_ranges(sampler.graph, settings)).findings()


class _Search:
    """One graph of a program, with the ranges of its values."""

    def __init__(self, subject: Subject, graph: Graph, known: Mapping[int, Range]) -> None:
        self.program: Program = subject.program
        self.graph = inlined(graph)
        self.ranges = Ranges(subject.program, self.graph, subject.trace.applications.get(graph.name, []), known)
        self.any_sign = AnySign(self.graph, {spec.path for spec in subject.program.parameters if spec.frozen})

    def findings(self) -> Iterator[Diagnostic]:
        for node in self.graph.nodes:
            if node.origins and not node.origins[0].span.source.is_library:
                yield from self._judged(node)

    def _judged(self, node: Node) -> Iterator[Diagnostic]:
        match node.op:
            case Divide():
                if self.ranges[node.operands[1]].reaches(0):
                    yield self._finding(node, node.operands[1], "this divides by a value that can be 0", _INFINITE)
            case Log() | Rsqrt() | Log1p():
                yield from self._at_pole(node, node.operands[0], _POLES[type(node.op)])
            case Sqrt():
                yield from self._below_zero(node, "`sqrt`")
            case Power():
                exponent = self.ranges[node.operands[1]]
                if exponent.low == exponent.high < 0 and self.ranges[node.operands[0]].reaches(0):
                    yield self._finding(node, node.operands[0], "this divides by a value that can be 0", _INFINITE)
                elif exponent.low == exponent.high != round(exponent.low):
                    yield from self._below_zero(node, "a broken power")
            case _:
                pass

    def _at_pole(self, node: Node, operand: Value, pole: float) -> Iterator[Diagnostic]:
        known, name = self.ranges[operand], f"`{node.op.name}`"
        if known.falls_to(pole) or self.any_sign[operand]:
            lowest = f"{pole:g}" if known.low == pole else f"{pole:g} or less"
            yield self._finding(node, operand, f"{name} of a value that can be {lowest}", _INFINITE)

    def _below_zero(self, node: Node, name: str) -> Iterator[Diagnostic]:
        known = self.ranges[node.operands[0]]
        if -math.inf < known.low < 0 or self.any_sign[node.operands[0]]:
            yield self._finding(node, node.operands[0], f"{name} of a value that can be negative", _UNDEFINED)

    def _finding(self, node: Node, operand: Value, message: str, outcome: str) -> Diagnostic:
        reason = self._reason(operand)
        place, here = self._place(reason), node.origins[0].span
        notes = () if place is None or place == here else (Note("it comes from here", place),)
        advice, edits = hint(self._advice(node, reason)), tuple(self._edits(node, operand))
        return Diagnostic("W0108", f"{message}, which gives {outcome}", here, (advice, *notes), "warning", edits)

    def _edits(self, node: Node, operand: Value) -> Iterator[Edit]:
        """`log(softmax(x))` means `log_softmax(x)`."""
        application = self.ranges.softmaxes.get(operand.index)
        here = node.origins[0].span
        if not isinstance(node.op, Log) or application is None or set(application.operands) != {"x"}:
            return
        inner = application.call.text
        is_nested = inner.startswith("softmax(") and re.fullmatch(rf"log\(\s*{re.escape(inner)}\s*\)", here.text)
        if is_nested and not re.search(r"\b(log|log_softmax)\b *=|\bfn +(log|log_softmax)\b", here.source.text):
            yield Edit(here, f"log_{inner}")

    def _reason(self, value: Value) -> Value:
        """Where a 0 comes from: back through whatever is 0 only where its operand is."""
        if not self.ranges[value].reaches(0):
            return self.ranges.flow.source(value)
        while value.index not in self.ranges.softmaxes:
            node = self.ranges.flow.maker(value)
            operands = () if node is None else node.operands
            before = [o for o in operands if self.ranges[o].reaches(0) and self.ranges[o] != Range(0.0, 0.0)]
            if not before:
                break
            value = before[0]
        return value

    def _place(self, value: Value) -> Span | None:
        if value.index in self.ranges.softmaxes:
            return self.ranges.softmaxes[value.index].user_call
        node = self.ranges.flow.maker(value)
        if node is not None:
            return place_of(node)
        name = next(entry.name for entry in self.graph.inputs if entry.value == value)
        specs = [(spec.name, spec.span) for spec in self.program.inputs]
        specs += [(spec.path, owner_place(spec)) for spec in self.program.parameters]
        return next((span for known, span in specs if known == name), None)

    def _advice(self, node: Node, reason: Value) -> str:
        is_log, maker = isinstance(node.op, Log), self.ranges.flow.maker(reason)
        if is_log and reason.index in self.ranges.softmaxes:
            return "`log_softmax(x)` is `log(softmax(x))` without the loss of digits"
        if is_log and maker is not None and isinstance(maker.op, Sigmoid):
            return "`-softplus(-x)` is `log(sigmoid(x))` without the loss of digits"
        if maker is not None and isinstance(maker.op, Moments):
            return "add a small number: `sqrt(variance(x) + 1e-5)`"
        if self.any_sign[reason]:
            return "make it positive with `exp` or `softplus`, or keep it so with `max(…, 1e-7)`"
        return "keep it away from 0: `max(…, 1e-7)`, or add a small number"


_EVERY = -1


class AnySign:
    """Of each value, the parameters that move it and those that it depends on at all: a bit for each parameter.

    What is on both sides of a sum or product may keep it above 0, as in `h + sqrt(h^2 + 1)`, and counts for neither.
    """

    def __init__(self, graph: Graph, frozen: Collection[str]) -> None:
        self._moving: dict[int, int] = {}
        self._reading: dict[int, int] = {}
        trained = [e.value for e in graph.inputs if e.role is Role.PARAMETER and e.name not in frozen]
        for number, value in enumerate(trained):
            self._moving[value.index] = self._reading[value.index] = 1 << number
        for entry in graph.inputs:
            if entry.name == "(carry)":  # of the steps of a scan before
                self._reading[entry.value.index] = _EVERY
        for node in graph.nodes:
            read = 0
            for operand in node.operands:
                read |= self._reading.get(operand.index, 0)
            for place, result in enumerate(node.results):
                self._reading[result.index] = read
                self._moving[result.index] = self._moved(node, place, result)

    def __getitem__(self, value: Value) -> bool:
        """Whether training can make the value any number, a negative one as well as a positive one."""
        return self._moving.get(value.index, 0) != 0

    def _moved(self, node: Node, place: int, result: Value) -> int:
        moving = [self._moving.get(operand.index, 0) for operand in node.operands]
        before = unchanged(node, result)
        if before is not None:
            return self._moving.get(before.index, 0)
        match node.op:
            case Divide():
                return moving[0] & ~self._read(node, 1)
            case Add() | Subtract() | Multiply() | Contraction():
                return (moving[0] & ~self._read(node, 1)) | (moving[1] & ~self._read(node, 0))
            case Negate() | Sum() | CumulativeSum() | Max() | Min() | Gather():
                return moving[0]
            case Moments():
                return moving[0] if place == 0 else 0
            case Where():
                return (moving[1] | moving[2]) & ~self._read(node, 0)
            case Concat():  # a part of it may be taken, which can be any of them
                return max(moving) if all(moving) else 0
            case _:
                return 0

    def _read(self, node: Node, side: int) -> int:
        return self._reading.get(node.operands[side].index, 0)
