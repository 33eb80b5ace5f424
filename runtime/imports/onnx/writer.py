"""A graph to the statements of a model's body, with the weights in the order in which they come into being."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field

from compiler.support.record import mutable_record, record
from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code, Weight
from runtime.imports.onnx.graph import DTYPES, STORED, Graph, Node, Unsupported, Value
from runtime.imports.onnx.operators.helpers import NEEDS, how_to_write
from runtime.imports.onnx.operators.table import TABLE
from runtime.imports.onnx.site import Site

_MOST_INLINE = 72  # characters of an operand that gets no name of its own
_DEPTH = 3  # operations behind a value that say whether two values are alike
_MOST_CHAIN = 330  # characters of a chain of layers in one statement
TOKEN = re.compile(r"§(\d+)§")


@record
class Statement:
    """`targets = text`. `weights` are those that it makes; names of tensors stand as `§number§`.

    With `rounds`, it is repeated so often: each takes the place of the token `source` by the target of the one before.
    """

    targets: tuple[str, ...]
    text: str
    weights: tuple[Weight, ...] = ()
    source: str = ""
    rounds: int = 1


@record
class Owned:
    """A declaration of a parameter or state of a body, by its token."""

    token: str
    line: str
    weight: Weight


@mutable_record
class Body:
    """Statements, the parameters that stand in front of them, and the helpers that they call."""

    statements: list[Statement] = field(default_factory=list[Statement])
    owned: list[Owned] = field(default_factory=list[Owned])
    results: list[Code] = field(default_factory=list[Code])
    helpers: list[str] = field(default_factory=list[str])
    words: dict[str, str] = field(default_factory=dict[str, str])  # names that suit tokens

    @property
    def weights(self) -> list[Weight]:
        made = [w for s in self.statements for w in s.weights] + [w for code in self.results for w in code.weights]
        return [one.weight for one in self.owned] + made


class Writer:
    """Writes nodes of one body. Values that it does not make are its inputs, `§number§` each."""

    def __init__(self, graph: Graph, nodes: Sequence[Node], results: Sequence[str], numbers: dict[str, int]) -> None:
        self.graph, self.results, self.numbers = graph, tuple(results), numbers
        self.fresh = 0
        self.wanted: set[str] = set()  # values that would have to be known
        self.missing: list[tuple[str, str]] = []
        self.nodes = self._live(nodes)
        self.body = Body()
        self.alike: set[str] = set()
        self.codes: dict[str, Code] = {}

    # Which nodes are needed.

    def _live(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes whose results the text reads; what is missing is collected."""
        reads = {id(node): self._reads(node) for node in nodes}
        wanted = set(self.results)
        live: list[Node] = []
        for node in reversed(nodes):
            if wanted.intersection(node.outputs):
                live.append(node)
                wanted.update(reads[id(node)][0])
        self.readers: dict[str, int] = {}
        for node in live:
            for name in reads[id(node)][1]:
                self.readers[name] = self.readers.get(name, 0) + 1
        for name in self.results:
            self.readers[name] = self.readers.get(name, 0) + 1
        needed = {id(node) for node in live}
        found = [reads[id(node)][2] for node in nodes if id(node) in needed]
        self.missing = [one for one in found if one is not None]
        return live[::-1]

    def _reads(self, node: Node) -> tuple[set[str], list[str], tuple[str, str] | None]:
        """The values whose text a node asks for, each as often as it stands there, and what is missing."""
        asked: list[str] = []
        bound: list[str] = []

        def text_of(name: str) -> Code:
            asked.append(name)
            return Code(self._token(name))

        site = Site(
            self.graph,
            node,
            text_of,
            lambda name, value: Code("weight"),
            self.graph.readers_now,
            lambda name: None,
            lambda found, count: self._bound_before(found, count, bound),
        )
        try:
            found = translate(site)
        except Unsupported as error:
            self.wanted.update([error.unknown] if error.unknown else [])
            known = {name for name in node.inputs if name}
            return known, list(known), (node.place, f"{error}{'; ' + error.fix if error.fix else ''}")
        texts = [found.text] if isinstance(found, Code) else [one.text for one in found]
        texts += bound
        count = {name: sum(text.count(self._token(name)) for text in texts) for name in asked}
        return set(asked), [name for name, times in count.items() for _ in range(max(times, 1))], None

    def _bound_before(self, found: Code, count: int, bound: list[str]) -> list[Code]:
        if _is_name(found, count):
            return [found]
        bound.append(found.text)
        return [Code("bound")] * count

    def _bind(self, found: Code, count: int) -> list[Code]:
        if _is_name(found, count):
            return [found]
        self.fresh += 1
        targets = tuple(self._token(f"/{self.fresh}/{i}") for i in range(count))
        self.body.statements.append(Statement(targets, found.text, found.weights))
        return [Code(target) for target in targets]

    def _token(self, name: str) -> str:
        return f"§{self.numbers.setdefault(name, len(self.numbers))}§"

    # Their text.

    def write(self) -> Body:
        self.alike = self._read_often_elsewhere()
        for node in self.nodes:
            site = Site(self.graph, node, self._operand, self._own, self.graph.readers_now, self._helper, self._bind)
            found = translate(site)
            codes = [found] if isinstance(found, Code) else found
            if len(codes) > 1 and not codes[1].text:
                self._several(node, codes[0])
            else:
                for name, one in zip(node.outputs, codes, strict=False):
                    if self.readers.get(name, 0):
                        self._define(name, one)
        self.body.results = [self._result(name) for name in self.results]
        return self.body

    def _result(self, name: str) -> Code:
        value = self.graph.values[name]
        if name in self.codes or value.contents is None:
            return self._operand(name)
        node = Node("Identity", (name,), (name,))
        site = Site(self.graph, node, self._operand, self._own, self.graph.readers_now, self._helper, self._bind)
        return site.tensor(0)

    def _read_often_elsewhere(self) -> set[str]:
        """Values that are read once, but whose like in other blocks are read several times: these get names, too."""
        makers = {name: node for node in self.nodes for name in node.outputs}
        signs: dict[tuple[str, int], str] = {}

        def sign(name: str, depth: int) -> str:
            node = makers.get(name)
            if node is None or depth == 0:
                return "" if node is None else node.op
            if (name, depth) not in signs:
                signs[name, depth] = f"{node.op}({','.join(sign(one, depth - 1) for one in node.inputs)})"
            return signs[name, depth]

        groups: dict[str, list[str]] = {}
        for node in self.nodes:
            groups.setdefault(sign(node.outputs[0], _DEPTH), []).append(node.outputs[0])
        found: set[str] = set()
        for names in groups.values():
            often = sum(self.readers.get(name, 0) > 1 for name in names)
            if often and 2 * often >= len(names):
                found.update(names)
        return found

    def _several(self, node: Node, found: Code) -> None:
        targets = tuple(self._token(name) if self.readers.get(name, 0) else "_" for name in node.outputs)
        self.body.statements.append(Statement(targets, found.text, found.weights))
        for name in node.outputs:
            self.codes[name] = Code(self._token(name))

    def _define(self, name: str, found: Code) -> None:
        plain = found.level == code.TIGHT and TOKEN.fullmatch(found.text) is not None
        once = self.readers[name] == 1 and name not in self.alike
        fits = len(found.text) <= (_MOST_CHAIN if found.level == code.PIPE else _MOST_INLINE)
        if plain or (once and fits):
            self.codes[name] = found
            return
        self.body.statements.append(Statement((self._token(name),), found.text, found.weights))
        self.codes[name] = Code(self._token(name))
        if self.graph.values[name].dtype == "bool":
            self.body.words[self._token(name).strip("§")] = "mask"

    def _operand(self, name: str) -> Code:
        found = self.codes.get(name)
        if found is None:
            return Code(self._token(name))
        if found.level == code.PIPE and len(found.text) > _MOST_CHAIN:
            return self.named(name, found)
        return found

    def named(self, name: str, found: Code) -> Code:
        self.body.statements.append(Statement((self._token(name),), found.text, found.weights))
        self.codes[name] = Code(self._token(name))
        return self.codes[name]

    def _own(self, name: str, value: Value) -> Code:
        token = self._token(name)
        if any(known.token == token.strip("§") for known in self.body.owned):
            return Code(token)
        content = value.constant
        assert content is not None
        kind = "param" if value.weight and value.dtype in ("float32", "float64") else "state"
        dtype = DTYPES[value.dtype]
        shape = ", ".join(str(extent) for extent in value.shapes[0])
        declared = f"{'' if dtype == 'f32' else dtype}[{shape}]"
        start = "normal(std = 0.02)" if kind == "param" and value.rank > 1 else "zeros"
        line = f"{kind} {token}: {declared} = {start}"
        self.body.owned.append(Owned(token.strip("§"), line, Weight(content, value.weight or (name,))))
        return Code(token)

    def _helper(self, name: str) -> None:
        for needed in (*NEEDS.get(name, ()), name):
            if needed not in self.body.helpers:
                self.body.helpers.append(needed)


