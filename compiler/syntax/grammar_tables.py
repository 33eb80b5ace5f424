"""The grammar's LALR tables, and the automaton that runs them over the tokens of one declaration.

The tables are built with Lark, stored beside the grammar, and read without Lark.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias, cast

from compiler.support.record import record
from compiler.syntax.lexer import END, Token

Actions: TypeAlias = Mapping[str, Callable[..., Any]]


class UnexpectedToken(Exception):
    """The token at `position` cannot follow those before it; `states` is the automaton's stack there."""

    def __init__(self, position: int, states: tuple[int, ...]) -> None:
        super().__init__(position)
        self.position, self.states = position, states


class Automaton:
    """A parser of `tables`."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        # Where rules that only pass a child through lead to: by state, rule and next terminal. Expressions have a
        # dozen levels of precedence, so this halves the time of a parse.
        self._shortcuts: dict[tuple[int, str, str], int] = {}

    def run(self, tokens: Sequence[Token], actions: Actions) -> Any:
        """The result of `actions`, by rule name, on the tokens (the last has the kind END) and on each other.

        Raises `UnexpectedToken` at the first token that the grammar does not allow.
        """
        rows, rules, shortcuts = self.tables.actions, self.tables.rules, self._shortcuts
        states, values = [self.tables.start], list[Any]()
        for position, token in enumerate(tokens):
            kind = token.kind
            while True:
                action = rows[states[-1]].get(kind)
                if action is None:
                    raise UnexpectedToken(position, tuple(states))
                if action >= 0:
                    states.append(action)
                    values.append(token)
                    break
                rule = rules[~action]
                kept = len(values) - rule.size
                children = values[kept:]
                del values[kept:], states[kept + 1 :]
                values.append(_reduce(rule, children, actions))
                after = shortcuts.get((states[-1], rule.origin, kind))
                states.append(self._after(states[-1], rule.origin, kind) if after is None else after)
                if kind == END and states[-1] == self.tables.end:
                    return values[0]
        raise AssertionError("the tokens end with END, which shifts or reduces to the start rule")

    def check(self, tokens: Sequence[Token]) -> None:
        """Raise `UnexpectedToken` at the first token that the grammar does not allow."""
        states = [self.tables.start]
        for position, token in enumerate(tokens):
            if not self._advance(states, token.kind):
                raise UnexpectedToken(position, tuple(states))

    def expected(self, states: tuple[int, ...]) -> frozenset[str]:
        """All kinds of token that can come next."""
        return frozenset(kind for kind in self.tables.actions[states[-1]] if self._advance(list(states), kind))

    def _advance(self, states: list[int], kind: str) -> bool:
        """Move the stack over a token of `kind`; false if it is refused, which some reductions may precede."""
        while (action := self.tables.actions[states[-1]].get(kind)) is not None:
            if action >= 0:
                states.append(action)
                return True
            rule = self.tables.rules[~action]
            del states[len(states) - rule.size :]
            states.append(self.tables.gotos[states[-1]][rule.origin])
            if kind == END and states[-1] == self.tables.end:
                return True
        return False

    def _after(self, state: int, origin: str, kind: str) -> int:
        """The state after a rule, and after all rules that then only pass it through."""
        after = self.tables.gotos[state][origin]
        action = self.tables.actions[after].get(kind)
        if action is not None and action < 0:
            rule = self.tables.rules[~action]
            if rule.kind == PASS and rule.size == 1:
                after = self._after(state, rule.origin, kind)
        self._shortcuts[state, origin, kind] = after
        return after


def _reduce(rule: GrammarRule, children: list[Any], actions: Actions) -> Any:
    if rule.kind == PASS:
        return children[rule.children[0]]
    if not rule.is_plain:
        children = _selected(rule, children)
    return actions[rule.name](*children) if rule.kind == CALL else children


def _selected(rule: GrammarRule, children: list[Any]) -> list[Any]:
    """The children that count: without punctuation, with None for absent ones, and with lists spliced in."""
    selected: list[Any] = []
    for position in rule.children:
        if position in rule.splices:
            selected += children[position]
        else:
            selected.append(children[position] if position >= 0 else None)
    return selected


GRAMMAR = Path(__file__).parents[2] / "grammar" / "dl.lark"
STORED = GRAMMAR.with_suffix(".tables.json")

# The treatment of the children of a reduced rule.
CALL, PASS, SPLICE = 0, 1, 2


@record
class GrammarRule:
    """One alternative of the grammar.

    `kind` is CALL (the action `name` makes a node of the children), PASS (the single child stands for the rule) or
    SPLICE (the children go into the rule above). `children` lists the symbols that count, by position; -1 is an
    absent optional. `splices` are the positions whose value is a list to be spliced in. `is_plain`: all symbols
    count, and none is spliced.
    """

    origin: str
    size: int
    kind: int
    name: str
    children: tuple[int, ...]
    splices: tuple[int, ...]
    is_plain: bool


@record
class Tables:
    """An LALR automaton.

    `actions[state]`, by terminal: a state to shift to, or the complement of a rule to reduce by. `gotos[state]`, by
    rule name: the state after that rule. Parsing ends in state `end`, at the end of the text.
    """

    actions: tuple[dict[str, int], ...]
    gotos: tuple[dict[str, int], ...]
    rules: tuple[GrammarRule, ...]
    start: int
    end: int


def load_tables() -> Tables:
    """The tables of the grammar. The stored ones are used if they are those of the grammar's text."""
    grammar = GRAMMAR.read_text("utf-8")
    try:
        document = json.loads(STORED.read_text("utf-8"))
        if document["grammar"] == _digest(grammar):
            return _decode(document)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        pass  # missing or damaged: as good as outdated
    return build_tables(grammar)


