"""Programs changed at random, for tests of everything that reads source text; a seed always gives the same changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

from compiler.errors.diagnostics import Source
from compiler.syntax.lexer import lex

LONG = 1500  # characters
ROOT = Path(__file__).resolve().parents[2]
MARKS = [
    *"()[]{},.:=+-*/%@^<>|!#\"'\\;$`~?&\t\r\n 0aZé€\x00\u2028",
    *("|>", "..", "...", "<-", "->", "==", "**", "##", "\n\n", "1e", ".5", "in", "if", "else", "scan", "fn", "None"),
]


@cache
def programs() -> list[str]:
    """All programs of the project."""
    folders = ("compiler/stdlib", "examples", "benchmarks/zoo", "tests/golden/parse")
    return [path.read_text("utf-8") for folder in folders for path in sorted((ROOT / folder).rglob("*.dl"))]


def broken(seed: int, count: int, most_changes: int = 4) -> Iterator[str]:
    """`count` texts, each a program or a part of one with one or more changes."""
    random = Random(seed)
    texts = programs()
    for _ in range(count):
        text = random.choice(texts)
        if len(text) > LONG:
            text = _part(text, random)
        for _ in range(random.randint(1, most_changes)):
            text = random.choice((_delete, _duplicate, _swap, _insert, _cut, _scramble))(text, random)
        yield text


def _part(text: str, random: Random) -> str:
    """Whole declarations of a long text, from one on for some 1000 characters: what is broken is broken by a change."""
    starts = [0, *(match.start() for match in re.finditer(r"^(?=[a-z#])", text, re.MULTILINE))]
    start = random.choice(starts)
    return text[start : next((end for end in starts if end >= start + 1000), len(text))]


def _tokens(text: str, random: Random, count: int) -> list[tuple[int, int]]:
    """The places of some tokens in the text."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    tokens = lex(Source("", text)).tokens
    places = [(starts[token.line - 1] + token.column - 1, len(token.text)) for token in tokens]
    return sorted((start, start + size) for start, size in random.sample(places, min(count, len(places))))


def _delete(text: str, random: Random) -> str:
    for start, stop in reversed(_tokens(text, random, 1)):
        text = text[:start] + text[stop:]
    return text


def _duplicate(text: str, random: Random) -> str:
    for start, stop in _tokens(text, random, 1):
        text = text[:stop] + " " + text[start:stop] + text[stop:]
    return text


def _swap(text: str, random: Random) -> str:
    places = _tokens(text, random, 2)
    if len(places) < 2:
        return text
    (a, b), (c, d) = places
    return text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:]


def _insert(text: str, random: Random) -> str:
    place = random.randint(0, len(text))
    return text[:place] + random.choice(MARKS) + text[place:]


def _cut(text: str, random: Random) -> str:
    return text[: random.randint(0, len(text))]


def _scramble(text: str, random: Random) -> str:
    place = random.randint(0, len(text))
    noise = bytes(random.randrange(256) for _ in range(random.randint(1, 8))).decode("utf-8", "replace")
    return text[:place] + noise + text[place + len(noise) :]
