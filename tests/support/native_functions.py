"""Elementary functions of the CPU target as NumPy-like callables, and the error of a result in ulp."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from compiler.machine import Machine
from compiler.nest.ir import vector
from compiler.targets.llvm.emit_compute import compute, functions_of
from compiler.targets.llvm.jit import Library, compile_module
from compiler.targets.llvm.text import NAMES, Text
from compiler.types import DType

Array = np.ndarray[Any, Any]
KINDS = {DType.F32: ("float", np.float32), DType.F64: ("double", np.float64)}
FUNCTIONS = (*functions_of(DType.F32), "floor", "abs")


@dataclass(frozen=True)
class NativeFunction:
    """A loop over arrays, `lanes` elements at a time; the last ones are padded."""

    library: Library
    dtype: DType
    lanes: int

    def __call__(self, x: Array, y: Array | None = None) -> Array:
        kind = KINDS[self.dtype][1]
        padded = -(-len(x) // self.lanes) * self.lanes
        first, second, out = np.ones(padded, kind), np.ones(padded, kind), np.empty(padded, kind)
        first[: len(x)] = x
        second[: len(x)] = x if y is None else y
        entry = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(self.library.address("loop"))
        entry(first.ctypes.data, second.ctypes.data, out.ctypes.data, padded)
        return out[: len(x)]


def native_function(name: str, dtype: DType, lanes: int, host: Machine) -> NativeFunction:
    """The function, compiled for the host."""
    text = loop_text(name, dtype, lanes)
    return NativeFunction(Library([compile_module(text, host, verify=True)], ["loop"], host), dtype, lanes)


def loop_text(name: str, dtype: DType, lanes: int) -> str:
    kind, type_, text = KINDS[dtype][0], vector(dtype, lanes), Text()
    operands = ["%a", "%b"] if name == "pow" else ["%a"]
    result = compute(text, name, [(type_, operand) for operand in operands], dtype)
    body, type_name = "\n".join(text.lines), NAMES[type_]
    return f"""
define void @loop(ptr %x, ptr %y, ptr %out, i64 %n) nounwind {{
entry:
  br label %again
again:
  %i = phi i64 [ 0, %entry ], [ %next, %again ]
  %px = getelementptr {kind}, ptr %x, i64 %i
  %py = getelementptr {kind}, ptr %y, i64 %i
  %pout = getelementptr {kind}, ptr %out, i64 %i
  %a = load {type_name}, ptr %px, align {dtype.size}
  %b = load {type_name}, ptr %py, align {dtype.size}
{body}
  store {type_name} {result}, ptr %pout, align {dtype.size}
  %next = add i64 %i, {lanes}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %again, label %done
done:
  ret void
}}
"""


def same_bits(a: Array, b: Array) -> bool:
    """Equal in every bit, except that any NaN equals any other."""
    integer = np.int32 if a.dtype == np.float32 else np.int64
    return bool(np.all((a.view(integer) == b.view(integer)) | (np.isnan(a) & np.isnan(b))))


def largest_error(got: Array, true: Array) -> tuple[float, int]:
    """The largest error in ulp of `got`'s type, and where. `true` is of a wider type.

    Infinities and NaN must agree, and so must the signs; a result short of the normal range may be zero. The number
    that follows the largest finite one counts as infinite, and the other way round.
    """
    info = np.finfo(got.dtype)
    magnitude = np.abs(true)
    normal = np.isfinite(true) & (magnitude >= info.tiny) & (magnitude <= info.max)
    exponent = np.frexp(np.where(normal, magnitude, 1))[1] - 1
    unit = np.ldexp(np.ones((), true.dtype), exponent - info.nmant)
    beyond = np.copysign(np.asarray(2.0, true.dtype) ** info.maxexp, got)
    error = np.abs(np.where(np.isinf(got), beyond, got.astype(true.dtype)) - np.where(normal, true, 0)) / unit
    rounded = true.astype(got.dtype)
    same = (rounded == got) | (np.isnan(rounded) & np.isnan(got))
    vanishing = (magnitude < info.tiny) & (np.abs(got) <= 2 * info.tiny)
    error = np.where(normal, error, np.where(same | vanishing, 0, np.inf))
    agree = np.isnan(got) | (np.signbit(got) == np.signbit(true))
    error = np.where(agree, error, np.inf)
    where = int(np.argmax(error))
    return float(error[where]), where
