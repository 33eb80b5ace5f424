"""Runs the grammar's LALR tables over the tokens of one declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from compiler.syntax.grammar_tables import CALL, PASS, GrammarRule, Tables
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
        """What `actions`, by rule name, make of the tokens (the last has the kind END) and of each other.

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
    """The children that count: without punctuation, with None for what is absent, and with lists spliced in."""
    selected: list[Any] = []
    for position in rule.children:
        if position in rule.splices:
            selected += children[position]
        else:
            selected.append(children[position] if position >= 0 else None)
    return selected
