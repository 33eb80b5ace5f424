"""Threefry-2x32 as LLVM instructions: the words of random numbers by key and counter, and floats made of them."""

from __future__ import annotations

from typing import TypeAlias

from compiler.targets.llvm.assembler import Value, call
from compiler.types import DType

Words: TypeAlias = tuple[Value, Value]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def halves(number: Value) -> Words:
    """The low and the high 32 bits of an i64."""
    low = number.converted("trunc", DType.I32)
    return low, number.binary("lshr", 32).converted("trunc", DType.I32)


def threefry(key: Words, counter: Words) -> Words:
    """Both words, after 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)."""
    keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            first = first + second
            second = call("fshl", second, second, second.like(rotation)) ^ first
        first = first + keys[(group + 1) % 3]
        second = second + keys[(group + 2) % 3] + (group + 1)
    return first, second


def drawn(key: Value, counter: Value, dtype: DType) -> Value:
    """The result of the op `threefry` for an i64 key and counter: both words, or a number in [0, 1)."""
    first, second = threefry(halves(key), halves(counter))
    if dtype is not DType.I64:
        return unit(first, dtype)
    low, high = (word.converted("zext", DType.I64) for word in (first, second))
    return low | (high << 32)


def unit(word: Value, dtype: DType) -> Value:
    """24 bits of a word as a float in [0, 1)."""
    return word.binary("lshr", 8).converted("uitofp", dtype) * 2.0**-24
