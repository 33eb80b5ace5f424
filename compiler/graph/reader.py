"""Text of `printer` to graph. Everything comes back but the origins, which only a comment shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import did_you_mean
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Role, Value
from compiler.graph.op import Op
from compiler.graph.printer import Attribute, OpField, fields_of, fits
from compiler.support.record import record
from compiler.types import BatchExtent, DType, Extent, Shape, TensorType

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*                        # space and comments, which are skipped
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<value>%\d+)
    |(?P<number>-?(?:inf\b|nan\b|\d+(?:\.\d+)?(?:e[+-]?\d+)?))
    |(?P<word>[A-Za-z_]\w*)
    |(?P<mark>[][(){}:,=*])""",
    re.VERBOSE | re.ASCII,
)
_DTYPES = {dtype.value: dtype for dtype in DType}
_ROLES = {role.value: role for role in Role}
_MOST_DIGITS = 18  # of an integer, which then has 64 bits
_DEEPEST = 32  # brackets and graphs inside each other


@record
class _Token:
    """A word of the text and its line, counted from 1."""

    kind: str
    text: str
    line: int


def read_graph(text: str, ops: Sequence[type[Op]], name: str = "<graph>") -> Graph:
    """The graph that `text` describes, with the ops of the list by their names.

    `name` is that of the text in messages. Raises DataError with its line where the text describes no graph; whether
    the types of the graph are right is left to `verify`.
    """
    reader = _Reader(name, _tokens(name, text), {op.name: op for op in ops})
    graph = reader.graph()
    reader.expect_end()
    return graph


