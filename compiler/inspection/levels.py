"""A program's training graph in levels: applications of layers and functions inside each other, repeated ones once.

`levels_of(program)` gives the outermost `Level`, the model, whose `parts` are what its text applies, in order. Opening
a level shows its parts, down to lines of operations, which have none. Nothing here is laid out or drawn: pages and
pictures choose how far to open.

- A *layer* or *fn* is one application of a declaration. Its operations are all in it, those of nested calls too.
- A *line* is a run of operations that the body itself writes, such as `image / 255`; it has `nodes` and no parts. That
  of a penalty has parts: its application to each parameter, and the sums.
- A *scan* has the operations of one step as its parts.
- Parts that do the same with the same shapes, and of which each reads the one before or one place of the text makes
  all, are one level with `times` above 1: its `parts` are those of the first round and `rounds` those of each. Where a
  round is a single application, the level has its kind and name (`residual`, times 3); where it is several, the kind
  is `repeat`, and its parts are these applications.
- `flows(parts)` are the values that go from part to part, or come from outside: the arrows of a picture.
- `Places(root).of(origins)` finds the levels, outermost first, to which a node of any later stage belongs, by its
  origins: so gradients, kernels and instructions have a place in the same tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from compiler.errors.diagnostics import Span
from compiler.frontend.applications import Application
from compiler.frontend.program import Program
from compiler.graph.ir import Direction, Graph, Node, Origin, Role, Value
from compiler.ops.scan import Scan, with_bodies
from compiler.support.record import record
from compiler.syntax import tree

_LONGEST_ROUND = 12  # applications that are looked at as one round of a loop
_LONGEST_NAME = 40


@record
class Level:
    """A part of a model.

    `key` is unique in the tree and says where the level stands (`2.0` is the first part of the third part); that of
    the model is empty. `path` is that of a layer's instance, or "" of anything else, and `paths` those of all rounds.
    `span` is the place where it is applied or written. `nodes` are all operations of all rounds, nested ones included,
    in execution order; those of a scan's body stand in front of the scan.
    """

    key: str
    kind: str  # model, layer, fn, line, scan or repeat
    name: str
    span: Span | None
    declaration: tree.Callable | None
    paths: tuple[str, ...]
    rounds: tuple[tuple[Level, ...], ...]
    nodes: tuple[Node, ...]
    applied: tuple[Application, ...] = ()  # in each round, of a layer or fn

    @property
    def path(self) -> str:
        return self.paths[0]

    @property
    def parts(self) -> tuple[Level, ...]:
        """The parts of the first round."""
        return self.rounds[0]

    @property
    def times(self) -> int:
        return len(self.rounds)

    @property
    def values(self) -> frozenset[int]:
        """The indices of all values that are made in it."""
        return frozenset(result.index for node in self.nodes for result in node.results)

    def walk(self) -> Iterator[Level]:
        """The level and all below it, of each round."""
        yield self
        for parts in self.rounds:
            for part in parts:
                yield from part.walk()


@record
class Flow:
    """`value` goes from the part with the key `source`, or from outside where that is "", to that of `target`."""

    source: str
    target: str
    value: Value


def levels_of(program: Program) -> Level:
    """The levels of a program that was elaborated in this process: an outline has none, and gives a bare model."""
    applications = [a for a in program.applications if len(a.values)]
    nodes = program.training_graph.nodes
    root = Level(
        "", "model", program.model, None, None, ("",), (_parts(nodes, applications),), tuple(with_bodies(nodes))
    )
    return _with_keys(root, "")


def flows(parts: Sequence[Level]) -> tuple[Flow, ...]:
    """The values that parts of one level read of each other and from outside, each once for a pair."""
    makers = {index: part.key for part in parts for index in part.values}
    found: dict[tuple[str, str, int], Flow] = {}
    for part in parts:
        own = part.values
        for value in _read(part):
            if value.index not in own:
                source = makers.get(value.index, "")
                found[source, part.key, value.index] = Flow(source, part.key, value)
    return tuple(found.values())


def of_settings(graph: Graph) -> frozenset[int]:
    """The numbers of which settings and constants alone are part, such as the rate of all dropouts: nothing flows."""
    known = {entry.value.index for entry in graph.inputs if entry.role is Role.SETTING}
    for node in graph.nodes:
        if all(operand.index in known for operand in node.operands):
            known.update(result.index for result in node.results)
    return frozenset(known - {result.index for node in graph.nodes for result in node.results if result.type.rank})


def _read(part: Level) -> Iterator[Value]:
    """The values that a part reads; those that a scan hands to its steps are its own business."""
    inside = {entry.value.index for node in part.nodes if isinstance(node.op, Scan) for entry in node.op.body.inputs}
    handed = {o.index for node in part.nodes if isinstance(node.op, Scan) for o in node.operands}
    for node in part.nodes:
        yield from (o for o in node.operands if o.index not in inside or o.index in handed)


# The tree


def _parts(nodes: Sequence[Node], applications: Sequence[Application]) -> tuple[Level, ...]:
    """The levels of some nodes, which these applications made or did not."""
    outer, inner = _nested(applications)
    owner = {index: a for a in outer for index in a.values}
    found: list[Level] = []
    run: list[Node] = []
    made: dict[int, list[Node]] = {}
    for node in nodes:
        application = owner.get(node.results[0].index)
        if application is not None:
            made.setdefault(application.values.start, []).append(node)
    for node in nodes:
        application = owner.get(node.results[0].index)
        if application is None and not isinstance(node.op, Scan) and _continues(run, node):
            run.append(node)
            continue
        found += _line(run)
        run = []
        if application is None:
            if isinstance(node.op, Scan):
                found.append(_scan(node, node.op, applications))
            else:
                run = [node]
        elif own := made.pop(application.values.start, []):
            found.append(_applied(application, own, inner[application.values.start]))
    return _folded(_gathered([*found, *_line(run)]))


def _nested(applications: Sequence[Application]) -> tuple[list[Application], Mapping[int, list[Application]]]:
    """The outermost applications, in order, and by the first value of each those inside of it, as they were ended."""
    outer: list[Application] = []
    inner: dict[int, list[Application]] = {}
    for application in reversed(applications):  # what ended last is outermost
        if outer and application.values.start >= outer[-1].values.start:
            inner[outer[-1].values.start].append(application)
        else:
            outer.append(application)
            inner[application.values.start] = []
    return outer[::-1], {start: within[::-1] for start, within in inner.items()}


def _continues(run: Sequence[Node], node: Node) -> bool:
    """Whether a node is of the line of those before; what computes a `gradient` is of the line that asks for it."""
    line = _line_of(node)
    before = next((found for other in reversed(run) if (found := _line_of(other)) is not None), None)
    return line is None or before is None or line == before


def _line_of(node: Node) -> tuple[str, int] | None:
    """The place that writes a node; None of one that the compiler derives from others."""
    if not node.origins or node.origins[0].direction is Direction.BACKWARD:
        return None
    span = node.origins[0].span
    return span.source.name, span.line


def _line(nodes: Sequence[Node]) -> Iterator[Level]:
    if nodes:
        origins = [origin for node in nodes for origin in node.origins[:1]]
        spans = [o.span for o in origins if o.direction is not Direction.BACKWARD] or [o.span for o in origins]
        name = _shortened(spans[-1]) if spans else nodes[-1].op.name
        yield Level("", "line", name, spans[-1] if spans else None, None, ("",), ((),), tuple(nodes))


def _scan(node: Node, scan: Scan, applications: Sequence[Application]) -> Level:
    inside = {result.index for n in with_bodies(scan.body.nodes) for result in n.results}
    own = [a for a in applications if not inside.isdisjoint(a.values)]
    span = node.origins[0].span if node.origins else None
    nodes = (*with_bodies(scan.body.nodes), node)
    return Level("", "scan", f"scan of {scan.length} steps", span, None, ("",), (_parts(scan.body.nodes, own),), nodes)


def _applied(application: Application, nodes: Sequence[Node], inner: Sequence[Application]) -> Level:
    declaration = application.declaration
    return Level(
        "",
        declaration.keyword,
        declaration.name,
        application.call,
        declaration,
        (application.path if declaration.keyword == "layer" else "",),
        (_parts(nodes, inner),),
        tuple(with_bodies(nodes)),
        (application,),
    )


def _gathered(parts: Sequence[Level]) -> list[Level]:
    """Parts in a row that one expression made, partly by applications and partly itself, as one line."""
    found: list[Level] = []
    for span, group in groupby(parts, key=lambda part: part.span):
        same = tuple(group)
        if span is None or len(same) < 2 or all(part.kind != "line" for part in same):
            found += same
        else:
            nodes = tuple(node for part in same for node in part.nodes)
            found.append(Level("", "line", _shortened(span), span, None, ("",), (_folded(same),), nodes))
    return found


def _shortened(span: Span) -> str:
    text = " ".join(span.text.split())
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


# Repeats


def _folded(parts: Sequence[Level]) -> tuple[Level, ...]:
    """Equal rounds that follow each other as one level."""
    forms = [_form(part) for part in parts]
    found: list[Level] = []
    place = 0
    while place < len(parts):
        length, times = _repeat(parts, forms, place)
        if times > 1:
            rounds = [parts[place + length * k : place + length * (k + 1)] for k in range(times)]
            found.append(_repeated(rounds))
        else:
            found.append(parts[place])
        place += length * times
    return tuple(found)


def _repeat(parts: Sequence[Level], forms: Sequence[object], place: int) -> tuple[int, int]:
    """The length of a round that begins here, and how many equal ones follow each other; the most that is covered."""
    best = (1, 1)
    for length in range(1, min(_LONGEST_ROUND, (len(forms) - place) // 2) + 1):
        first, times = forms[place : place + length], 1
        while forms[(at := place + length * times) : at + length] == first and _follows(parts, at, length):
            times += 1
        if times > 1 and length * times > best[0] * best[1]:
            best = (length, times)
    return best


def _follows(parts: Sequence[Level], at: int, length: int) -> bool:
    """Whether a round reads the one before it, or both are of one place of the text, as in a loop."""
    if parts[at].span == parts[at - length].span:
        return True
    made = frozenset[int]().union(*(part.values for part in parts[at - length : at]))
    return any(value.index in made for part in parts[at : at + length] for value in _read(part))


def _repeated(rounds: Sequence[Sequence[Level]]) -> Level:
    nodes = tuple(node for parts in rounds for part in parts for node in part.nodes)
    first = rounds[0][0]
    if len(rounds[0]) == 1 and first.times == 1:
        paths = tuple(parts[0].path for parts in rounds)
        applied = tuple(application for parts in rounds for application in parts[0].applied)
        opened = tuple(parts[0].parts for parts in rounds)
        return replace(first, paths=paths, rounds=opened, nodes=nodes, applied=applied)
    name = ", ".join(part.name for part in rounds[0])
    return Level("", "repeat", name, first.span, None, ("",) * len(rounds), tuple(map(tuple, rounds)), nodes)


def _form(level: Level) -> object:
    """Two levels with the same form do the same, with tensors of the same types."""
    return level.kind, level.name, tuple((node.op.name, *(r.type for r in node.results)) for node in level.nodes)


def _with_keys(level: Level, key: str) -> Level:
    """Keys of the first round are places; those of others begin with the round: `3/2.0`."""
    rounds = tuple(
        tuple(_with_keys(part, _key(key, number, place)) for place, part in enumerate(parts))
        for number, parts in enumerate(level.rounds)
    )
    return replace(level, key=key, rounds=rounds)


def _key(outer: str, number: int, place: int) -> str:
    inner = str(place) if number == 0 else f"{number}/{place}"
    return f"{outer}.{inner}" if outer else inner


# Places of later stages


class Places:
    """The levels to which nodes of later stages belong, by their origins.

    A function without parameters that a loop applies several times has the same origin each time; it is found in the
    first round.
    """

    def __init__(self, root: Level) -> None:
        self._root = root
        self._exact: dict[tuple[tuple[Span, ...], str, Span], tuple[Level, ...]] = {}
        self._called: dict[tuple[Span, ...], dict[str, tuple[Level, ...]]] = {}  # then by the path of the layer
        self._layers: dict[str, tuple[Level, ...]] = {}
        self._add((root,))

    def of(self, origins: Sequence[Origin]) -> tuple[Level, ...]:
        """The levels, outermost first, of the first origin that has a place; the model alone where none has."""
        return next((found for o in origins if len(found := self._of(o)) > 1), (self._root,))

    def _of(self, origin: Origin) -> tuple[Level, ...]:
        exact = self._exact.get((origin.calls, origin.path, origin.span))
        if exact is not None:
            return exact
        for count in range(len(origin.calls), 0, -1):
            candidates = self._called.get(origin.calls[:count], {})
            fitting = [path for path in candidates if f"{origin.path}.".startswith(f"{path}." if path else "")]
            if fitting:
                return candidates[max(fitting, key=len)]
        return self._of_layer(origin.path)

    def _of_layer(self, path: str) -> tuple[Level, ...]:
        """The layer that holds a parameter, by the path of either."""
        while path:
            if path in self._layers:
                return self._layers[path]
            path = path.rpartition(".")[0]
        return (self._root,)

    def _add(self, chain: tuple[Level, ...]) -> None:
        level = chain[-1]
        if level.kind == "layer":
            for path in level.paths:
                self._layers.setdefault(path, chain)
        for node in level.nodes:
            for origin in node.origins:
                key = (origin.calls, origin.path, origin.span)
                self._exact[key] = chain if len(self._exact.get(key, ())) < len(chain) else self._exact[key]
                if level.declaration is not None and level.span in origin.calls:
                    calls = origin.calls[: origin.calls.index(level.span) + 1]
                    self._called.setdefault(calls, {}).setdefault(origin.path, chain)
        for parts in level.rounds:
            for part in parts:
                self._add((*chain, part))
