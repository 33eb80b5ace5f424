"""Byte-pair encoding by the `tokenizers` library, which is imported only where a vocabulary asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from compiler.errors.diagnostics import CheckpointError
from runtime.data.specs import Array
from runtime.support.files import JsonValue, missing, parse_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer


# Choices of the library that `learnt` does not make.
_OTHER_WAYS = (
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
)


def learnt(texts: Iterable[str], most: int, min_frequency: int) -> tuple[str, tuple[str, ...]]:
    """How the bytes of `texts` are joined into at most `most` tokens, as JSON, and the tokens by number.

    A token shows its bytes as the library does: a blank as `Ġ`. Raises UsageError without the library.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise _missing() from error
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=most,
        min_frequency=min_frequency,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    numbers = tokenizer.get_vocab()
    return tokenizer.to_str(), tuple(sorted(numbers, key=lambda token: numbers[token]))


def encode(pairs: str, texts: Sequence[str], first: int) -> list[Array]:
    """The numbers (i32) of each text, of which the least is `first`."""
    found = _loaded(pairs).encode_batch(list(texts))
    return [np.array(encoding.ids, np.int32) + np.int32(first) for encoding in found]


def decode(pairs: str, numbers: Sequence[int]) -> str:
    """The text of tokens, whose least number is 0. Bytes that are no text become `�`."""
    return _loaded(pairs).decode(list(numbers))


def is_like_learnt(pairs: str, count: int) -> bool:
    """Whether a text is of the form that `learnt` gives, with `count` tokens.

    A run may come from others. The library knows steps that take no end, such as expressions that are looked for, and
    numbers that no embedding has.
    """
    try:
        match parse_json(pairs.encode("utf-8", "surrogatepass")):
            case {
                "added_tokens": [],
                "normalizer": None,
                "post_processor": None,
                "truncation": None,
                "padding": None,
                "pre_tokenizer": {"type": "ByteLevel"},
                "decoder": {"type": "ByteLevel"},
                "model": {"type": "BPE", "vocab": Mapping() as numbers},
            }:
                found = [number for number in numbers.values() if isinstance(number, int)]
                return len(numbers) == count and sorted(found) == list(range(count))
            case _:
                return False
    except ValueError:
        return False


def merges_of(pairs: str) -> tuple[tuple[str, str], ...] | None:
    """The pairs of tokens that are joined, the first ones first; None where texts are cut in another way."""
    match parse_json(pairs.encode()):
        case {
            "pre_tokenizer": {"add_prefix_space": False, "use_regex": True},
            "model": {"merges": list(merges), **model},
        }:
            found = tuple(map(_pair, merges))
            return None if any(model.get(key) for key in _OTHER_WAYS) else found
        case _:
            return None


def _pair(merge: JsonValue) -> tuple[str, str]:
    match merge:
        case [str(left), str(right)]:
            return left, right
        case _:
            raise CheckpointError("the byte pairs of the tokenizer are damaged", fix="restore data.json of the run")


@lru_cache(maxsize=2)  # of a source and a target text
def _loaded(pairs: str) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise _missing() from error
    try:
        return Tokenizer.from_str(pairs)
    except Exception as error:  # the library has no kind of its own
        fix = "restore data.json of the run, or train again"
        raise CheckpointError(f"the byte pairs of the tokenizer are damaged ({error})", fix=fix) from error


def _missing():
    return missing("tokenizers", "text", 'the unit "bpe"')
