"""A place in a text to its context: the call or statement around it, as far as the tokens before it tell."""

from __future__ import annotations

from enum import Enum, auto

from compiler.editing.callees import Declared
from compiler.editing.document import Document, Stretch
from compiler.editing.occurrences import FORMS, SOURCES
from compiler.editing.symbols import Kind
from compiler.frontend.builtins.functions import BUILTINS
from compiler.frontend.builtins.table import Builtin
from compiler.frontend.scope import Namespace
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.lexer import Token

_OPENS = {"(": ")", "[": "]", "{": "}"}
_CLOSES = {close: open_ for open_, close in _OPENS.items()}
_TENSORS = (Kind.TENSOR, Kind.INPUT, Kind.TARGET, Kind.OUTPUT, Kind.LOSS, Kind.PARAM, Kind.STATE)
_FORMS = (Namespace.INIT, Namespace.OPTIMIZER, Namespace.SCHEDULE, Namespace.CLIP, Namespace.PENALTY, Namespace.SAMPLE)


class Place(Enum):
    """The kind of text that may stand at a place."""

    NOWHERE = auto()  # in a comment or string
    DECLARATION = auto()
    STATEMENT = auto()
    VALUE = auto()
    PIPE = auto()
    TYPE = auto()
    DIMENSION = auto()
    MODEL = auto()
    FORM = auto()
    SOURCE = auto()
    PATH = auto()
    ATTRIBUTE = auto()
    LOSS = auto()
    NEW_NAME = auto()


@record(eq=False)
class CallAround:
    """The innermost call around a place: what it calls, the arguments before the place, and the keywords given.

    `group` is that of the positional arguments. A call to which tensors are given at once takes settings by name too
    (`takes_both`): `mse(y, t, reduction = "sum")`.
    """

    name: str
    callee: Declared | Builtin | None
    group: int
    index: int  # of the argument, among those of the group
    keyword: str  # the name before `=` in the argument of the place
    given: frozenset[str]
    takes_both: bool = False


@record(eq=False)
class Context:
    place: Place
    stretch: Stretch | None = None
    call: CallAround | None = None
    namespace: Namespace | None = None
    # the keyword of the statement, or the key of the line; where one begins, the word before the `{`; behind a dot in a
    # `sample`, the name before it
    word: str = ""


def context_at(document: Document, line: int, column: int) -> Context:
    """What may stand at a place; the word that ends there is left out of account."""
    if _is_in_comment_or_string(document, line, column):
        return Context(Place.PATH if _is_import(document, line) else Place.NOWHERE)
    index = document.index_before(line, column)
    tokens = document.lexed.tokens
    if index >= 0 and tokens[index].line == line and tokens[index].end_column >= column:
        index -= tokens[index].text[:1].isidentifier() or tokens[index].column >= column
    stretch = document.stretch_at(line)
    if stretch is None or index < stretch.start or _is_ended(document, stretch, index, line):
        return Context(Place.DECLARATION, stretch)
    return _Finder(document, stretch, index, line).context()


def _is_in_comment_or_string(document: Document, line: int, column: int) -> bool:
    for comment in document.lexed.comments:
        if comment.line == line and comment.column < column:
            return True
    for token in document.lexed.tokens[: document.index_before(line, column) + 1][-1:]:
        if token.kind == "STRING" and token.line == line and token.column < column < token.end_column:
            return True
    return any(m.code == "E0105" and m.span.line == line and m.span.column < column for m in document.lexed.mistakes)


def _is_import(document: Document, line: int) -> bool:
    return document.lines[line - 1].startswith("import") if line <= len(document.lines) else False


def _is_ended(document: Document, stretch: Stretch, index: int, line: int) -> bool:
    """Whether the declaration ends before the line: its brackets are closed there."""
    tokens = document.lexed.tokens[stretch.start : index + 1]
    if not tokens or tokens[-1].line == line:
        return False
    depth = sum((token.text in _OPENS) - (token.text in _CLOSES) for token in tokens)
    return depth <= 0 and not document.lines[line - 1].startswith((" ", "\t"))


