"""The options that all sources of text share: the kind of token, and the vocabulary."""

from __future__ import annotations

from compiler.errors.diagnostics import DataError
from runtime.data.formats.format import Options
from runtime.data.text.tokenizer import SPECIAL, UNITS, TokenRules

BYTES = 256


def rules_of(options: Options, usual: str) -> TokenRules:
    """The rules that the options say; `usual` is the unit where they say none. Raises DataError."""
    unit = options.choice("tokens", UNITS) or usual
    most = options.number("vocabulary")
    if most is not None and most <= len(SPECIAL):
        raise DataError(
            f"option `vocabulary` is {most}, and {len(SPECIAL)} tokens have a special meaning",
            options.place,
            fix="give the most tokens that the vocabulary may have",
        )
    if unit == "bpe" and most is None:
        raise DataError(
            'tokens of the unit "bpe" need the size of their vocabulary',
            options.place,
            fix="give one, such as `vocabulary = 8000`",
        )
    if unit == "bpe" and most is not None and most < BYTES + len(SPECIAL):
        raise DataError(
            f"option `vocabulary` is {most}, and byte pairs have the {BYTES} bytes and {len(SPECIAL)} special tokens",
            options.place,
            fix=f"give at least {BYTES + len(SPECIAL)}, such as `vocabulary = 8000`",
        )
    return TokenRules(unit, options.flag("lower") or False, options.number("min_frequency") or 1, most)
