"""The derivative of a program as text of the language: a function for each layer and direction, and for all of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from compiler.errors.diagnostics import Source, UsageError
from compiler.frontend.program import Program
from compiler.graph.ir import GraphInput, Node, Role, Value
from compiler.inspection.gradient.derivative import LOSS, Derivative, derivative_of
from compiler.inspection.gradient.expressions import ATOM, Expressions, Text, moments, type_text
from compiler.inspection.gradient.losses import ONLY_LOSS, LossNames
from compiler.inspection.gradient.naming import Names, free, is_parameter
from compiler.inspection.gradient.outline import Outline, Segment, outline_of
from compiler.ops.reduction import Moments
from compiler.ops.scan import Scan
from compiler.support.record import record
from compiler.syntax.format import format_source
from compiler.types import BatchExtent, depends_on_batch

_WIDEST = 96  # characters of a line that can be broken
_LONGEST = 88  # characters of an expression into which others are still written


@record
class Printed:
    """The text, and what its function `whole` takes and gives: inputs of the derivative by name, and outputs.

    Of the gradients `unproved` nobody has shown that they have the bits of a training step.
    """

    text: str
    whole: str
    settings: tuple[GraphInput, ...]
    tensors: tuple[GraphInput, ...]
    results: tuple[str, ...]
    derivative: Derivative
    functions: tuple[PrintedFunction, ...]
    unproved: tuple[str, ...] = ()


@record
class PrintedFunction:
    """A function of the text, with the layers and the places of the user's text that it is for.

    `levels` are the keys of the levels of which it is one direction; that of the whole has none.
    """

    name: str
    text: str
    levels: frozenset[str]
    paths: frozenset[str]
    lines: frozenset[tuple[str, int]]


@record
class _Function:
    """A function of the text: the values that it takes and gives, in the segment for which it was written."""

    name: str
    settings: tuple[Value, ...]
    takes: tuple[Value, ...]
    gives: tuple[Value, ...]


def gradient_text(
    program: Program, is_simplified: bool = True, go_on: Callable[[], None] = lambda: None, loss: LossNames = ONLY_LOSS
) -> Printed:
    """The derivative of a program with one loss as text, not proved yet. Raises UsageError for what cannot be said.

    `go_on` is called from function to function, and raises an error to end the work.
    """
    return printed(derivative_of(program, is_simplified), program.name, partial(default_of, program), go_on, loss)


def printed(
    derivative: Derivative,
    name: str,
    default: Callable[[str], str],
    go_on: Callable[[], None] = lambda: None,
    loss: LossNames = ONLY_LOSS,
) -> Printed:
    """A derivative as text. `default` gives the value of a setting, by its name as an input, as text."""
    writer = _Writer(derivative, outline_of(derivative), default, go_on, loss)
    whole = writer.whole()
    used = {value.index for value in whole.settings}
    settings = tuple(entry for entry in derivative.graph.inputs if entry.value.index in used)
    inputs = {entry.value: entry for entry in derivative.graph.inputs}
    results = tuple(output.name for output in derivative.graph.outputs)
    tensors = tuple(inputs[value] for value in whole.takes)
    text = "\n\n".join(_formatted([_heading(name, loss, derivative), *writer.blocks], go_on)) + "\n"
    return Printed(text, loss.backward, settings, tensors, results, derivative, writer.functions_of(text))


def _formatted(blocks: Sequence[str], go_on: Callable[[], None]) -> Iterator[str]:
    """Blocks in the canonical layout, one by one: declarations are laid out each by itself."""
    for block in blocks:
        go_on()
        yield format_source(Source("gradient.dl", block + "\n")).rstrip("\n")


class _Writer:
    """All functions of the text."""

    def __init__(
        self,
        derivative: Derivative,
        outline: Outline,
        default: Callable[[str], str],
        go_on: Callable[[], None],
        loss: LossNames,
    ) -> None:
        self.go_on, self.loss = go_on, loss
        self.derivative, self.outline = derivative, outline
        self.names = Names(derivative, outline)
        self.wanted = {output.value.index for output in derivative.graph.outputs}
        self.functions: dict[str, str] = {}  # text behind the name -> name
        self.blocks: list[str] = []
        self.taken: set[str] = {loss.forward, loss.backward, *loss.taken}
        self.segments: dict[str, list[Segment]] = {}
        self.readers = _readers(derivative, outline)
        self.default = default
        self.order = {output.value.index: place for place, output in enumerate(derivative.graph.outputs)}

    def whole(self) -> _Function:
        segment = Segment(None, 0, False, [self.outline.forward, self.outline.backward])
        forward = self.written(self.outline.forward, self.loss.forward)
        order = [output.value for output in self.derivative.graph.outputs]
        body = _Body(self, segment, {id(self.outline.forward): forward})
        return body.finish(self.loss.backward, order, self.outline.backward)

    def written(self, segment: Segment, name: str = "") -> _Function:
        """The function of a segment, written unless an equal one is."""
        self.go_on()
        return _Body(self, segment, {}).finish(name, self.gives(segment))

    def gives(self, segment: Segment) -> list[Value]:
        """What is read outside of a segment, of what is made in it: results of the application first."""
        inside = {id(node) for node in segment.nodes()}
        made = [r for node in segment.nodes() for r in node.results]
        found = [v for v in made if v.index in self.wanted or any(id(n) not in inside for n in self.readers[v.index])]
        return found if segment.is_forward else sorted(found[::-1], key=lambda value: self.order.get(value.index, -1))

    def name_of(self, segment: Segment) -> str:
        name = "model" if segment.level is None else segment.level.name
        return f"{self.loss.prefix}{name}_{'forward' if segment.is_forward else 'backward'}"

    def add(self, name: str, wanted: str, rest: str, segment: Segment) -> str:
        """The name of the function with this text behind its name."""
        known = self.functions.get(rest)
        if known is None:
            known = self.functions[rest] = name or free(wanted, self.taken)
            self.blocks.append(f"fn {known}{rest}")
        self.segments.setdefault(known, []).append(segment)
        return known

    def functions_of(self, text: str) -> tuple[PrintedFunction, ...]:
        """The functions of the formatted text, which begin at the left edge."""
        blocks = [block for block in re.split(r"\n\n(?=fn )", text.rstrip("\n")) if block.startswith("fn ")]
        return tuple(self.described(block) for block in blocks)

    def described(self, block: str) -> PrintedFunction:
        name = block[3 : block.index("(")]
        levels, paths, lines = set[str](), set[str](), set[tuple[str, int]]()
        for segment in self.segments[name]:
            if segment.level is not None:
                levels.add(segment.level.key)
                paths.add(segment.level.paths[segment.round])
            spans = [origin.user_span for node in segment.nodes() for origin in node.origins]
            lines.update((span.source.name, span.line) for span in spans)
        return PrintedFunction(name, block, frozenset(levels), frozenset(paths), frozenset(lines))


def _readers(derivative: Derivative, outline: Outline) -> dict[int, list[Node]]:
    """The nodes with a place that read each value, through what is written where it is used."""
    found: dict[int, list[Node]] = {}
    for node in derivative.graph.nodes:
        for result in node.results:
            found.setdefault(result.index, [])
        if not outline.is_placeless(node.results[0]):
            for operand in node.operands:
                for source in outline.sources(operand):
                    found.setdefault(source.index, []).append(node)
    for output in derivative.graph.outputs:
        for source in outline.sources(output.value):
            found.setdefault(source.index, []).append(_OUTPUT)
    return found


_OUTPUT = Node(Moments(()), (), ())  # stands for the reader of an output


class _Body:
    """The body of one function under construction."""

    def __init__(self, writer: _Writer, segment: Segment, known: dict[int, _Function]) -> None:
        self.writer, self.segment, self.known = writer, segment, known
        self.outline = writer.outline
        self.taken: set[str] = set()
        self.texts: dict[int, Text] = {}
        self.lines: list[str] = []
        self.place = ""
        self.settings: dict[int, Value] = {}
        self.expressions = Expressions(self.outline, self.text_of)
        self.inside = {id(node) for node in segment.nodes()}
        self.takes: list[Value] = []

    # The whole function

    def finish(self, name: str, gives: Sequence[Value], backward: Segment | None = None) -> _Function:
        parts = self.segment.items if backward is None else [self.segment.items[0], *backward.items]
        calls = {
            id(item): self.known.get(id(item)) or self.writer.written(item)
            for item in parts
            if isinstance(item, Segment)
        }
        self.takes = self.taken_values(parts, calls, gives)
        for value in self.takes:
            self.name(value)
        self.statements(parts, calls, {value.index for value in gives})
        results = ", ".join(self.expressions.whole(value).text for value in gives)
        self.lines.append(f"return {results}")
        rest = _broken(self.signature() + " {") + "\n" + "\n".join(self.lines) + "\n}"
        wanted = self.writer.name_of(self.segment)
        found = self.writer.add(name, wanted, rest, self.segment)
        return _Function(found, tuple(self.settings.values()), tuple(self.takes), tuple(gives))

    def signature(self) -> str:
        settings = ", ".join(self.setting(value) for value in self.settings.values())
        tensors = ", ".join(f"{self.texts[value.index].text}: {type_text(value.type)}" for value in self.takes)
        return (f"({settings})" if settings else "") + f"({tensors})"

    def setting(self, value: Value) -> str:
        """A setting as a parameter; that of the whole text has its value, or formula, as the default."""
        name = self.text_of(value).text
        whole = self.segment.level is None
        return f"{name} = {self.writer.default(self.outline.inputs[value.index].name)}" if whole else f"{name}: float"

    def taken_values(
        self, parts: Iterable[Node | Segment], calls: Mapping[int, _Function], gives: Sequence[Value]
    ) -> list[Value]:
        """The values from outside: cotangents, values, then parameters and states."""
        made: set[int] = set()
        read: dict[int, Value] = {}
        is_of_batch = False
        for item in parts:
            if isinstance(item, Segment):
                call = calls[id(item)]
                read.update((v.index, v) for v in call.takes if v.index not in made)
                self.settings.update((v.index, v) for v in call.settings)
                made.update(v.index for v in call.gives)
                continue
            is_of_batch = is_of_batch or any(depends_on_batch(v.type.shape) for v in (*item.results, *item.operands))
            read.update((v.index, v) for v in self.sources_of(item) if v.index not in made)
            made.update(r.index for r in item.results)
        read.update((v.index, v) for g in gives for v in self.outline.sources(g) if v.index not in made)
        for index in [i for i, v in read.items() if i in self.outline.scalars or self.is_setting(v)]:
            self.settings[index] = read.pop(index)
        rows = self.outline.rows
        if is_of_batch and rows is not None and not any(BatchExtent() in v.type.shape for v in read.values()):
            read[rows.index] = rows
        return sorted(read.values(), key=self.rank)

    def is_setting(self, value: Value) -> bool:
        entry = self.outline.inputs.get(value.index)
        return entry is not None and entry.role is Role.SETTING

    def sources_of(self, node: Node) -> list[Value]:
        found = [source for operand in node.operands for source in self.outline.sources(operand)]
        if isinstance(node.op, Scan):
            found += [
                s for n in node.op.body.nodes for o in n.operands for s in self.outline.sources(o) if self.is_setting(s)
            ]
        return found

    def rank(self, value: Value) -> int:
        entry = self.outline.inputs.get(value.index)
        if entry is not None:
            return 3 if is_parameter(entry.role) else 2
        return 1 if value.index in self.writer.derivative.forward else 0

    # Names

    def name(self, value: Value) -> str:
        name = free(self.writer.names.of(value, self.segment, self.outline.makers), self.taken)
        self.texts[value.index] = Text(name)
        return name

    def text_of(self, value: Value) -> Text:
        if value.index not in self.texts:
            entry = self.outline.inputs[value.index]
            assert entry.role is Role.SETTING, entry
            name = self.writer.names.of(value, self.segment, self.outline.makers)
            self.texts[value.index] = Text(free(name, self.taken), ATOM, True)
        return self.texts[value.index]

    # Statements

    def statements(self, parts: Iterable[Node | Segment], calls: Mapping[int, _Function], gives: set[int]) -> None:
        for item in parts:
            if isinstance(item, Segment):
                call = calls[id(item)]
                self.call(call)
            elif isinstance(item.op, Scan):
                self.scan(item, item.op)
            elif isinstance(item.op, Moments):
                self.moments(item)
            else:
                self.statement(item, gives)

    def statement(self, node: Node, gives: set[int]) -> None:
        (result,) = node.results
        text = self.expressions.of(node)
        if self.is_inlined(result, text, gives):
            self.texts[result.index] = text
        else:
            self.line(f"{self.name(result)} = {text.text}", node)

    def is_inlined(self, value: Value, text: Text, gives: set[int]) -> bool:
        """Whether a value is written where it is read: once, close by, in a short expression."""
        readers = self.writer.readers[value.index]
        is_here = len(readers) == 1 and id(readers[0]) in self.inside and value.index not in gives
        if not is_here or isinstance(readers[0].op, Scan) or self.writer.names.is_named(value, self.segment):
            return False
        return len(text.text) <= _LONGEST // 2 and not text.text.startswith("einsum")

    def moments(self, node: Node) -> None:
        mean, variance = node.results
        reads_mean = bool(self.writer.readers[mean.index])
        text = moments(node, self.expressions.whole(node.operands[0]), reads_mean)
        names = [self.name(mean)] if reads_mean else []
        names.append(self.name(variance) if self.writer.readers[variance.index] else "_")
        self.line(f"{', '.join(names)} = {text.text}", node)

    def call(self, function: _Function) -> None:
        if not function.gives:
            return
        tensors = ", ".join(self.expressions.whole(value).text for value in function.takes)
        settings = ", ".join(self.text_of(value).text for value in function.settings)
        results = ", ".join(self.name(value) for value in function.gives)
        self.lines.append(_broken(f"{results} = {function.name}{f'({settings})' if settings else ''}({tensors})"))

    def line(self, text: str, node: Node) -> None:
        """A statement, with its place in the model's text where that is another than before."""
        place = ""
        if node.origins:
            span = node.origins[0].span
            place = f"{Path(span.source.name).name}:{span.line}"
        if place and place != self.place:
            is_long = len(text) > _LONGEST or text.endswith("{")
            text = f"# {place}\n{_broken(text)}" if is_long else f"{text}  # {place}"
        self.place = place
        self.lines.append(_broken(text))

    # Scans

    def scan(self, node: Node, scan: Scan) -> None:
        outside = node.operands
        for formal, actual in zip(scan.captured_inputs, outside[scan.scanned + scan.carries :], strict=True):
            self.texts[formal.index] = self.captured(actual)
        given = [self.expressions.whole(value).text for value in outside[: scan.scanned]]
        starts = [self.expressions.whole(value).text for value in outside[scan.scanned :][: scan.carries]]
        xs = [f"{self.name(v)} in {text}" for v, text in zip(scan.step_inputs, given, strict=True)]
        carries = [f"{self.name(v)} = {text}" for v, text in zip(scan.carried_inputs, starts, strict=True)]
        head = ", ".join(xs) or f"{free('step', self.taken)} in 0..{scan.length}"
        head += " over 0" + (" reverse = true" if scan.reverse else "")
        head += f" carry {', '.join(carries)}" if carries else ""
        body = self.scan_body(scan)
        stacks, last = node.results[scan.carries :], node.results[: scan.carries]
        names = [self.name(v) if self.writer.readers[v.index] else "_" for v in (*stacks, *last)]
        self.line(f"{', '.join(names)} = scan {head} {{", node)
        self.lines += [*body, "}"]

    def captured(self, actual: Value) -> Text:
        """A value from outside, computed before the scan."""
        text = self.expressions.whole(actual)
        if text.text.isidentifier() or actual.index in self.outline.scalars:
            return text
        name = free("t", self.taken)
        self.lines.append(f"{name} = {text.text}")
        return Text(name)

    def scan_body(self, scan: Scan) -> list[str]:
        before, self.lines = self.lines, []
        makers = {r.index: n for n in scan.body.nodes for r in n.results}
        outer, self.outline = self.outline, _inside(self.outline, makers)
        self.expressions.outline = self.outline
        for inner in scan.body.nodes:
            if self.outline.is_placeless(inner.results[0]):
                continue
            if isinstance(inner.op, Scan):
                self.scan(inner, inner.op)
            elif isinstance(inner.op, Moments):
                self.moments(inner)
            else:
                self.line(f"{self.name(inner.results[0])} = {self.expressions.of(inner).text}", inner)
        emitted = ", ".join(self.expressions.whole(value).text for value in scan.emitted)
        if emitted:
            self.lines.append(f"emit {emitted}")
        self.lines += self.handed_on(scan)
        self.outline = self.expressions.outline = outer
        lines, self.lines = self.lines, before
        return lines

    def handed_on(self, scan: Scan) -> list[str]:
        """The carries of the next step, none of which may be read again after it is assigned."""
        own = {value.index for value in scan.carried_inputs}
        held: list[str] = []
        lines: list[str] = []
        for seen, new in zip(scan.carried_inputs, scan.next_carries, strict=True):
            text = self.expressions.whole(new).text
            if new.index in own and new.index != seen.index:
                name = free("kept", self.taken)
                held.append(f"{name} = {text}")
                text = name
            if new.index != seen.index:
                lines.append(f"{self.texts[seen.index].text} = {text}")
        return [*held, *lines]