class _Finder:
    """Looks at the tokens of a declaration up to `index`, backwards."""

    def __init__(self, document: Document, stretch: Stretch, index: int, line: int) -> None:
        self.document, self.stretch, self.index, self.line = document, stretch, index, line
        self.tokens = document.lexed.tokens

    def context(self) -> Context:
        opening = self._opening(self.index)
        last = self.tokens[self.index]
        if last.text == ".":
            owner = self.tokens[self.index - 1].text if self.stretch.keyword.text == "sample" else ""
            return Context(Place.ATTRIBUTE, self.stretch, word=owner)
        if opening is None:
            return self._head(last)
        start = self._statement_start(opening)
        word = self.tokens[start].text if start <= self.index else ""
        mark = self.tokens[opening].text
        if mark == "{" and self.tokens[opening - 1].text == "=":  # values by name
            return Context(Place.LOSS if last.text in ("{", ",") else Place.VALUE, self.stretch, None, None, word)
        if mark == "{":
            around = self.tokens[opening - 2 if self._is_update(opening) else opening - 1].text
            return self._statement(start, word if start <= self.index else around, last)
        if mark == "[" and self._is_type(opening):
            return Context(Place.DIMENSION, self.stretch, None, None, word)
        call = self.call() if mark == "(" else None
        if last.text == ":" and call is None:
            return Context(Place.TYPE, self.stretch)
        if mark == "(" and self._is_head(opening):
            return Context(Place.VALUE if last.text == "=" else Place.NEW_NAME, self.stretch, None, None, word)
        return self._argument(call, last, word)

    def _is_update(self, opening: int) -> bool:
        """Whether a brace opens an `update NAME { … }`."""
        return self.stretch.keyword.text == "train" and self.tokens[opening - 2].text == "update"

    def _argument(self, call: CallAround | None, last: Token, word: str) -> Context:
        namespace = None
        if call is not None and isinstance(call.callee, Declared):
            kind = self._kind(call, call.callee)
            namespace = {"init": Namespace.INIT, "schedule": Namespace.SCHEDULE}.get(kind)
        if call is None and word in FORMS and self.stretch.keyword.text in ("train", "generate"):
            return Context(Place.FORM, self.stretch, None, FORMS[word], word)
        place = Place.PIPE if last.text == "|>" else Place.FORM if namespace is not None else Place.VALUE
        return Context(place, self.stretch, call, namespace, word)

    def _kind(self, call: CallAround, callee: Declared) -> str:
        signature = self.document.callees.signature(callee.declaration, callee.scope)
        if call.keyword:
            return signature.types.get(call.keyword, "")
        names = signature.setting_names
        return signature.types[names[call.index]] if call.group == 0 and call.index < len(names) else ""

    def _head(self, last: Token) -> Context:
        """Behind the keyword of a declaration, or between the parts of its head."""
        keyword = self.stretch.keyword.text
        if keyword in ("train", "generate") and (last is self.stretch.keyword or last.text == ":"):
            return Context(Place.MODEL, self.stretch)
        if keyword == "sample" and last.text == "from":
            return Context(Place.MODEL, self.stretch)
        if last is self.stretch.keyword:
            return Context(Place.NEW_NAME, self.stretch)
        if last.text == "->":
            return Context(Place.TYPE, self.stretch)
        return Context(Place.PIPE if last.text == "|>" else Place.VALUE, self.stretch)

    def _statement(self, start: int, word: str, last: Token) -> Context:
        if start > self.index:
            return Context(Place.STATEMENT, self.stretch, None, None, word)
        keyword = self.stretch.keyword.text
        if last.text == "|>":
            return Context(Place.PIPE, self.stretch, None, None, word)
        if last.text == ":":
            return Context(Place.TYPE, self.stretch, None, None, word)
        if last.text == "=" and word in ("param", "state"):
            return Context(Place.FORM, self.stretch, None, Namespace.INIT, word)
        is_loss = word == "loss" and keyword in ("layer", "model")
        if (is_loss or word in ("param", "state", "input", "target", "view")) and start == self.index:
            return Context(Place.NEW_NAME, self.stretch)
        if keyword in ("train", "generate") and word in FORMS and last.text == "=":
            return Context(Place.FORM, self.stretch, None, FORMS[word], word)
        if keyword == "train" and word in SOURCES and last.text == "=":
            return Context(Place.SOURCE, self.stretch, None, None, word)
        return Context(Place.VALUE, self.stretch, None, None, word)

    def _opening(self, index: int) -> int | None:
        """The innermost bracket that is open behind a token."""
        depth = 0
        for place in range(index, self.stretch.start - 1, -1):
            text = self.tokens[place].text
            if text in _CLOSES and self.tokens[place].kind != "STRING":
                depth += 1
            elif text in _OPENS:
                if depth == 0:
                    return place
                depth -= 1
        return None

    def _statement_start(self, opening: int) -> int:
        """The first token of the statement around the place; behind `index` where a new one begins there."""
        while self.tokens[opening].text != "{":
            outer = self._opening(opening - 1)
            if outer is None:
                return self.stretch.start
            opening = outer
        depth, start = 0, opening + 1
        for place in range(opening + 1, self.index + 1):
            token = self.tokens[place]
            if depth == 0 and token.line != self.tokens[place - 1].line and token.text != "|>":
                start = place
            depth += (token.text in _OPENS) - (token.text in _CLOSES)
        is_new = depth == 0 and self.index > opening and self.tokens[self.index].line < self.line
        return self.index + 1 if is_new else start

    def _is_type(self, opening: int) -> bool:
        """Whether a `[` begins the dimensions of a type: `x: [`, `x: f32[`, `-> [`."""
        before = [token.text for token in self.tokens[max(opening - 2, self.stretch.start) : opening]]
        return bool(before) and (before[-1] in (":", "->") or (len(before) > 1 and before[0] in (":", "->")))

    def _is_head(self, opening: int) -> bool:
        """Whether a `(` begins a group of the declaration's own parameters."""
        if self.stretch.keyword.text in ("train", "generate", "test", "const"):
            return False
        return self._opening(opening - 1) is None and all(
            token.text not in ("{", "=") or self._opening(place) is not None
            for place, token in enumerate(self.tokens[self.stretch.start : opening], self.stretch.start)
        )

    def call(self) -> CallAround | None:
        """The call whose brackets are the innermost round ones around the place; none in a group of parameters."""
        opening = self._opening(self.index)
        while opening is not None and self.tokens[opening].text == "[":
            opening = self._opening(opening - 1)
        if opening is None or self.tokens[opening].text != "(" or opening == self.stretch.start:
            return None
        named, group = opening - 1, 0
        if self.tokens[named].text == ")":
            inner = self._partner(named)
            named, group = (inner or 0) - 1, 1
        if named <= self.stretch.start or self._is_head(opening) or not self.tokens[named].text[:1].isidentifier():
            return None
        name = self.tokens[named].text
        index, keyword, given = self._arguments(opening)
        callee = self._callee(name, named)
        takes_both = group == 0 and isinstance(callee, Declared) and self._gives_tensors(callee, named, opening)
        return CallAround(name, callee, 1 if takes_both else group, index, keyword, given, takes_both)

    def _gives_tensors(self, callee: Declared, named: int, opening: int) -> bool:
        """Whether the first argument looks like a tensor, for what takes settings and tensors."""
        signature = self.document.callees.signature(callee.declaration, callee.scope)
        is_fn = isinstance(callee.declaration, tree.Callable) and callee.declaration.keyword == "fn"
        if not signature.settings or not signature.tensors or self.tokens[named - 1].text == "|>":
            return False
        first = self.tokens[opening + 1] if opening < self.index else None
        local = self.document.names_at(self.line).get(first.text) if first is not None else None
        if first is None or local is None:
            return is_fn and first is None
        return local.kind in _TENSORS or (is_fn and local.kind is Kind.VARIABLE)

    def _partner(self, closing: int) -> int | None:
        depth = 0
        for place in range(closing, self.stretch.start - 1, -1):
            depth += (self.tokens[place].text in _CLOSES) - (self.tokens[place].text in _OPENS)
            if depth == 0:
                return place
        return None

    def _arguments(self, opening: int) -> tuple[int, str, frozenset[str]]:
        index, keyword, depth = 0, "", 0
        given: set[str] = set()
        for place in range(opening + 1, self.index + 1):
            token = self.tokens[place]
            if depth == 0 and token.text == ",":
                index, keyword = index + 1, ""
            elif depth == 0 and token.text == "=":
                keyword = self.tokens[place - 1].text
                given.add(keyword)
            depth += (token.text in _OPENS) - (token.text in _CLOSES)
        return index, keyword, frozenset(given)

    def _callee(self, name: str, at: int) -> Declared | Builtin | None:
        """What a name calls: as the text was read, else what any namespace has by this name."""
        scope = self.document.scope
        token = self.tokens[at]
        occurrence = self.document.occurrences.get((token.line, token.column))
        symbol = occurrence.symbol if occurrence is not None else None
        if symbol is not None and isinstance(symbol.node, tree.Model | tree.Callable):
            for namespace in (Namespace.VALUE, Namespace.MODEL, *_FORMS):
                found = scope.lookup(namespace, name)
                if found is not None and found.declaration is symbol.node:
                    return Declared(symbol.node, found.scope)
        local = self.document.names_at(token.line)
        start = self._statement_start(self._opening(at) or self.stretch.start)
        key = self.tokens[min(start, len(self.tokens) - 1)].text
        first = [FORMS[key]] if key in FORMS and self.stretch.keyword.text in ("train", "generate") else []
        for namespace in first:
            found = scope.lookup(namespace, name)
            if found is not None and isinstance(found.declaration, tree.Callable):
                return Declared(found.declaration, found.scope)
        found = self.document.callees.named(name, scope, local, self.stretch.keyword.text)
        if found is not None or name in local or name in BUILTINS:
            return found
        for namespace in (Namespace.MODEL, *_FORMS):
            located = scope.lookup(namespace, name)
            if located is not None and isinstance(located.declaration, tree.Model | tree.Callable):
                return Declared(located.declaration, located.scope)
        return None


def call_at(document: Document, line: int, column: int) -> CallAround | None:
    """The call around a place, with the argument that stands there."""
    if _is_in_comment_or_string(document, line, column):
        return None
    index = document.index_before(line, column)
    tokens = document.lexed.tokens
    if index >= 0 and tokens[index].line == line and tokens[index].column >= column:
        index -= 1  # the token begins at the place
    stretch = document.stretch_at(line)
    if stretch is None or index < stretch.start:
        return None
    return _Finder(document, stretch, index, line).call()
