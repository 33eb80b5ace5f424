"""A file of weights and a program to the table that makes each tensor of the model of those of the file."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np

from compiler.driver import Array, Program
from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from compiler.types import at_batch
from runtime.imports.weights.expressions import Expression, Extents, Step, alone, tensor
from runtime.imports.weights.foreign_layers import ForeignLayer, foreign_layers, has_conv1d, is_conv1d, is_no_weight
from runtime.imports.weights.layouts import Layouts
from runtime.imports.weights.matching import LayerMatch, Pair, match_layers
from runtime.imports.weights.model_layers import ModelLayer, model_layers
from runtime.imports.weights.sources import ForeignWeights
from runtime.imports.weights.table import IGNORE, START, Table, line_of, written
from runtime.imports.weights.words import word_of
from runtime.runs.renames import pattern_of, renamed

BY_LINE = "beside a line of the table"
_BY_HAND = "as the table says"
_SAME_NAME = "by name"


@record
class Rules:
    """The user's own rules: how tensors of the file are called for the match, what keeps its start value, and what is
    left out of the file.
    """

    table: Table = Table({})
    renames: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


@record
class Question:
    """A decision about the tensor `name` that the user has to take: one of the lines `answers` goes into the table."""

    name: str
    text: str
    answers: tuple[str, ...]


@record
class FoundTable:
    """`reasons` say how each entry was found. With `questions`, it is not whole."""

    table: Table
    reasons: Mapping[str, str]
    questions: tuple[Question, ...]
    notes: tuple[str, ...]

    def tensors(self, source: ForeignWeights) -> dict[str, Array]:
        """The tensors of the model, as f32."""
        entries = self.table.entries.items()
        return {path: made.value(source.tensors).astype(np.float32, copy=False) for path, made in entries}


def shapes_of(program: Program) -> dict[str, Extents]:
    """The shape of each parameter and state, by its path."""
    return {spec.path: at_batch(spec.type.shape, 1) for spec in program.parameters}


def find_table(program: Program, source: ForeignWeights, rules: Rules) -> FoundTable:
    """Match the tensors of a file with those of the model.

    Raises CheckpointError for a rule that fits nothing, and UsageError for one that is none.
    """
    names = dict(renamed(tuple(source.tensors), rules.renames, source.path))
    wanted = shapes_of(program)
    table, reasons = _decided(wanted, names, source, rules)
    models = [m for m in model_layers(program) if any(p not in {*table.entries, *table.fresh} for p in _paths(m))]
    states = _states_of_optimizer(source, table, wanted)
    if len(states) == len(source.tensors) > 0:
        message = f"{source.path.name} has states of an optimizer, such as `{states[0]}`, and no weights"
        raise UsageError(message, "take the file of weights that lies beside it")
    kept = {called: name for called, name in names.items() if name not in {*table.ignored, *states}}
    layers = foreign_layers(source, kept, splits=any(word_of(model.scope) == "query" for model in models))
    layouts = Layouts(source)
    begun = _begun(models, layers, table)
    begun_models = {model.scope for model, *_ in begun}
    free = [layer for layer in layers if not _is_used(layer, table.entries.values())]
    match = match_layers([m for m in models if m.scope not in begun_models], free, layouts, source.is_ordered)
    entries = dict(table.entries)
    questions: list[Question] = []
    for model, layer, reason in (*begun, *match.pairs):
        made, open_parts = _made(model, layer, layouts, {*entries, *table.fresh})
        entries |= made
        reasons |= dict.fromkeys(made, reason)
        questions += open_parts
    questions += _of_layers(match, layouts)
    ordered = {path: entries[path] for path in wanted if path in entries}
    settled = {*ordered, *table.fresh, *(question.name for question in questions)}
    unused = _unused(source, ordered.values(), {*table.ignored, *states})
    questions += [_of_missing(path, shape, source, unused) for path, shape in wanted.items() if path not in settled]
    ignored, notes, more = _left_over(source, ordered.values(), table.ignored, states, bool(questions))
    notes = [*_conventions(source, ordered), *notes]
    return FoundTable(Table(ordered, table.fresh, ignored), reasons, (*questions, *more), tuple(notes))


def _decided(
    wanted: Mapping[str, Extents], names: Mapping[str, str], source: ForeignWeights, rules: Rules
) -> tuple[Table, dict[str, str]]:
    """The entries that rules and names settle: lines of the table, `fresh`, `ignored`, equal names and shapes."""
    fresh = [path for path in wanted if path in {*rules.table.fresh, *_chosen("--fresh", rules.fresh, wanted)}]
    ignored = _chosen("--ignore", rules.ignored, source.tensors)
    entries = {path: made for path, made in rules.table.entries.items() if path not in fresh}
    reasons = dict.fromkeys(entries, _BY_HAND)
    for path, shape in wanted.items():
        if path in entries or path in fresh or path not in names or names[path] in ignored:
            continue
        if source.convention in ("dlc", "unknown") and source.tensors[names[path]].shape == shape:
            entries[path], reasons[path] = alone(tensor(names[path])), _SAME_NAME
    return Table(entries, tuple(fresh), tuple(dict.fromkeys((*rules.table.ignored, *ignored)))), reasons


def _chosen(option: str, patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """The names that fit a pattern. Raises UsageError for a pattern that fits none."""
    known = tuple(names)
    for text in patterns:
        if not any(pattern_of(text).fullmatch(name) for name in known):
            raise UsageError(f"{option} {text} fits no tensor", f"there are {quoted(known)}")
    return [name for name in known if any(pattern_of(text).fullmatch(name) for text in patterns)]


def _paths(model: ModelLayer) -> list[str]:
    return [path for path, _ in model.tensors.values()]


def _is_used(layer: ForeignLayer, entries: Iterable[Expression]) -> bool:
    """Whether a line makes something of a part of the layer: of it, or of the stretch of a tensor that is its part."""
    terms = [term for made in entries for term in made.terms]
    return any(
        term.name == part.name and term.steps[: len(part.steps)] == part.steps
        for part in layer.parts.values()
        for term in terms
    )


def _begun(models: Sequence[ModelLayer], layers: Sequence[ForeignLayer], table: Table) -> list[Pair]:
    """The layers of the model of which lines make a part, with the layer of the file that it is made of."""
    found: list[Pair] = []
    for model in models:
        lines = [table.entries[path] for path in _paths(model) if path in table.entries]
        sources = [layer for layer in layers if _is_used(layer, lines)]
        if len(sources) == 1:
            found.append((model, sources[0], BY_LINE))
    return found


def _made(
    model: ModelLayer, layer: ForeignLayer, layouts: Layouts, settled: set[str]
) -> tuple[dict[str, Expression], list[Question]]:
    """The tensors of a layer that are not settled yet; those whose layout is not known are asked about."""
    made: dict[str, Expression] = {}
    asked: list[Question] = []
    ways = layouts.made(model, layer)
    for name, (path, shape) in model.tensors.items():
        choices = {line_of(path, way[name]): way[name] for way in ways}
        if path in settled or not choices:
            continue
        if len(choices) == 1:
            made |= dict.fromkeys([path], *choices.values())
        else:
            text = f"`{path}` {list(shape)}: the file does not say which layout it has"
            asked.append(Question(path, text, tuple(choices)))
    return made, asked


def _of_layers(match: LayerMatch, layouts: Layouts) -> list[Question]:
    """Layers of the model that several of the file fit, or one by its shape alone."""
    found: list[Question] = []
    for models, layers in match.open:
        for model in models if layers else ():
            for name, (path, shape) in model.tensors.items():
                lines = tuple(line_of(path, way[name]) for layer in layers for way in layouts.made(model, layer))
                why = (
                    "several tensors of the file fit" if len(lines) > 1 else "a tensor of the file fits by shape alone"
                )
                found.append(Question(path, f"`{path}` {list(shape)}: {why}", lines))
    return found


def _of_missing(path: str, shape: Extents, source: ForeignWeights, unused: Sequence[str]) -> Question:
    """A tensor of the model that nothing fits, with those of the file that have as many elements."""
    near = [name for name in unused if source.tensors[name].size == math.prod(shape)]
    lines = [_nearest_line(path, shape, name, source.tensors[name].shape) for name in near]
    return Question(path, f"`{path}` {list(shape)}: no tensor of the file fits", (*lines, f"{written(path)} = {START}"))


def _nearest_line(path: str, wanted: Extents, name: str, shape: Extents) -> str:
    term = tensor(name)
    if shape == wanted:
        return line_of(path, alone(term))
    if shape == wanted[::-1]:
        return line_of(path, alone(term.then("transpose", *reversed(range(len(shape))))))
    return line_of(path, alone(term.then("reshape", *wanted)))


def _unused(source: ForeignWeights, entries: Iterable[Expression], ignored: Iterable[str]) -> list[str]:
    taken = {name for made in entries for name in made.names} | set(ignored)
    return [n for n, values in source.tensors.items() if n not in taken and not is_no_weight(n, values.shape)]


def _left_over(
    source: ForeignWeights, entries: Iterable[Expression], ignored: Sequence[str], states: Sequence[str], is_open: bool
) -> tuple[tuple[str, ...], list[str], list[Question]]:
    """The tensors of the file that are not used: those to ignore, remarks on them, and those that are asked about.

    `states` are left out without a line of the table.
    """
    used = [name for made in entries for name in made.names]
    notes: list[str] = []
    if states:
        notes.append(f"states of the optimizer are left out: {quoted(states, 4)}")
    leave = list(ignored)
    asked: list[Question] = []
    for name in _unused(source, (), {*used, *ignored, *states}):
        values = source.tensors[name]
        is_constant = values.size == 0 or bool(values.min() == values.max())  # which many tensors may be
        twin = next((u for u in used if not is_constant and _are_equal(source.tensors[u], values)), None)
        if twin is not None:
            notes.append(f"`{name}` is the same as `{twin}` and is left out")
            leave.append(name)
        elif not is_open:
            text = f"`{name}` {list(values.shape)} of the file is not used by the model"
            asked.append(Question(name, text, (f"{IGNORE} {written(name)}",)))
    return tuple(leave), notes, asked


def _states_of_optimizer(source: ForeignWeights, table: Table, wanted: Container[str]) -> tuple[str, ...]:
    """The tensors that a checkpoint of `dlc` names `parameter:state`, where no line of the table speaks of them.

    The parameters are in the file, or among those `wanted`.
    """
    if source.convention not in ("dlc", "unknown"):
        return ()
    said = {name for made in table.entries.values() for name in made.names} | set(table.ignored)
    names = [(name, name.partition(":")[0]) for name in source.tensors if ":" in name]
    return tuple(n for n, of in names if n not in said and (of in source.tensors or of in wanted))


def _are_equal(a: Array, b: Array) -> bool:
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


def _conventions(source: ForeignWeights, entries: Mapping[str, Expression]) -> list[str]:
    """What decided the layouts that shapes leave open."""
    square = [
        made.names[0]
        for made in entries.values()
        if len(shape := source.tensors[made.names[0]].shape) == 2 and shape[0] == shape[1]
    ]
    notes: list[str] = []
    plain = [name for name in square if not is_conv1d(name, source)]
    if plain and source.convention == "torch":
        notes.append(f"{len(plain)} square matrices are taken as [out, in], as PyTorch has them")
    if plain and source.convention == "keras":
        notes.append(f"{len(plain)} square matrices are taken as [in, out], as Keras has them")
    for eps in sorted(set(source.epsilons.values())):
        named = [name for name, value in source.epsilons.items() if value == eps]
        notes.append(
            f"{quoted(named, 4)} normalises with eps = {eps:g}, which is no weight: the model's text has to say it"
        )
    if any(made.terms[0].steps[-1:] == (Step("blocks", (1, 0)),) for made in entries.values()):
        notes.append('in a GRU of Keras, z weighs the old state: give `gru` the setting `z_weighs = "old"`')
    if has_conv1d(source):
        notes.append("`c_attn`, `c_fc` and `c_proj` are taken as [in, out], as the shape of `c_attn` says (GPT-2)")
    return notes
