"""Repeated statements of a body as layers, with the numbers in which they differ as settings, and chains as loops.

A repeat is a stretch of statements that another has with other numbers, values and weights. The one that saves most
becomes a layer, a call takes the place of each, and so on: a layer may be made of calls of others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from compiler.support.record import record
from runtime.imports.onnx.names import Namer, identifier, scope_of
from runtime.imports.onnx.writer import TOKEN, Body, Owned, Statement

_NUMBER = re.compile(r"(?<![\w.§])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.§])")
_WORD = re.compile(r"[A-Za-z_]\w*")
_LEAST_GAIN = 120  # characters that a layer must save
_OF_A_MODULE = 80  # characters that it is worth to have the modules of the model as layers
_LONGEST = 60  # statements of a layer
_MOST_SETTINGS = 8


@record
class Layer:
    """The statements of a layer in terms of its own tokens; `arguments` and `results` are tokens, too."""

    name: str
    settings: Mapping[str, str]
    arguments: tuple[str, ...]
    batched: int | None  # the argument whose first axis is the batch, where the body says `batch`
    owned: tuple[Owned, ...]
    statements: tuple[Statement, ...]
    results: tuple[str, ...]


@record
class _Part:
    """One occurrence: the statements from `start` on, the tokens that it reads and makes, and its numbers."""

    start: int
    arguments: tuple[str, ...]
    made: tuple[str, ...]
    owned: tuple[str, ...]
    text: str
    numbers: tuple[str, ...]


class Folder:
    """Folds one body. `batch_first` says of a token whether the first axis of its value is the batch."""

    def __init__(self, body: Body, batch_first: Callable[[str], bool], namer: Namer) -> None:
        self.body, self.batch_first, self.namer = body, batch_first, namer
        self.layers: list[Layer] = []
        self.fresh = 1_000_000
        self.called = {word for one in body.statements for word in _WORD.findall(TOKEN.sub("", one.text))}
        self.called |= {word for one in body.results for word in _WORD.findall(TOKEN.sub("", one.text))}

    def fold(self) -> None:
        """Take out layers while one saves enough."""
        while (found := self._best()) is not None:
            self._take_out(found)
        self._loop()

    # Which repeat saves most.

    def _best(self) -> list[_Part] | None:
        statements = self.body.statements
        signs = [_sign(statement) for statement in statements]
        number: dict[str, int] = {}
        ids = [number.setdefault(sign, len(number)) for sign in signs]
        best: list[_Part] | None = None
        gain = _LEAST_GAIN
        for length in range(1, min(_LONGEST, len(ids) // 2) + 1):
            places: dict[tuple[int, ...], list[int]] = {}
            for start in range(len(ids) - length + 1):
                places.setdefault(tuple(ids[start : start + length]), []).append(start)
            for starts in places.values():
                size = sum(len(signs[starts[0] + i]) + 8 for i in range(length))
                chosen = _apart(starts, length)
                if len(chosen) < 2 or (len(chosen) - 1) * size - 30 * len(chosen) + _OF_A_MODULE <= gain:
                    continue
                for parts in self._alike(chosen, length):
                    saved = (len(parts) - 1) * size - 30 * len(parts) - 20 * length
                    has_weights = bool(statements[parts[0].start].weights)
                    saved = saved + _OF_A_MODULE * has_weights if self._are_modules(parts) else saved // 2
                    saved += has_weights
                    if len(parts) > 1 and saved > gain and self._fits(parts):
                        best, gain = parts, saved
        return best

    def _are_modules(self, parts: Sequence[_Part]) -> bool:
        """Whether each occurrence has all weights of a module, as far as weights have names of modules."""
        inside = [self._origins(self._inside(part), part.owned) for part in parts]
        whole = self._origins(range(len(self.body.statements)), [one.token for one in self.body.owned])
        for origins in inside:
            scope = scope_of(origins)
            members = sum(scope_of([origin])[: len(scope)] == scope for origin in whole)
            if members > len(origins) and any("." in origin for origin in origins):
                return False
        return True

    def _origins(self, places: range, owned: Sequence[str]) -> list[str]:
        """The names of the weights of statements, and of owned parameters."""
        weights = [weight for i in places for weight in self.body.statements[i].weights]
        weights += [one.weight for one in self.body.owned if one.token in owned]
        return [weight.origin[0] for weight in weights if weight.origin]

    def _alike(self, starts: Sequence[int], length: int) -> list[list[_Part]]:
        """The occurrences by how their values are connected."""
        groups: dict[str, list[_Part]] = {}
        for start in starts:
            part = self._part(start, length)
            groups.setdefault(part.text, []).append(part)
        return list(groups.values())

    def _part(self, start: int, length: int) -> _Part:
        inside = range(start, start + length)
        statements = self.body.statements
        made = [t.strip("§") for i in inside for t in statements[i].targets if t != "_"]
        own = {owned.token for owned in self.body.owned}
        outside = {t for i, s in enumerate(statements) if i not in inside for t in TOKEN.findall(s.text)}
        outside |= {t for code in self.body.results for t in TOKEN.findall(code.text)}
        arguments: list[str] = []
        owned: list[str] = []
        for i in inside:
            for token in TOKEN.findall(statements[i].text):
                if token in made or token in arguments or token in owned:
                    continue
                (owned if token in own and token not in outside else arguments).append(token)
        local = {token: f"a{i}" for i, token in enumerate(arguments)}
        local |= {token: f"m{i}" for i, token in enumerate(made)} | {token: f"o{i}" for i, token in enumerate(owned)}
        lines = [f"{', '.join(s.targets)} = {s.text}" for s in statements[start : start + length]]
        text = TOKEN.sub(lambda match: f"§{local[match.group(1)]}§", "\n".join(lines))
        declared = [next(o for o in self.body.owned if o.token == token) for token in owned]
        text += "".join("\n" + TOKEN.sub("", one.line) for one in declared)
        numbers = tuple(_NUMBER.findall(text))
        return _Part(start, tuple(arguments), tuple(made), tuple(owned), _NUMBER.sub("#", text), numbers)

    def _results(self, parts: Sequence[_Part]) -> list[int]:
        """Which of the values that a part makes are read outside of it, in any occurrence."""
        found: set[int] = set()
        for part in parts:
            inside = self._inside(part)
            read = {t for i, s in enumerate(self.body.statements) if i not in inside for t in TOKEN.findall(s.text)}
            read |= {t for code in self.body.results for t in TOKEN.findall(code.text)}
            found |= {i for i, token in enumerate(part.made) if token in read}
        return sorted(found)

    def _inside(self, part: _Part) -> range:
        made, end = set(part.made), part.start
        statements = self.body.statements
        while end < len(statements) and made.intersection(t.strip("§") for t in statements[end].targets):
            end += 1
        return range(part.start, end)

    def _fits(self, parts: Sequence[_Part]) -> bool:
        differing = [column for column in zip(*(p.numbers for p in parts), strict=True) if len(set(column)) > 1]
        if len(set(differing)) > _MOST_SETTINGS or not parts[0].arguments or len(self._results(parts)) != 1:
            return False
        says_batch = re.search(r"\bbatch\b", parts[0].text) is not None
        return not says_batch or self._batched(parts) is not None

    def _batched(self, parts: Sequence[_Part]) -> int | None:
        for i in range(len(parts[0].arguments)):
            if all(self.batch_first(part.arguments[i]) for part in parts):
                return i
        return None

    # A layer in place of its occurrences.

    def _take_out(self, parts: list[_Part]) -> None:
        first = parts[0]
        columns = list(zip(*(part.numbers for part in parts), strict=True))
        names, texts = _settings(first.text, columns)
        made = self._results(parts)
        statements, owned = self._layer_body(first, texts)
        name = self.namer.distinct(self._name(parts))
        says_batch = re.search(r"\bbatch\b", first.text) is not None
        batched = self._batched(parts) if says_batch else None
        kinds = {key: "int" if all(n.isdigit() for n in columns[place]) else "float" for key, place in names.items()}
        results = tuple(first.made[i] for i in made)
        self.layers.append(Layer(name, kinds, first.arguments, batched, owned, statements, results))
        for part in reversed(parts):
            inside = self._inside(part)
            weights = [o.weight for token in part.owned for o in self.body.owned if o.token == token]
            weights += [w for i in inside for w in self.body.statements[i].weights]
            values = [column[parts.index(part)] for column in (columns[i] for i in names.values())]
            call = name + (f"({', '.join(values)})" if values else "")
            given = [f"§{token}§" for token in part.arguments]
            text = f"{given[0]} |> {call}" if len(given) == 1 else f"{call}({', '.join(given)})"
            targets = tuple(f"§{part.made[i]}§" for i in made)
            self.body.statements[inside.start : inside.stop] = [Statement(targets, text, tuple(weights))]
            self.body.owned = [o for o in self.body.owned if o.token not in part.owned]

    def _layer_body(self, part: _Part, texts: Sequence[str]) -> tuple[tuple[Statement, ...], tuple[Owned, ...]]:
        """The statements of an occurrence with settings in place of numbers."""
        pending = iter(texts)
        inside = self._inside(part)
        statements: list[Statement] = []
        for i in inside:
            one = self.body.statements[i]
            statements.append(Statement(one.targets, _NUMBER.sub(lambda _: next(pending), one.text), one.weights))
        owned: list[Owned] = []
        for token in part.owned:
            one = next(o for o in self.body.owned if o.token == token)
            head, mark, tail = one.line.partition(f"§{token}§")
            owned.append(Owned(token, head + mark + _NUMBER.sub(lambda _: next(pending), tail), one.weight))
        return tuple(statements), tuple(owned)

    def _name(self, parts: Sequence[_Part]) -> str:
        """A name after the module to which the weights of all occurrences belong."""
        words: list[str] = []
        for part in parts:
            origins = [w.origin[0] for i in self._inside(part) for w in self.body.statements[i].weights if w.origin]
            scope = [identifier(word) for word in scope_of(origins) if not word.isdigit()]
            words.append(scope[-1] if scope else "")
        found = (
            words[0].rstrip("0123456789")
            if words[0] and len({word.rstrip("0123456789") for word in words}) == 1
            else ""
        )
        singular = found[:-1] if found.endswith("s") and not found.endswith("ss") and len(found) > 3 else found
        singular = singular.strip("_")
        usable = singular.isidentifier() and len(singular) > 1 and singular not in ("layer", *self.called)
        return singular if usable else "block"

    # Chains.

    def _loop(self) -> None:
        """`x = x |> block` again and again is a `for`."""
        statements = self.body.statements
        folded: list[Statement] = []
        i = 0
        while i < len(statements):
            end = i + 1
            while end < len(statements) and self._goes_on(statements[end - 1], statements[end]):
                end += 1
            if end - i < 2:
                folded.append(statements[i])
                i += 1
                continue
            first, last = statements[i], statements[end - 1]
            place = _chained(statements[i], statements[i + 1])
            assert place is not None
            source = TOKEN.findall(first.text)[place]
            weights = tuple(w for s in statements[i:end] for w in s.weights)
            folded.append(Statement(last.targets, first.text, weights, source, end - i))
            i = end
        self.body.statements = folded

    def _goes_on(self, one: Statement, other: Statement) -> bool:
        if not one.weights or len(one.targets) != 1 or len(other.targets) != 1 or _chained(one, other) is None:
            return False
        token = one.targets[0]
        reads = sum(s.text.count(token) for s in self.body.statements) + sum(
            c.text.count(token) for c in self.body.results
        )
        called = any(re.search(rf"\b{layer.name}\b", one.text) for layer in self.layers)
        return reads == other.text.count(token) == 1 and called


def _chained(one: Statement, other: Statement) -> int | None:
    """The place of the token of `other` that is the result of `one`, if they are alike otherwise."""
    if _bare(one.text) != _bare(other.text):
        return None
    pairs = list(zip(TOKEN.findall(one.text), TOKEN.findall(other.text), strict=True))
    target = one.targets[0].strip("§")
    places = [i for i, (a, b) in enumerate(pairs) if a != b]
    return places[0] if len(places) == 1 and pairs[places[0]][1] == target else None


def _bare(text: str) -> str:
    return TOKEN.sub("§", text)


def _sign(statement: Statement) -> str:
    shown = "".join("_" if t == "_" else "§" for t in statement.targets)
    return f"{shown}={_NUMBER.sub('#', _bare(statement.text))}{len(statement.weights)}"


def _apart(starts: Sequence[int], length: int) -> list[int]:
    """The places that do not overlap, from the left."""
    chosen: list[int] = []
    for start in starts:
        if not chosen or start >= chosen[-1] + length:
            chosen.append(start)
    return chosen


def _settings(text: str, columns: Sequence[Sequence[str]]) -> tuple[dict[str, int], list[str]]:
    """Names of the numbers that differ, with a place of each, and the text of every number in a layer's body."""
    names: dict[str, int] = {}
    known: dict[tuple[str, ...], str] = {}
    texts: list[str] = []
    pieces = text.split("#")
    for place, column in enumerate(columns):
        if len(set(column)) == 1:
            texts.append(column[0])
            continue
        if tuple(column) not in known:
            multiple = _multiple(column, known)
            if multiple is None:
                name = _setting_name(pieces[place], names)
                names[name] = place
                known[tuple(column)] = name
            else:
                known[tuple(column)] = multiple
        texts.append(known[tuple(column)])
    return names, texts


def _multiple(column: Sequence[str], known: dict[tuple[str, ...], str]) -> str | None:
    """`4 * channels`, where a number is that in every occurrence."""
    if not all(one.isdigit() for one in column):
        return None
    for other, name in known.items():
        if name.isidentifier() and all(one.isdigit() and int(one) > 0 for one in other):
            factors = {int(a) / int(b) for a, b in zip(column, other, strict=True)}
            factor = factors.pop()
            if not factors and factor.is_integer() and factor > 1:
                return f"{int(factor)} * {name}"
    return None


def _setting_name(before: str, names: dict[str, int]) -> str:
    keyword = re.search(r"(\w+) = \[?$", before)
    if keyword:
        wanted = keyword.group(1)
    elif re.search(r"conv\w*\($", before):
        wanted = "channels"
    elif re.search(r"dense\($", before):
        wanted = "units"
    else:
        wanted = "n"
    found, number = wanted, 1
    while found in names:
        number += 1
        found = f"{wanted}{number}"
    return found