def _broken(text: str) -> str:
    """A long line with line breaks behind commas in brackets, where they mean nothing."""
    lines, depth, start, place = list[str](), 0, 0, None
    for index, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if character == "\n":
            start, place = index + 1, None
        elif character == "," and depth > 0:
            if index - start > _WIDEST and place is not None:
                lines.append(text[: place + 1][sum(map(len, lines)) :])
                start = place + 1
            place = index
    rest = text[sum(map(len, lines)) :]
    return "\n".join([*lines, rest])


def _inside(outline: Outline, makers: dict[int, Node]) -> Outline:
    """The outline as the body of a scan sees it."""
    both = {**outline.makers, **makers}
    return Outline(outline.forward, outline.backward, both, outline.scalars, outline.inputs, outline.rows)


def default_of(program: Program, name: str) -> str:
    """The value of a setting, or the formula of a number that follows from some, with their values.

    Raises UsageError where only a run knows it.
    """
    known = {setting.name: setting.value for setting in program.settings}

    def valued(found: re.Match[str]) -> str:
        value = known.get(found.group(), found.group())
        return f"{float(value)!r}" if isinstance(value, int | float) else str(value)

    if name in known and not isinstance(known[name], int | float):
        raise UsageError(
            f"the gradient has no text: only a run knows the setting {name}", "give it a number with --set"
        )
    text = re.sub(r"[A-Za-z_][\w.]*", valued, name)
    return text[1:-1] if text.startswith("(") else text


def _heading(name: str, loss: LossNames, derivative: Derivative) -> str:
    count = len(derivative.graph.outputs) - 1
    first, last = loss.forward, loss.backward
    whose = f"the update {loss.update} of {name}" if loss.update else name
    lines = [
        f"# The derivative of the loss of {whose}, in the language itself.",
        "#",
        f"# `{first}` computes the loss and the values that `{last}` needs, which gives the loss and its gradient",
        f"# in each of the {count} trained parameters: dW is the gradient of the loss in W. Each layer has a function",
        "# for either direction, which equal layers share. A comment says from which line of a text its values",
        "# come.",
    ]
    if derivative.draws:
        lines.append("# Random draws, in [0, 1), are arguments: " + ", ".join(derivative.draws) + ".")
    return "\n".join(lines)


__all__ = ["LOSS", "Printed", "gradient_text"]
