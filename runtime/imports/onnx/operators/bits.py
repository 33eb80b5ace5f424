"""Operators on the bits of numbers, and on counts of whole numbers in a row."""

from __future__ import annotations

import numpy as np

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.graph import DTYPES, Tensor, Value
from runtime.imports.onnx.site import Site, Translation

_FIELDS = {"float32": "8, 23", "float64": "11, 52"}  # bits of the exponent and of the fraction
_WHOLE = {"float32": "int32", "float64": "int64"}


def _bit_cast(site: Site) -> Code:
    before, after = site.value(0).dtype, site.result().dtype
    x = site.tensor(0)
    if before == after:
        return x
    if (before, after) == ("bool", "uint8"):
        return code.call("cast", code.call("where", x, code.number(1), code.number(0)), Code("u8"))
    if _WHOLE.get(before) == after:
        site.helper("bits_of")
        return code.call("cast", code.call(f"bits_of({_FIELDS[before]})", x), Code(DTYPES[after]))
    if _WHOLE.get(after) == before:
        site.helper("float_of_bits")
        return code.call("cast", code.call(f"float_of_bits({_FIELDS[after]})", x), Code(DTYPES[after]))
    raise site.refuse(f"of {before} as {after}", "convert the number, or store it in its own type")


def _held(site: Site, name: str, content: Tensor) -> Code:
    """A constant of the translation as a tensor of the model."""
    points = len(site.graph.sizes)
    held = Value(name, content.dtype.name, (content.shape,) * points, (content,) * points)
    site.graph.values[name] = held
    return site.of_constant(held)


def _counts(site: Site) -> Code:
    """How often each n-gram of a list stands in a row, with elements left out between its own."""
    pool = site.attribute("pool_int64s")
    if not pool:
        raise site.refuse("of texts", "a program of .dl has none: number the words before the model")
    starts, indexes = [*site.attribute("ngram_counts"), len(pool)], site.attribute("ngram_indexes")
    least, most = site.attribute("min_gram_length"), site.attribute("max_gram_length")
    length, name = site.fixed(site.value(0), site.rank() - 1), site.result().name
    site.helper("gram_counts")
    parts: list[Code] = []
    chosen: list[int] = []
    for n in range(1, len(starts)):
        grams = np.array(pool[starts[n - 1] : starts[n]], np.int64).reshape(-1, n)
        first = sum((starts[k] - starts[k - 1]) // k for k in range(1, n))
        if not len(grams) or not least <= n <= most or n > length:
            continue
        skips = site.attribute("max_skip_count") if n > 1 else 0
        parts.append(code.call(f"gram_counts({n}, {skips})", site.tensor(0), _held(site, f"{name} grams {n}", grams)))
        chosen += range(first, first + len(grams))
    if not parts:
        raise site.refuse("of n-grams that no row has room for", "leave it out of the model")
    counts = parts[0] if len(parts) == 1 else code.call("concat", *parts, axis=-1)
    return _weighted(site, counts, chosen, [indexes[gram] for gram in chosen])


def _weighted(site: Site, counts: Code, grams: list[int], places: list[int]) -> Code:
    """Counts of n-grams in their places of the result, by the weighting that `mode` names."""
    columns, mode = site.fixed(site.result(), site.result().rank - 1), site.attribute("mode")
    given = site.attribute("weights")
    weights = np.array(given, np.float32)[grams] if given and mode != "TF" else np.ones(len(grams), np.float32)
    if mode == "IDF" and len(set(places)) < len(places):
        raise site.refuse("of n-grams that share a place", "give each a place of its own")
    matrix = np.zeros((len(places), columns), np.float32)
    matrix[np.arange(len(places)), places] = weights
    if mode == "IDF":
        counts = code.call("where", code.binary(">", counts, code.number(0)), code.number(1), code.number(0))
    return code.binary("@", code.call("cast", counts, Code("f32")), _held(site, f"{site.result().name} by", matrix))


BITS: dict[str, Translation] = {"BitCast": _bit_cast, "TfIdfVectorizer": _counts}
