"""W0108: a logarithm of what can be 0, or a division by it: what `relu` or `softmax` gives, or a variance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from compiler.diagnostics import Diagnostic, Edit, Note, Span, hint
from compiler.frontend.trace import Subject
from compiler.graph.ir import Node, Value
from compiler.graph.op import Op
from compiler.lints.flow import place_of
from compiler.lints.intervals import Range
from compiler.lints.laid_open import laid_open
from compiler.lints.ranges import Ranges
from compiler.ops.elementwise import Divide, Log, Log1p, Rsqrt, Sigmoid
from compiler.ops.reduction import Moments

_POLES: Mapping[type[Op], float] = {Log: 0.0, Rsqrt: 0.0, Log1p: -1.0}
"""Functions of one value, and where they have a pole."""


def find_possible_zero(subject: Subject) -> Iterator[Diagnostic]:
    """In the user's own lines: what the library does is tested."""
    for name, whole in (("training", subject.program.training), ("inference", subject.program.inference)):
        graph = laid_open(whole)
        ranges = Ranges(subject.program, graph, subject.trace.applications.get(name, []))
        for node in graph.nodes:
            if node.origins and not node.origins[0].span.source.is_library:
                yield from _judged(subject, ranges, node)


def _judged(subject: Subject, ranges: Ranges, node: Node) -> Iterator[Diagnostic]:
    if isinstance(node.op, Divide):
        operand = node.operands[1]
        if ranges[operand].reaches(0):
            yield _finding(subject, ranges, node, operand, "this divides by what can be 0")
    elif type(node.op) in _POLES:
        operand, pole = node.operands[0], _POLES[type(node.op)]
        if ranges[operand].falls_to(pole):
            lowest = f"{pole:g}" if ranges[operand].low == pole else f"{pole:g} or less"
            yield _finding(subject, ranges, node, operand, f"`{node.op.name}` of what can be {lowest}")


def _finding(subject: Subject, ranges: Ranges, node: Node, operand: Value, message: str) -> Diagnostic:
    reason = _reason(ranges, operand)
    maker = ranges.flow.maker(reason)
    place = _place(subject, ranges, reason)
    here = node.origins[0].span
    notes = () if place is None or place == here else (Note("it comes from here", place),)
    advice = hint(_advice(ranges, node, reason, None if maker is None else maker.op))
    edits = tuple(_edits(ranges, node, operand))
    return Diagnostic("W0108", f"{message}, which gives infinities and NaN", here, (advice, *notes), "warning", edits)


def _edits(ranges: Ranges, node: Node, operand: Value) -> Iterator[Edit]:
    """`log(softmax(x))` means `log_softmax(x)`."""
    application = ranges.softmaxes.get(operand.index)
    here = node.origins[0].span
    if not isinstance(node.op, Log) or application is None or set(application.operands) != {"x"}:
        return
    inner = application.call.text
    is_nested = inner.startswith("softmax(") and re.fullmatch(rf"log\(\s*{re.escape(inner)}\s*\)", here.text)
    if is_nested and not re.search(r"\b(log|log_softmax)\b *=|\bfn +(log|log_softmax)\b", here.source.text):
        yield Edit(here, f"log_{inner}")


def _reason(ranges: Ranges, value: Value) -> Value:
    """Where a 0 comes from: back through whatever is 0 only where its operand is."""
    while value.index not in ranges.softmaxes:
        node = ranges.flow.maker(value)
        operands = () if node is None else node.operands
        before = [o for o in operands if ranges[o].reaches(0) and ranges[o] != Range(0.0, 0.0)]
        if not before:
            break
        value = before[0]
    return value


def _place(subject: Subject, ranges: Ranges, value: Value) -> Span | None:
    if value.index in ranges.softmaxes:
        return ranges.softmaxes[value.index].user_call
    node = ranges.flow.maker(value)
    if node is not None:
        return place_of(node)
    names = {i.value.index: i.name for i in ranges.flow.graph.inputs}
    return next((spec.span for spec in subject.program.inputs if spec.name == names[value.index]), None)


def _advice(ranges: Ranges, node: Node, reason: Value, op: Op | None) -> str:
    is_log = isinstance(node.op, Log)
    if is_log and reason.index in ranges.softmaxes:
        return "`log_softmax(x)` is `log(softmax(x))` without the loss of digits"
    if is_log and isinstance(op, Sigmoid):
        return "`-softplus(-x)` is `log(sigmoid(x))` without the loss of digits"
    if isinstance(op, Moments):
        return "add a small number: `sqrt(variance(x) + 1e-5)`"
    return "keep it away from 0: `max(…, 1e-7)`, or add a small number"
