"""Text to the numbers of tokens and back, by a vocabulary that was learnt from training text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict

import numpy as np

from compiler.support.record import record
from runtime.data.specs import Array
from runtime.data.text import byte_pairs
from runtime.support.files import JsonObject, JsonValue
from runtime.support.restored import restored

UNITS = ("char", "word", "space", "bpe")
SPECIAL = ("<pad>", "<unknown>", "<start>", "<end>")
"""The first tokens of every vocabulary: padding, words outside the vocabulary, and the ends of a text."""
PAD, UNKNOWN, START, END = range(len(SPECIAL))

# A word with its inner hyphens and apostrophes, or any other mark by itself.
_WORDS = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")
_NO_SPACE_BEFORE, _NO_SPACE_AFTER = frozenset(".,;:!?)]}%…"), frozenset("([{")

_BLANKS = str.maketrans({" ": "␣", "\n": "↵", "\t": "→"})


@record
class TokenRules:
    """How a text is cut into tokens, and which of them a vocabulary takes.

    `unit`: `char`; `word` (marks stand alone); `space` (what stands between blanks); `bpe` (pairs of bytes that are
    frequent, Sennrich et al., "Neural machine translation of rare words with subword units", 2016). A vocabulary has
    tokens that occur at least `min_frequency` times, at most `most` with the special ones.
    """

    unit: str
    lower: bool = False
    min_frequency: int = 1
    most: int | None = None


@record
class Tokenizer:
    """`tokens`: the text of each number, the special ones first. `pairs`: how bytes are joined, for `bpe`."""

    rules: TokenRules
    tokens: tuple[str, ...]
    pairs: str | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, texts: Sequence[str]) -> list[Array]:
        """The numbers (i32) of each text, without ends."""
        if self.pairs is not None:
            return byte_pairs.encode(self.pairs, [_plain(text, self.rules) for text in texts], len(SPECIAL))
        numbers = {token: number for number, token in enumerate(self.tokens) if number >= len(SPECIAL)}
        return [
            np.array([numbers.get(piece, UNKNOWN) for piece in _pieces(text, self.rules)], np.int32) for text in texts
        ]

    def unknown(self, text: str) -> tuple[str, ...]:
        """The pieces of a text that are not in the vocabulary; pairs of bytes make up every text."""
        known = set(self.tokens[len(SPECIAL) :])
        pieces = () if self.pairs is not None else _pieces(text, self.rules)
        return tuple(dict.fromkeys(piece for piece in pieces if piece not in known))

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of tokens up to the first `<end>`; the other special tokens but `<unknown>` are left out."""
        kept: list[int] = []
        for number in numbers:
            if number == END:
                break
            if number not in (PAD, START):
                kept.append(int(number))
        if self.pairs is not None:
            return byte_pairs.decode(self.pairs, [number - len(SPECIAL) for number in kept if number != UNKNOWN])
        return _joined([self.tokens[number] for number in kept], self.rules.unit)

    def shown(self, number: int) -> str:
        """One token as a reader sees it by itself: blanks as signs."""
        if not 0 <= number < len(self.tokens):
            return str(number)
        is_bytes = self.pairs is not None and number >= len(SPECIAL)
        text = self.decode([number]) if is_bytes else self.tokens[number]
        return text.translate(_BLANKS)

    def to_json(self) -> JsonObject:
        return asdict(self)


def learnt(rules: TokenRules, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer whose vocabulary comes from `texts`.

    Characters stand in the order of their codes; words by how often they occur, equals by their codes.
    """
    if rules.unit == "bpe":
        most = (rules.most or 0) - len(SPECIAL)
        pairs, tokens = byte_pairs.learnt((_plain(text, rules) for text in texts), most, rules.min_frequency)
        return Tokenizer(rules, (*SPECIAL, *tokens), pairs)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_pieces(text, rules))
    frequent = [token for token, count in counts.items() if count >= rules.min_frequency and token not in SPECIAL]
    frequent.sort(key=lambda token: (-counts[token], token))
    if rules.most is not None:
        frequent = frequent[: rules.most - len(SPECIAL)]
    return Tokenizer(rules, (*SPECIAL, *(sorted(frequent) if rules.unit == "char" else frequent)))


def tokenizer_from_json(value: JsonValue) -> Tokenizer:
    """The inverse of `Tokenizer.to_json`. Raises ValueError for anything else."""
    with suppress(ValueError):
        found = restored(Tokenizer, value)
        is_whole = found.pairs is None or byte_pairs.is_like_learnt(found.pairs, len(found) - len(SPECIAL))
        if is_whole and found.rules.unit in UNITS:
            return found
    raise ValueError("something else where a tokenizer should be")


def _plain(text: str, rules: TokenRules) -> str:
    return text.lower() if rules.lower else text


def _pieces(text: str, rules: TokenRules) -> Sequence[str]:
    text = _plain(text, rules)
    if rules.unit == "char":
        return text
    return _WORDS.findall(text) if rules.unit == "word" else text.split()


def _joined(tokens: Sequence[str], unit: str) -> str:
    if unit == "char":
        return "".join(tokens)
    if unit == "space":
        return " ".join(tokens)
    pieces: list[str] = []
    for number, token in enumerate(tokens):
        is_close = token in _NO_SPACE_BEFORE or (number > 0 and tokens[number - 1] in _NO_SPACE_AFTER)
        pieces += [token] if number == 0 or is_close else [" ", token]
    return "".join(pieces)
