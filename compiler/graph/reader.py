"""Text of `printer` to graph. Everything comes back but the origins, which only a comment shows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from compiler.diagnostics import CompilerBug
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Role, Value
from compiler.graph.op import Op
from compiler.graph.printer import Attribute
from compiler.types import BatchExtent, DType, Extent, TensorType

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*                        # space and comments, which are skipped
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<value>%\d+)
    |(?P<number>-?(?:inf\b|nan\b|\d+(?:\.\d+)?(?:e[+-]?\d+)?))
    |(?P<word>[A-Za-z_]\w*)
    |(?P<mark>[][(){}:,=*])""",
    re.VERBOSE,
)
_DTYPES = {dtype.value: dtype for dtype in DType}


def read_graph(text: str, ops: Sequence[type[Op]]) -> Graph:
    """The graph that `text` describes, with the ops of the list by their names. Raises `CompilerBug`."""
    reader = _Reader(_tokens(text), {op.name: op for op in ops})
    graph = reader.graph()
    reader.expect_end()
    return graph


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text) of each token."""
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise CompilerBug("read_graph", f"unexpected text {text[position : position + 20]!r}", text)
        if match.lastgroup is not None:
            tokens.append((match.lastgroup, match.group()))
        position = match.end()
    return [*tokens, ("end of text", "")]


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[tuple[str, str]], ops: dict[str, type[Op]]) -> None:
        self._tokens, self._ops, self._next = tokens, ops, 0

    def graph(self) -> Graph:
        self._mark("graph")
        name = self._string()
        values: dict[str, Value] = {}
        inputs: list[GraphInput] = []
        nodes: list[Node] = []
        outputs: list[GraphOutput] = []
        while not self._accept("end"):
            if self._accept("input"):
                inputs.append(GraphInput(self._string(), Role(self._word()), self._definition(values)))
            elif self._accept("output"):
                outputs.append(self._output(values))
            else:
                nodes.append(self._node(values))
        return Graph(name, tuple(inputs), tuple(nodes), tuple(outputs))

    def expect_end(self) -> None:
        self._take("end of text")

    def _output(self, values: dict[str, Value]) -> GraphOutput:
        name, role, value = self._string(), Role(self._word()), self._use(values)
        return GraphOutput(name, role, value, self._string() if self._accept("updates") else None)

    def _node(self, values: dict[str, Value]) -> Node:
        results = [self._definition(values)]
        while self._accept(","):
            results.append(self._definition(values))
        self._mark("=")
        op = self._ops.get(name := self._word())
        if op is None:
            raise self._wrong(f"no op is called {name}")
        operands: list[Value] = []
        self._mark("(")
        while not self._accept(")"):
            operands.append(self._use(values))
            self._accept(",")
        return Node(op(**self._attributes()), tuple(operands), tuple(results))

    def _attributes(self) -> dict[str, Attribute]:
        attributes: dict[str, Attribute] = {}
        while self._tokens[self._next][0] == "word" and self._tokens[self._next + 1][1] == "=":
            name = self._word()
            self._mark("=")
            attributes[name] = self._attribute()
        return attributes

    def _attribute(self) -> Attribute:
        if self._accept("{"):
            graph = self.graph()
            self._mark("}")
            return graph
        if self._accept("["):
            items: list[Attribute] = []
            while not self._accept("]"):
                items.append(self._attribute())
                self._accept(",")
            return tuple(items)
        if self._tokens[self._next][0] == "number":
            return self._number()
        word = self._word()
        if word in ("true", "false"):
            return word == "true"
        return BatchExtent() if word == "batch" else self._dtype(word)

    def _number(self) -> int | float | BatchExtent:
        text = self._take("number")
        if not re.fullmatch(r"-?\d+", text):
            return float(text)
        if self._accept("*"):
            self._mark("batch")
            return BatchExtent(int(text))
        return int(text)

    def _definition(self, values: dict[str, Value]) -> Value:
        name = self._take("value")
        self._mark(":")
        dtype, shape = self._dtype(self._word()), self._attribute()
        assert isinstance(shape, tuple)
        extents: list[Extent] = [e for e in shape if isinstance(e, int | BatchExtent)]
        value = values[name] = Value(int(name[1:]), TensorType(dtype, tuple(extents)))
        return value

    def _use(self, values: dict[str, Value]) -> Value:
        name = self._take("value")
        if name not in values:
            raise self._wrong(f"{name} is used before its definition")
        return values[name]

    def _dtype(self, word: str) -> DType:
        if word not in _DTYPES:
            raise self._wrong(f"{word} is no element type")
        return _DTYPES[word]

    def _string(self) -> str:
        return json.loads(self._take("string"))

    def _word(self) -> str:
        return self._take("word")

    def _mark(self, text: str) -> None:
        if not self._accept(text):
            raise self._wrong(f"expected {text!r} and found {self._tokens[self._next][1]!r}")

    def _accept(self, text: str) -> bool:
        kind, found = self._tokens[self._next]
        if found != text or kind not in ("mark", "word"):
            return False
        self._next += 1
        return True

    def _take(self, kind: str) -> str:
        found, text = self._tokens[self._next]
        if found != kind:
            raise self._wrong(f"expected a {kind} and found {text!r}")
        self._next += 1
        return text

    def _wrong(self, message: str) -> CompilerBug:
        around = " ".join(text for _, text in self._tokens[max(0, self._next - 8) : self._next + 3])
        return CompilerBug("read_graph", message, around)
