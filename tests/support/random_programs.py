"""Programs for tests of the whole front end: derived from the grammar at random, or sound ones with other words.

A seed always gives the same programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

from broken_sources import programs
from lark import Lark

from compiler.errors.diagnostics import Source
from compiler.syntax.grammar_tables import GRAMMAR
from compiler.syntax.lexer import KEYWORDS, OPERATORS, lex

LONG = 2500  # characters
NAMES = [
    *("x", "y", "h", "n", "batch", "time", "M", "f", "W", "label", "logits", "units", "training", "none", "pi", "loss"),
    *("dense", "relu", "softmax", "lstm", "gru", "conv", "embedding", "dropout", "batch_norm", "attention", "residual"),
    *("sum", "mean", "max", "exp", "log", "where", "reshape", "split", "concat", "zeros", "ones", "range", "einsum"),
    *("adam", "lbfgs", "cosine", "he_normal", "cross_entropy", "mse", "accuracy", "optimizer", "epochs", "f32", "i32"),
]
NUMBERS = ["0", "1", "2", "3", "4", "7", "16", "0.5", "1e-3", "1e9", "999999999999"]
STRINGS = ['"a"', '"ij,jk->ik"', '"b (h d) -> b h d"', '"*.W"', '"data.csv"', '""']
_CHOICES = {"NAME": NAMES, "NUMBER": NUMBERS, "STRING": STRINGS}


class _Grammar:
    """The rules by what they derive, with the depth of the smallest tree of each."""

    def __init__(self) -> None:
        parser: Any = Lark(GRAMMAR.read_text("utf-8"), parser="lalr", lexer="basic", maybe_placeholders=True)
        self.rules: dict[str, list[list[Any]]] = {}
        for rule in parser.rules:
            self.rules.setdefault(str(rule.origin.name), []).append(list(rule.expansion))
        self.depths: dict[str, int] = {}
        while len(self.depths) < len(self.rules):
            for name, bodies in self.rules.items():
                known = [max((self.of(s) for s in body), default=0) for body in bodies if all(map(self.knows, body))]
                if known:
                    self.depths[name] = 1 + min(known)

    def knows(self, symbol: Any) -> bool:
        return symbol.is_term or symbol.name in self.depths

    def of(self, symbol: Any) -> int:
        return 0 if symbol.is_term else self.depths[str(symbol.name)]


@cache
def _grammar() -> _Grammar:
    return _Grammar()


def derived(seed: int, count: int, declarations: int = 3) -> Iterator[str]:
    """`count` texts that the grammar allows, of some declarations each."""
    random = Random(seed)
    for _ in range(count):
        yield "\n".join(_declaration(random) for _ in range(random.randint(1, declarations))) + "\n"


def _declaration(random: Random) -> str:
    words: list[str] = []
    _derive("start", random, random.randint(8, 22), words)
    return " ".join(words).replace("\n", "\n   ")


def _derive(name: str, random: Random, depth: int, words: list[str]) -> None:
    """Append a derivation; where `depth` is used up, one of the smallest."""
    grammar = _grammar()
    bodies = grammar.rules[name]
    fitting = [body for body in bodies if max(map(grammar.of, body), default=0) < depth]
    least = min(max(map(grammar.of, body), default=0) for body in bodies)
    smallest = [body for body in bodies if max(map(grammar.of, body), default=0) == least]
    for symbol in random.choice(fitting or smallest):
        if symbol.is_term:
            words.append(_word(str(symbol.name), random))
        else:
            _derive(str(symbol.name), random, depth - 1, words)


def _word(kind: str, random: Random) -> str:
    if kind in _CHOICES:
        return random.choice(_CHOICES[kind])
    return _SPELLED[kind]


_SPELLED = {kind: text for text, kind in (KEYWORDS | OPERATORS).items()} | {"_NEWLINE": "\n", "NEWLINE": "\n"}


def reworded(seed: int, count: int) -> Iterator[str]:
    """`count` programs of the project in which some names, numbers and operators are others: most are still parsed."""
    random = Random(seed)
    texts = [text for text in programs() if len(text) < LONG]
    for _ in range(count):
        text = random.choice(texts)
        for _ in range(random.randint(1, 3)):
            text = _with_another_word(text, random)
        yield text


def _with_another_word(text: str, random: Random) -> str:
    tokens = [token for token in lex(Source("", text)).tokens if token.text.strip()]
    if not tokens:
        return text
    token = random.choice(tokens)
    alike = [other.text for other in tokens if other.kind == token.kind]
    word = random.choice([*alike, *_CHOICES.get(token.kind, list(OPERATORS))])
    lines = text.split("\n")
    line, start = lines[token.line - 1], token.column - 1
    lines[token.line - 1] = line[:start] + word + line[start + len(token.text) :]
    return "\n".join(lines)