def _is_name(found: Code, count: int) -> bool:
    return count == 1 and TOKEN.fullmatch(found.text) is not None


def translate(site: Site) -> Code | list[Code]:
    """The text of a node. Raises Unsupported."""
    for name in site.node.outputs:
        if name and name in site.graph.values:
            site.dtype(site.graph.values[name])
    _expect_types_to_compute_with(site)
    if site.node.op not in TABLE:
        raise Unsupported(f"the operator `{site.node.op}`", how_to_write(site.node.op))
    return TABLE[site.node.op](site)


_RESHAPES = ("Expand", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Transpose", "Unsqueeze")
_MOVES = frozenset([*_RESHAPES, "Cast", "Concat", "Gather", "GatherElements", "Pad", "Slice", "Split", "Where"])


def _expect_types_to_compute_with(site: Site) -> None:
    """Raise Unsupported for arithmetic in a type that `.dl` only stores: here it would be of another type."""
    if site.node.op in _MOVES:
        return
    made = [site.graph.values[name].dtype for name in site.node.outputs if name in site.graph.values]
    read = [
        value.dtype for name in site.node.inputs if (value := site.graph.values.get(name)) and not value.is_constant
    ]
    wrong = [*(dtype for dtype in made if dtype in STORED), *(dtype for dtype in read if dtype == "uint64")]
    if wrong:
        raise site.refuse(f"in {wrong[0]}", "cast its operands to float32 or int32 first, and its result back")


def missing_of(graph: Graph) -> tuple[list[tuple[str, str]], set[str]]:
    """Every operation of a graph that has no text, with the reason, and values that would have to be known."""
    graph.count_readers()
    writer = Writer(graph, graph.nodes, [name for node in graph.nodes for name in node.outputs], {})
    return writer.missing, writer.wanted


def laid_out(text: str, indent: int) -> list[str]:
    """The lines of a statement: a long chain is broken before some `|>`, a long call in front of its operands."""
    if len(text) + indent <= 116:
        return [text]
    head, mark, operands = text.rpartition(")(")
    if mark and " |> " not in text and operands.endswith(")") and not set("()") & set(operands[:-1]):
        return [f"{head})(", f"    {operands[:-1]}", ")"]
    pieces = re.split(r" (?=\|> )", text)
    lines = [pieces[0]]
    for piece in pieces[1:]:
        if len(lines[-1]) + len(piece) + 1 + indent + (4 if len(lines) > 1 else 0) > 116:
            lines.append(piece)
        else:
            lines[-1] += " " + piece
    return [lines[0], *("    " + line for line in lines[1:])]