def build_tables(grammar: str) -> Tables:
    """The tables of a grammar in Lark's notation. Raises Lark's `GrammarError` if it is not LALR(1)."""
    # Lark is slow to import and only needed after a change of the grammar.
    from lark import Lark
    from lark.lexer import Lexer
    from lark.parsers.lalr_analysis import Shift

    class NoLexer(Lexer):
        """Lark's own lexers are not used, so they need not be built."""

        def __init__(self, configuration: Any) -> None: ...

        def lex(self, lexer_state: Any, parser_state: Any) -> Any: ...

    parser = Lark(grammar, parser="lalr", lexer=NoLexer, strict=True, maybe_placeholders=True)
    table = cast(Any, parser).parser.parser.parser.parse_table
    first, last = table.start_states["start"], table.end_states["start"]
    # Lark numbers states and rules differently in each run; the order of a walk from the start is the same in all.
    numbers: dict[Any, int] = {first: 0}
    rules: dict[Any, int] = {}
    actions: list[dict[str, int]] = []
    gotos: list[dict[str, int]] = []
    waiting = deque([first])
    while waiting:
        row = table.states[waiting.popleft()]
        actions.append({})
        gotos.append({})
        for symbol in sorted(row):
            action, argument = row[symbol]
            if action is not Shift:
                actions[-1][symbol] = ~rules.setdefault(argument, len(rules))
                continue
            if argument not in numbers:
                numbers[argument] = len(numbers)
                waiting.append(argument)
            is_terminal = symbol == "$END" or symbol.isupper()
            (actions if is_terminal else gotos)[-1][symbol] = numbers[argument]
    return Tables(tuple(actions), tuple(gotos), tuple(_rule(rule) for rule in rules), numbers[first], numbers[last])


def _rule(rule: Any) -> GrammarRule:
    """A rule of Lark's, which has no type declarations."""
    origin = str(rule.origin.name)
    absent = _absent_before(rule.options.empty_indices, len(rule.expansion))
    children: list[int] = []
    splices: list[int] = []
    for position, symbol in enumerate(rule.expansion):
        children += [-1] * absent[position]
        if symbol.is_term and symbol.filter_out:
            continue
        children.append(position)
        if not symbol.is_term and symbol.name.startswith("_"):
            splices.append(position)
    children += [-1] * absent[-1]
    passes = rule.options.expand1 and rule.alias is None and len(children) == 1
    kind = SPLICE if origin.startswith("_") else PASS if passes else CALL
    name, size = str(rule.alias or origin), len(rule.expansion)
    is_plain = not splices and children == list(range(size))
    return GrammarRule(origin, size, kind, name, tuple(children), tuple(splices), is_plain)


def _absent_before(empty: tuple[bool, ...], size: int) -> list[int]:
    """How many absent optionals stand before each symbol, and after the last; `empty` is Lark's notation for it."""
    if not empty:
        return [0] * (size + 1)
    return [len(run) for run in "".join("1" if flag else "0" for flag in empty).split("0")]


def _encode(tables: Tables, grammar: str) -> str:
    """As JSON, one row a line. Equal rows are stored once."""
    rows: dict[str, int] = {}
    states = [
        [rows.setdefault(json.dumps(row, sort_keys=True), len(rows)) for row in pair]
        for pair in zip(tables.actions, tables.gotos, strict=True)
    ]
    rules = [
        [rule.origin, rule.size, rule.kind, rule.name, rule.children, rule.splices, rule.is_plain]
        for rule in tables.rules
    ]
    lines = [
        f'{{"grammar": "{_digest(grammar)}", "start": {tables.start}, "end": {tables.end},',
        '"rules": [\n' + ",\n".join(json.dumps(rule) for rule in rules) + "\n],",
        '"rows": [\n' + ",\n".join(rows) + "\n],",
        f'"states": {json.dumps(states)}}}\n',
    ]
    return "\n".join(lines)


def _decode(document: dict[str, Any]) -> Tables:
    rows: list[dict[str, int]] = document["rows"]
    states: list[tuple[int, int]] = document["states"]
    rules: list[Any] = document["rules"]
    return Tables(
        tuple(rows[actions] for actions, _ in states),
        tuple(rows[gotos] for _, gotos in states),
        tuple(
            GrammarRule(origin, size, kind, name, tuple(children), tuple(splices), is_plain)
            for origin, size, kind, name, children, splices, is_plain in rules
        ),
        document["start"],
        document["end"],
    )


def _digest(grammar: str) -> str:
    return sha256(grammar.encode()).hexdigest()


def write_tables() -> None:
    """Store the tables of the grammar as it stands."""
    grammar = GRAMMAR.read_text("utf-8")
    STORED.write_text(_encode(build_tables(grammar), grammar), "utf-8")


if __name__ == "__main__":
    write_tables()