def _tokens(name: str, text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise DataError(f"unexpected text {text[position : position + 20]!r}", f"{name}:{line}")
        if match.lastgroup is not None:
            tokens.append(_Token(match.lastgroup, match.group(), line))
        line += match.group().count("\n")
        position = match.end()
    return [*tokens, _Token("end of text", "", line)]


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, name: str, tokens: list[_Token], ops: dict[str, type[Op]]) -> None:
        self._name, self._tokens, self._ops = name, tokens, ops
        self._next, self._depth = 0, 0
        self._fields: dict[str, dict[str, OpField]] = {}

    def graph(self) -> Graph:
        self._mark("graph")
        name = self._string()
        values: dict[int, Value] = {}
        inputs: list[GraphInput] = []
        nodes: list[Node] = []
        outputs: list[GraphOutput] = []
        while not self._accept("end"):
            if self._accept("input"):
                inputs.append(GraphInput(self._string(), self._role(), self._definition(values)))
            elif self._accept("output"):
                outputs.append(self._output(values))
            else:
                nodes.append(self._node(values))
        return Graph(name, tuple(inputs), tuple(nodes), tuple(outputs))

    def expect_end(self) -> None:
        self._take("end of text")

    def _output(self, values: dict[int, Value]) -> GraphOutput:
        name, role, value = self._string(), self._role(), self._use(values)
        return GraphOutput(name, role, value, self._string() if self._accept("updates") else None)

    def _node(self, values: dict[int, Value]) -> Node:
        results = [self._definition(values)]
        while self._accept(","):
            results.append(self._definition(values))
        self._mark("=")
        name = self._word()
        if name not in self._ops:
            raise self._wrong(f"no op is called {name}", name, self._ops)
        operands: list[Value] = []
        self._mark("(")
        while not self._accept(")"):
            operands.append(self._use(values))
            self._accept(",")
        return Node(self._op(self._ops[name]), tuple(operands), tuple(results))

    def _op(self, kind: type[Op]) -> Op:
        """The op with the attributes that come next, each of the type of its field."""
        if kind.name not in self._fields:
            self._fields[kind.name] = fields_of(kind)
        wanted = self._fields[kind.name]
        attributes: dict[str, Attribute] = {}
        while self._tokens[self._next].kind == "word" and self._tokens[self._next + 1].text == "=":
            name = self._word()
            if name not in wanted:
                raise self._wrong(f"{kind.name} has no attribute {name}", name, wanted)
            if name in attributes:
                raise self._wrong(f"{kind.name} has its attribute {name} twice")
            self._mark("=")
            attributes[name] = self._attribute()
            if not fits(attributes[name], wanted[name].type):
                raise self._wrong(f"{name} of {kind.name} is of another type")
        if missing := [name for name, field in wanted.items() if field.is_needed and name not in attributes]:
            raise self._wrong(f"{kind.name} lacks its attribute {missing[0]}")
        return kind(**attributes)

    def _attribute(self) -> Attribute:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"more than {_DEEPEST} brackets stand inside each other")
        try:
            return self._attribute_at_depth()
        finally:
            self._depth -= 1

    def _attribute_at_depth(self) -> Attribute:
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
        if self._tokens[self._next].kind == "number":
            return self._number()
        word = self._word()
        if word in ("true", "false"):
            return word == "true"
        if word in ("none", "batch"):
            return BatchExtent() if word == "batch" else None
        dtype = self._dtype(word)
        return TensorType(dtype, self._shape()) if self._tokens[self._next].text == "[" else dtype

    def _number(self) -> int | float | BatchExtent:
        text = self._take("number")
        if not re.fullmatch(r"-?\d+", text):
            return float(text)
        number = self._integer(text)
        if self._accept("*"):
            self._mark("batch")
            return BatchExtent(number)
        return number

    def _integer(self, text: str) -> int:
        if len(text.lstrip("-")) > _MOST_DIGITS + 1:
            raise self._wrong(f"a number has more than {_MOST_DIGITS} digits")
        return int(text)

    def _definition(self, values: dict[int, Value]) -> Value:
        index = self._index()
        self._mark(":")
        value = values[index] = Value(index, TensorType(self._dtype(self._word()), self._shape()))
        return value

    def _shape(self) -> Shape:
        """Extents of at least 0."""
        found = self._attribute()
        if not isinstance(found, tuple):
            raise self._wrong("expected a shape")
        extents: list[Extent] = [e for e in found if isinstance(e, int | BatchExtent) and not isinstance(e, bool)]
        multiples = [e.multiple if isinstance(e, BatchExtent) else e for e in extents]
        if len(extents) != len(found) or min(multiples, default=0) < 0:
            raise self._wrong("an extent of a shape is no whole number of at least 0")
        return tuple(extents)

    def _use(self, values: dict[int, Value]) -> Value:
        index = self._index()
        if index not in values:
            raise self._wrong(f"%{index} is used before its definition")
        return values[index]

    def _index(self) -> int:
        return self._integer(self._take("value")[1:])

    def _dtype(self, word: str) -> DType:
        if word not in _DTYPES:
            raise self._wrong(f"{word} is no element type", word, _DTYPES)
        return _DTYPES[word]

    def _role(self) -> Role:
        word = self._word()
        if word not in _ROLES:
            raise self._wrong(f"{word} is no role", word, _ROLES)
        return _ROLES[word]

    def _string(self) -> str:
        text = self._take("string")
        try:
            return json.loads(text)
        except ValueError:
            raise self._wrong(f"{text} is no string") from None

    def _word(self) -> str:
        return self._take("word")

    def _mark(self, text: str) -> None:
        if not self._accept(text):
            raise self._unexpected(f"`{text}`")

    def _accept(self, text: str) -> bool:
        token = self._tokens[self._next]
        if token.text != text or token.kind not in ("mark", "word"):
            return False
        self._next += 1
        return True

    def _take(self, kind: str) -> str:
        token = self._tokens[self._next]
        if token.kind != kind:
            raise self._unexpected("the end of the text" if kind == "end of text" else f"a {kind}")
        self._next += 1
        return token.text

    def _unexpected(self, wanted: str) -> DataError:
        token = self._tokens[self._next]
        found = f"`{token.text[:40]}`" if token.text else "the end of the text"
        return DataError(f"expected {wanted} and found {found}", f"{self._name}:{token.line}")

    def _wrong(self, message: str, word: str = "", known: Iterable[str] = ()) -> DataError:
        line = self._tokens[max(0, self._next - 1)].line
        return DataError(message, f"{self._name}:{line}", fix=did_you_mean(word, known) if word else "")
