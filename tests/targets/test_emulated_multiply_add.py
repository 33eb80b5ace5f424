"""Multiply-adds made of other operations have the bits of the processor's, in both types over their whole range."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from compiler.machine import WASM_SIMD128
from compiler.support.arrays import Array
from compiler.targets.llvm.emulated_multiply_add import functions_for
from compiler.targets.llvm.host import detect
from compiler.targets.llvm.jit import Library, compile_module

ROUNDS, COUNT = 12, 1 << 16
LOOP = """
define void @{name}(ptr %a, ptr %b, ptr %c, ptr %r, i64 %count) {{
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %n, %head ]
  %pa = getelementptr {type}, ptr %a, i64 %i
  %pb = getelementptr {type}, ptr %b, i64 %i
  %pc = getelementptr {type}, ptr %c, i64 %i
  %pr = getelementptr {type}, ptr %r, i64 %i
  %x = load {type}, ptr %pa, align 4
  %y = load {type}, ptr %pb, align 4
  %z = load {type}, ptr %pc, align 4
  %v = call {type} @{called}({type} %x, {type} %y, {type} %z)
  store {type} %v, ptr %pr, align 4
  %n = add i64 %i, 1
  %more = icmp slt i64 %n, %count
  br i1 %more, label %head, label %done
done:
  ret void
}}
"""
TYPES = {"f32": ("<4 x float>", "v4f32", np.float32), "f64": ("<2 x double>", "v2f64", np.float64)}


def numbers(random: np.random.Generator, dtype: type[np.floating]) -> Array:
    """Floats of all kinds: any bits, few digits at any exponent, near 1, subnormal, special."""
    form = np.finfo(dtype)
    width, mantissa = 8 * dtype().itemsize, form.nmant
    unsigned = np.dtype(f"u{dtype().itemsize}")
    bits = random.integers(0, 1 << width, COUNT, dtype=np.uint64)
    few = bits & ~np.uint64((1 << mantissa) - 4) | np.uint64(1) * random.integers(0, 4, COUNT).astype(np.uint64)
    below = bits & np.uint64((1 << mantissa) - 1)
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, form.max, form.tiny, form.smallest_subnormal]
    kinds = [bits.astype(unsigned).view(dtype), few.astype(unsigned).view(dtype), below.astype(unsigned).view(dtype)]
    kinds += [random.standard_normal(COUNT).astype(dtype), random.choice(np.array(special, dtype), COUNT)]
    return np.choose(random.integers(0, len(kinds), COUNT), kinds).astype(dtype)


def addends(random: np.random.Generator, a: Array, b: Array) -> Array:
    """As other numbers, or close to what cancels the product."""
    dtype = a.dtype.type
    near = (-(a * b)).astype(dtype)
    unsigned = np.dtype(f"u{a.itemsize}")
    close = (near.view(unsigned) + random.integers(0, 3, COUNT).astype(unsigned) - unsigned.type(1)).view(dtype)
    return np.choose(random.integers(0, 3, COUNT), [numbers(random, dtype), near, close]).astype(dtype)


@pytest.mark.parametrize("name", TYPES)
def test_bits_are_those_of_one_rounding(name: str) -> None:
    type_, suffix, dtype = TYPES[name]
    text = LOOP.format(name="expected", type=type_, called=f"llvm.fma.{suffix}")
    text += LOOP.format(name="emulated", type=type_, called=f"dlc_fma_{suffix}") + functions_for(WASM_SIMD128)
    host = detect()
    library = Library([compile_module(text, host, verify=True)], ["expected", "emulated"], host)
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)
    random = np.random.default_rng(7)
    for _ in range(ROUNDS):
        with np.errstate(all="ignore"):
            a, b = numbers(random, dtype), numbers(random, dtype)
            c = addends(random, a, b)
        results: list[Array] = []
        for symbol in ("expected", "emulated"):
            results.append(np.empty(COUNT, dtype))
            places = [array.ctypes.data for array in (a, b, c, results[-1])]
            kind(library.address(symbol))(*places, COUNT * dtype().itemsize // 16)
        expected, found = (array.view(f"u{dtype().itemsize}") for array in results)
        wrong = (expected != found) & ~(np.isnan(results[0]) & np.isnan(results[1]))
        assert not wrong.any(), [array[wrong][0] for array in (a, b, c, *results)]
