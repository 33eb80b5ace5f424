"""A place in a text to the names and words that may stand there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from compiler.editing import keys
from compiler.editing.bindings import symbol_of
from compiler.editing.context import CallAround, Context, Place, context_at
from compiler.editing.document import Document
from compiler.editing.signatures import head_of, one_line, origin_of, signature_text
from compiler.editing.symbols import Kind, Symbol
from compiler.frontend.builtins.functions import BUILTINS, CONSTANTS
from compiler.frontend.samplers import ROW, names_of_parts
from compiler.frontend.scope import OWN_FORMS, Named, Namespace
from compiler.support.data_formats import CUTS, OPTIONS
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.build_syntax import ELEMENT_TYPES, SETTING_TYPES

_BODY = ("param", "state", "loss", "if", "for", "return")
_STATEMENTS = {
    "model": ("input", "output", "param", "state", "loss", "if", "for"),
    "layer": _BODY,
    "fn": ("if", "for", "return"),
    "init": ("if", "for", "return"),
    "schedule": ("state", "if", "for", "return"),
    "optimizer": ("state", "if", "for"),
    "sample": ("output", "if", "for"),
    "test": ("if", "for"),
    "augment": ("view", "if", "for"),
}
_UNIVERSAL = {"optimizer": ("on", "decay_on"), "penalty": ("on",)}
_MOST_FILES = 200
_LITERALS = ("true", "false", "none")


@record(eq=False)
class Completion:
    """One suggestion. `inserted` is its text where that is not the name; the lower `rank`, the earlier it stands."""

    name: str
    kind: Kind
    detail: str = ""
    document: str = ""
    inserted: str = ""
    rank: int = 5


def completions(document: Document, line: int, column: int) -> list[Completion]:
    """The suggestions at a place, each name once.

    The editor leaves out those that the word before the place excludes.
    """
    context = context_at(document, line, column)
    found: dict[str, Completion] = {}
    for completion in _at(document, context, line):
        found.setdefault(completion.name, completion)
    return list(found.values())


def _at(document: Document, context: Context, line: int) -> Iterator[Completion]:
    match context.place:
        case Place.NOWHERE | Place.NEW_NAME:
            return
        case Place.PATH:
            yield from _files(document)
        case Place.DECLARATION:
            yield from _words(keys.DECLARATIONS)
        case Place.STATEMENT:
            yield from _statements(document, context, line)
        case Place.TYPE:
            yield from (Completion(name, Kind.TYPE) for name in (*ELEMENT_TYPES, *SETTING_TYPES))
        case Place.DIMENSION:
            yield Completion("batch", Kind.DIMENSION, "the rows of a step", rank=1)
            yield from _local(document, line)
            yield from _declared(document, Namespace.VALUE, (Kind.CONST,))
        case Place.MODEL:
            yield from _declared(document, Namespace.MODEL)
            yield from _experiments(document)
        case Place.SOURCE:
            known = OPTIONS if context.word == "data" else {**OPTIONS, **CUTS}
            yield from (
                Completion(name, Kind.FORMAT, f"options: {', '.join(o) or 'none'}") for name, o in known.items()
            )
        case Place.ATTRIBUTE:
            yield from _parts(document, context.word)
            yield Completion("T", Kind.ATTRIBUTE, "the transpose over the last two axes")
        case Place.FORM:
            yield from _settings(context.call, context.word)
            yield from _forms(document, context, line)
        case Place.LOSS:
            for name, _ in document.callees.losses(document.scope):
                yield Completion(name, Kind.LOSS, "loss", "", f"{name}: ", 1)
        case Place.PIPE:
            yield from _values(document, line, applied=True)
        case Place.VALUE:
            yield from _settings(context.call, context.word)
            yield from _values(document, line)


def _parts(document: Document, owner: str) -> Iterator[Completion]:
    """The parts of a model that a `sample` can name behind its name and a dot."""
    found = document.scope.lookup(Namespace.MODEL, owner)
    if found is not None and isinstance(found.declaration, tree.Model):
        symbols = document.callees.names_in(found.declaration, found.scope)
        for name in names_of_parts(found.declaration):
            yield Completion(name, symbols[name].kind, detail_of(symbols[name]), rank=1)


def _experiments(document: Document) -> Iterator[Completion]:
    """Those on which another one can build."""
    for declaration in document.syntax.module.declarations:
        if isinstance(declaration, tree.Train) and declaration.name is not None:
            yield Completion(declaration.name, Kind.TRAIN, "experiment", declaration.doc or "", declaration.name)


def _words(documented: Mapping[str, str]) -> Iterator[Completion]:
    for word, document in documented.items():
        yield Completion(word, Kind.KEY, "", document, f"{word} ", 1)


def _statements(document: Document, context: Context, line: int) -> Iterator[Completion]:
    keyword = context.stretch.keyword.text if context.stretch is not None else ""
    if context.word == "augment":
        keyword = context.word
    if context.word == "update":
        given = _given_in_update(context, line)
        for key, meaning in keys.UPDATE.items():
            if key not in given:
                yield Completion(key, Kind.KEY, "key", meaning, f"{key} = ", 1)
        return
    if keyword in ("train", "generate"):
        given = _given(context)
        for key, meaning in (keys.TRAIN if keyword == "train" else keys.GENERATE).items():
            if key not in given or key == "target":
                inserted = {"target": "target ", "augment": "augment { "}.get(key, f"{key} = ")
                yield Completion(key, Kind.KEY, "key", meaning, inserted, 1)
        if keyword == "train":
            yield Completion("update", Kind.KEY, "", keys.STATEMENTS["update"], "update ", 1)
        if keyword == "generate" and "feed" not in given:
            yield Completion("feed", Kind.KEY, "", keys.STATEMENTS["feed"], "feed ", 1)
        return
    for word in _STATEMENTS.get(keyword, ()):
        yield Completion(word, Kind.KEY, "", keys.STATEMENTS[word], f"{word} ", 2)
    yield from _values(document, line)


def _given(context: Context) -> set[str]:
    """The keys that a `train` or `generate` has."""
    node = context.stretch.node if context.stretch is not None else None
    if not isinstance(node, tree.Train | tree.Generate):
        return set()
    found = {entry.key for entry in node.entries}
    if isinstance(node, tree.Train) and node.augment is not None:
        found.add("augment")
    if isinstance(node, tree.Generate) and node.feed is not None:
        found.add("feed")
    return found


def _given_in_update(context: Context, line: int) -> set[str]:
    """The keys of the `update` around a line."""
    node = context.stretch.node if context.stretch is not None else None
    blocks = node.updates if isinstance(node, tree.Train) else ()
    return {entry.key for b in blocks if b.span.line <= line <= b.span.end_line for entry in b.entries}


def _settings(call: CallAround | None, word: str) -> Iterator[Completion]:
    """The settings of what is called that are not given yet."""
    if call is None:
        return
    options = OPTIONS if word == "data" else {**OPTIONS, **CUTS} if word in ("validation", "test") else {}
    if call.name in options:
        for option in options[call.name]:
            if option not in call.given:
                yield Completion(option, Kind.OPTION, f"option of {call.name}", "", f"{option} = ", 1)
        return
    if call.callee is None or call.keyword:
        return
    signature = signature_text(call.callee)
    for parameter in signature.parameters:
        is_taken = parameter.name in call.given or parameter.is_variadic
        if not is_taken and (parameter.group == call.group or call.takes_both):
            yield Completion(
                parameter.name, Kind.SETTING, parameter.text, parameter.document, f"{parameter.name} = ", 1
            )
    for name in _UNIVERSAL.get(word, ()):
        if name not in call.given:
            yield Completion(name, Kind.OPTION, f"of every {word}", "which parameters it is for", f"{name} = ", 2)


def _values(document: Document, line: int, applied: bool = False) -> Iterator[Completion]:
    """Everything that means something where a value stands; behind `|>`, what can be applied first."""
    yield from _local(document, line)
    rank = {Kind.LAYER: 3, Kind.FN: 4} if applied else {}
    own = OWN_FORMS.get(document.keyword_at(line))
    for namespace in (Namespace.VALUE, *([own] if own is not None else [])):
        for completion in _declared(document, namespace):
            yield Completion(
                completion.name,
                completion.kind,
                completion.detail,
                completion.document,
                "",
                rank.get(completion.kind, 5),
            )
    if document.keyword_at(line) in ("test", "sample"):
        yield from _declared(document, Namespace.MODEL)
    if document.keyword_at(line) == "sample":
        yield Completion(ROW, Kind.CONSTANT, "the number of each row, from 0", rank=3)
    for name, builtin in BUILTINS.items():
        yield Completion(name, Kind.BUILTIN, builtin.signature, builtin.document, rank=6)
    if applied:
        return
    for name in (*CONSTANTS, "training", "total_steps", "steps_per_epoch"):
        yield Completion(name, Kind.CONSTANT, "built in", rank=7)
    yield from (Completion(word, Kind.CONSTANT, rank=7) for word in (*_LITERALS, "scan"))


def _local(document: Document, line: int) -> Iterator[Completion]:
    for name, symbol in document.names_at(line).items():
        if symbol.place is not None and (symbol.place.line <= line or symbol.kind is not Kind.VARIABLE):
            yield Completion(name, symbol.kind, detail_of(symbol), rank=2)


def detail_of(symbol: Symbol) -> str:
    """A local name in a few words: its declaration, or its kind."""
    match symbol.node:
        case tree.Parameter():
            return one_line(symbol.node.span)
        case tree.InputDeclaration() | tree.ParamDeclaration() | tree.StateDeclaration():
            return one_line(symbol.node.span)
        case _:
            return symbol.kind.value


def _declared(document: Document, namespace: Namespace, kinds: tuple[Kind, ...] = ()) -> Iterator[Completion]:
    for name in document.scope.names(namespace):
        found = document.scope.lookup(namespace, name)
        if found is None:
            continue
        completion = document.callees.kept(found.declaration, _of_declaration)
        if not kinds or completion.kind in kinds:
            yield completion


def _of_declaration(declaration: Named) -> Completion:
    name = declaration.name
    detail = head_of(declaration).partition(name)[2].strip() or origin_of(declaration.span)
    shown = f"{name}{detail}" if detail.startswith("(") else detail
    return Completion(name, symbol_of(declaration).kind, shown, declaration.doc or "")


def _forms(document: Document, context: Context, line: int) -> Iterator[Completion]:
    if context.namespace is not None:
        yield from _declared(document, context.namespace)
    for name, symbol in document.names_at(line).items():
        if symbol.kind is Kind.SETTING:
            yield Completion(name, symbol.kind, detail_of(symbol), rank=2)


def _files(document: Document) -> Iterator[Completion]:
    """The model files beside this one and in folders there, by their relative paths."""
    own = Path(document.source.name)
    if not own.parent.is_dir():
        return
    beside = [entry for entry in islice(own.parent.iterdir(), _MOST_FILES) if not entry.name.startswith(".")]
    below = [inner for entry in beside if entry.is_dir() for inner in islice(entry.glob("*.dl"), _MOST_FILES)]
    for path in sorted((*beside, *below)):
        if path.suffix == ".dl" and path != own:
            yield Completion(path.relative_to(own.parent).as_posix(), Kind.OPTION, "file")
