"""Threefry-2x32 as LLVM instructions: the words of random numbers by key and counter, and floats made of them."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.targets.llvm.text import REGISTER, Text, literal, splat_of, vector
from compiler.types import DType

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def halves(text: Text, number: str, lanes: int) -> tuple[str, str]:
    """The low and the high 32 bits of an i64."""
    wide, half = vector("i64", lanes), vector("i32", lanes)
    low = text.let(f"trunc {wide} {number} to {half}")
    shifted = text.let(f"lshr {wide} {number}, {splat_of('i64', '32', lanes)}")
    return low, text.let(f"trunc {wide} {shifted} to {half}")


def threefry(text: Text, key: Sequence[str], counter: Sequence[str], lanes: int) -> tuple[str, str]:
    """Both words, after 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)."""
    type_ = vector("i32", lanes)
    suffix = "i32" if lanes == 1 else f"v{lanes}i32"

    def add(left: str, right: str) -> str:
        return text.let(f"add {type_} {left}, {right}")

    mixed = text.let(f"xor {type_} {key[0]}, {key[1]}")
    third = text.let(f"xor {type_} {mixed}, {splat_of('i32', str(0x1BD11BDA), lanes)}")
    keys = (key[0], key[1], third)
    first, second = add(counter[0], keys[0]), add(counter[1], keys[1])
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            first = add(first, second)
            amount = splat_of("i32", str(rotation), lanes)
            second = text.let(f"call {type_} @llvm.fshl.{suffix}({type_} {second}, {type_} {second}, {type_} {amount})")
            second = text.let(f"xor {type_} {second}, {first}")
        first = add(first, keys[(group + 1) % 3])
        second = add(second, keys[(group + 2) % 3])
        second = add(second, splat_of("i32", str(group + 1), lanes))
    return first, second


def drawn(text: Text, operands: Sequence[str], dtype: DType, lanes: int) -> str:
    """What the op `threefry` gives for an i64 key and counter: both words, or a number in [0, 1)."""
    key, counter = (halves(text, operand, lanes) for operand in operands)
    first, second = threefry(text, key, counter, lanes)
    if dtype is not DType.I64:
        return unit(text, first, dtype, lanes)
    half, wide = vector("i32", lanes), vector("i64", lanes)
    low, high = (text.let(f"zext {half} {word} to {wide}") for word in (first, second))
    high = text.let(f"shl {wide} {high}, {splat_of('i64', '32', lanes)}")
    return text.let(f"or {wide} {low}, {high}")


def unit(text: Text, word: str, dtype: DType, lanes: int) -> str:
    """24 bits of a word as a float in [0, 1)."""
    half, kind = vector("i32", lanes), vector(REGISTER[dtype], lanes)
    bits = text.let(f"lshr {half} {word}, {splat_of('i32', '8', lanes)}")
    number = text.let(f"uitofp {half} {bits} to {kind}")
    return text.let(f"fmul {kind} {number}, {splat_of(REGISTER[dtype], literal(2.0**-24, dtype), lanes)}")
