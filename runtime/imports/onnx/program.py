"""A graph to the text of a model file, with the weights in the order in which the file makes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from compiler.support.record import mutable_record, record
from runtime.imports.onnx.blocks import Folder, Layer
from runtime.imports.onnx.code import Code, Weight
from runtime.imports.onnx.extents import BATCH, expression
from runtime.imports.onnx.graph import DTYPES, Graph, Unsupported
from runtime.imports.onnx.names import FUNCTIONS, Namer, identifier, scope_of, short_names, word_of
from runtime.imports.onnx.operators.helpers import HELPERS
from runtime.imports.onnx.writer import TOKEN, Body, Owned, Statement, Writer, laid_out


@record
class Feed:
    """An input of the ONNX model. `rows` is the axis that counts rows, None where the tensor is one row."""

    name: str
    given: str
    dtype: str
    rows: int | None
    most: int | None = None  # the end of the range of integers that choose a row of a table


@record
class ProgramText:
    """A model file, its weights in order, and the names of its inputs and outputs in ONNX."""

    text: str
    weights: tuple[Weight, ...]
    inputs: tuple[Feed, ...]
    outputs: Mapping[str, str]


@mutable_record
class _Names:
    """Names for the tokens of one body, given while the statements are passed in order."""

    last_read: dict[str, int]
    fixed: set[str]  # names that nothing else may take
    words: Mapping[str, str]  # names that suit some tokens
    outer: int  # words of the scope of the body
    name_of: dict[str, str] = field(default_factory=dict[str, str])
    holder: dict[str, str] = field(default_factory=dict[str, str])

    def keep(self, token: str, name: str) -> None:
        self.name_of[token] = name
        self.holder[name] = token

    def is_free(self, name: str, at: int) -> bool:
        holder = self.holder.get(name)
        return (
            name not in self.fixed
            and name not in FUNCTIONS
            and (holder is None or self.last_read.get(holder, -1) <= at)
        )

    def choose(self, token: str, at: int, wanted: Sequence[str]) -> str:
        number = 1
        while True:
            for name in wanted:
                tried = name if number == 1 else f"{name}_{number}"
                if self.is_free(tried, at):
                    self.keep(token, tried)
                    return tried
            number += 1


@record
class _Written:
    """A body in names: declarations, lines, and the texts of its results."""

    declared: list[str]
    lines: list[str]
    results: list[str]


def renamed(
    statements: Sequence[Statement],
    results: Sequence[Code],
    owned: Sequence[Owned],
    given: Mapping[str, str],
    taken: set[str],
    words: Mapping[str, str],
    outer: int = 0,
) -> _Written:
    """The text of a body, with names for its tokens; `given` are those of its inputs, `taken` belong to others.

    `words` are names that suit some tokens, and the scopes of all weights have the first `outer` words in common.
    """
    last: dict[str, int] = {}
    for i, statement in enumerate(statements):
        for token in TOKEN.findall(statement.text):
            last[token] = i
    for code in results:
        for token in TOKEN.findall(code.text):
            last[token] = len(statements)
    names = _Names(last, set(taken), words, outer)
    for token, name in given.items():
        names.keep(token, name)
    declared: list[str] = []
    for one in owned:
        parts = [identifier(part) for part in one.weight.origin[0].split(".")]
        wanted = "_".join(parts[-2:]) if len("_".join(parts[-2:])) < 28 else parts[-1]
        chosen = names.choose(one.token, -1, [wanted])
        names.fixed.add(chosen)
        declared.append(one.line.replace(f"§{one.token}§", chosen))
    lines: list[str] = []
    for i, statement in enumerate(statements):
        lines += _statement_lines(statement, i, names)
    return _Written(declared, lines, [_named(c.argument if c.called else c.text, names.name_of) for c in results])


def _statement_lines(statement: Statement, at: int, names: _Names) -> list[str]:
    if statement.rounds > 1:
        return _loop_lines(statement, at, names)
    text = _named(statement.text, names.name_of)
    targets: list[str] = []
    for target in statement.targets:
        token = target.strip("§")
        if target == "_" or token not in names.last_read:
            targets.append("_")
            continue
        origins = [origin for weight in statement.weights for origin in weight.origin[:1]]
        word = word_of(origins, names.outer) or names.words.get(token)
        targets.append(names.choose(token, at, [word] if word else short_names()))
    return laid_out(f"{', '.join(targets)} = {text}", 4)


def _loop_lines(statement: Statement, at: int, names: _Names) -> list[str]:
    """A chain of equal steps as a `for`, in which the value has one name."""
    target, source = statement.targets[0].strip("§"), statement.source
    before: list[str] = []
    if names.last_read.get(source, -1) <= at:
        name = names.name_of[source]
        names.keep(target, name)
    else:
        name = names.choose(target, at - 1, short_names())
        before = [f"{name} = {names.name_of[source]}"]
    text = _named(statement.text.replace(f"§{source}§", f"§{target}§"), names.name_of)
    return [*before, f"for _ in 0..{statement.rounds} {{ {name} = {text} }}"]


def layer_text(layer: Layer, taken: set[str], words: Mapping[str, str]) -> str:
    """A layer of the model file. `words` are names that suit some tokens."""
    namer = Namer()
    usual = ["x", "y", "z", "u", "v", "w"] + [f"x{i}" for i in range(6, len(layer.arguments))]
    arguments = [namer.distinct(words.get(token, name)) for token, name in zip(layer.arguments, usual, strict=False)]
    given = dict(zip(layer.arguments, arguments, strict=True))
    result = layer.results[0]
    *inner, final = layer.statements
    ends = final.targets == (f"§{result}§",) and not any(f"§{result}§" in s.text for s in layer.statements)
    statements = inner if ends else layer.statements
    results = [Code(final.text if ends else f"§{result}§")]
    written = renamed(statements, results, layer.owned, given, taken | set(layer.settings), words, _scope(layer))
    settings = f"({', '.join(f'{name}: {kind}' for name, kind in layer.settings.items())})" if layer.settings else ""
    typed = [f"{name}: [batch, ...]" if i == layer.batched else name for i, name in enumerate(arguments)]
    body = [*written.declared, *written.lines, *laid_out(f"return {written.results[0]}", 4)]
    return (
        f"\nlayer {layer.name}{settings}({', '.join(typed)}) {{\n" + "".join(f"    {line}\n" for line in body) + "}\n"
    )


def _scope(layer: Layer) -> int:
    """How many words the scopes of the weights of a layer have in common."""
    weights = [weight for statement in layer.statements for weight in statement.weights]
    weights += [one.weight for one in layer.owned]
    return len(scope_of([weight.origin[0] for weight in weights if weight.origin]))


def _named(text: str, names: Mapping[str, str]) -> str:
    return TOKEN.sub(lambda match: names[match.group(1)], text)


def program_text(graph: Graph, title: str, feeds: Sequence[Feed], note: str) -> ProgramText:
    """The model file. Raises Unsupported with all that is missing."""
    numbers: dict[str, int] = {}
    namer = Namer()
    writer = Writer(graph, graph.nodes, graph.outputs, numbers)
    refuse(writer.missing)
    body = writer.write()
    folder = Folder(body, _batch_first(graph, numbers), Namer(set(HELPERS)))
    folder.fold()
    declarations: list[str] = []
    input_names: dict[str, str] = {}
    top: list[Statement] = []
    for feed in feeds:
        name = namer.distinct(identifier(feed.name))
        input_names[feed.name] = name
        declarations.append(f"    input {name}: {_declared(graph, feed)}")
        made = _as_in_onnx(graph, feed, name, body)
        if made is not None:
            top.append(Statement((f"§{numbers.setdefault(feed.name, len(numbers))}§",), made))
    outputs = {output: namer.distinct(identifier(output)) for output in graph.outputs}
    given = {str(numbers[name]): own for name, own in input_names.items() if name in numbers}
    made_here = {statement.targets[0].strip("§") for statement in top}
    given = {token: name for token, name in given.items() if token not in made_here}
    fixed: set[str] = set(outputs.values()) | set(HELPERS) | ({*input_names.values()} if top else set())
    statements = [*top, *body.statements]
    written = renamed(statements, body.results, body.owned, given, fixed, body.words)
    text = [f"    {line}" for line in (*written.declared, *written.lines)]
    for output, result in zip(graph.outputs, written.results, strict=True):
        text += [f"    {one}" for one in laid_out(f"output {outputs[output]} = {result}", 4)]
    helpers = "".join(HELPERS[name] for name in body.helpers)
    layers = "".join(layer_text(layer, set(HELPERS), body.words) for layer in folder.layers)
    head = f"{note}\nmodel {title} {{\n"
    whole = head + "\n".join(declarations + text) + "\n}\n" + layers + helpers
    feeds = tuple(Feed(f.name, input_names[f.name], f.dtype, f.rows, f.most) for f in feeds)
    return ProgramText(whole, tuple(body.weights), feeds, outputs)


def _batch_first(graph: Graph, numbers: Mapping[str, int]) -> Callable[[str], bool]:
    """Whether the value of a token is of floats, and its first axis is the batch."""
    values = {str(number): graph.values.get(name) for name, number in numbers.items()}

    def answer(token: str) -> bool:
        value = values.get(token)
        if value is None or not value.dtype.startswith("float") or not value.rank or BATCH not in graph.sizes[0]:
            return False
        return all(shape[0] == point[BATCH] for shape, point in zip(value.shapes, graph.sizes, strict=True))

    return answer


def _declared(graph: Graph, feed: Feed) -> str:
    value = graph.values[feed.name]
    extents = [expression([shape[axis] for shape in value.shapes], graph.sizes) for axis in range(value.rank)]
    if value.dtype not in DTYPES:
        raise Unsupported(
            f"the input `{feed.name}` has the element type {value.dtype}", f"use one of {', '.join(DTYPES)}"
        )
    if feed.rows is None:
        extents = [BATCH, *extents]
    else:
        extents = [extents[feed.rows], *(e for i, e in enumerate(extents) if i != feed.rows)]
    most = "" if feed.most is None else f" in 0..{feed.most}"
    return f"{DTYPES[value.dtype]}[{', '.join(extents)}]{most}"


def _as_in_onnx(graph: Graph, feed: Feed, name: str, body: Body) -> str | None:
    """The text that makes of an input, whose first axis counts rows, the tensor of the ONNX model."""
    value = graph.values[feed.name]
    if feed.rows is None:
        helper = "only_row_of_booleans" if value.dtype == "bool" else "only_row"
        if helper not in body.helpers:
            body.helpers.append(helper)
        return f"{name} |> {helper}"
    if feed.rows == 0:
        return None
    order = list(range(1, value.rank))
    order.insert(feed.rows, 0)
    return f"transpose({name}, {', '.join(map(str, order))})"


def refuse(missing: Sequence[tuple[str, str]]) -> None:
    """Raise Unsupported with every operation that is missing, by its place."""
    if not missing:
        return
    distinct: dict[str, list[str]] = {}
    for place, what in missing:
        distinct.setdefault(what, []).append(place)
    lines = [
        f"{what} (at {', '.join(places[:4])}{f' and {len(places) - 4} more' if len(places) > 4 else ''})"
        for what, places in distinct.items()
    ]
    if len(lines) == 1:
        raise Unsupported(f"the model has a construct without a form in .dl: {lines[0]}")
    raise Unsupported(
        f"the model needs {len(missing)} operations that have no text in .dl:\n"
        + "\n".join(f"  {line}" for line in lines)
    )


def title_of(name: str) -> str:
    """The name of the model, with a capital."""
    words = [word for word in re.split(r"[^0-9A-Za-z]+", name) if word]
    title = "".join(word[0].upper() + word[1:] for word in words)
    return identifier(title, "Model")[:40] if title else "Model"
