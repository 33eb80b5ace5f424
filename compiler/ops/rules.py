"""Checks that the type rules of the ops share, raising `TypeRuleError`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from compiler.errors.suggestions import counted
from compiler.graph.op import TypeRuleError
from compiler.support.arrays import Array, np
from compiler.types import DType, Rounding, Shape, TensorType

FLOATS = (DType.F32, DType.F64, DType.BF16)
INTEGERS = (DType.I32, DType.I64, DType.U8)
NUMBERS = FLOATS + INTEGERS
BOOLEANS = (DType.BOOL,)
EVERY = NUMBERS + BOOLEANS


def round_to_bf16(values: Array) -> Array:
    """f32 values rounded to the nearest bf16, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(values), values, rounded.view(np.float32)).reshape(values.shape)


def round_to_tf32(values: Array) -> Array:
    """f32 values rounded to the nearest number of 11 binary digits, ties away from 0; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(values), values, rounded.view(np.float32)).reshape(values.shape)


ROUNDINGS = {Rounding.BF16: round_to_bf16, Rounding.TF32: round_to_tf32}


def expect_operands(name: str, operands: Sequence[TensorType], count: int) -> Sequence[TensorType]:
    if len(operands) != count:
        raise TypeRuleError(f"{name} takes {counted(count, 'tensor')}, but got {len(operands)}")
    return operands


def expect_dtype(name: str, operand: TensorType, accepted: Sequence[DType]) -> None:
    if operand.dtype not in accepted:
        names = ", ".join(d.value for d in accepted)
        raise TypeRuleError(f"{name} needs elements of type {names}, but got {operand}")


def expect_same_type(name: str, first: TensorType, other: TensorType) -> None:
    if first.dtype is not other.dtype:
        raise TypeRuleError(f"{name} needs tensors of one element type, but got {first} and {other}")
    expect_same_shape(name, first, other)


def expect_same_shape(name: str, first: TensorType, other: TensorType) -> None:
    if first.shape != other.shape:
        raise TypeRuleError(f"{name} needs tensors of the same shape, but got {first} and {other}")


def expect_axis(name: str, axis: int, operand: TensorType) -> None:
    if not 0 <= axis < operand.rank:
        axes = "none" if operand.rank == 0 else f"0 to {operand.rank - 1}"
        raise TypeRuleError(f"{name}: {operand} has no axis {axis}; its axes are {axes}")


def expect_axes(name: str, axes: Sequence[int], operand: TensorType) -> None:
    """`axes` must be increasing axes of `operand`."""
    for axis in axes:
        expect_axis(name, axis, operand)
    if any(a >= b for a, b in pairwise(axes)):
        raise TypeRuleError(f"{name}: the axes {list(axes)} must be increasing and different")


def without_axes(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(extent for i, extent in enumerate(shape) if i not in axes)


def other_axes(rank: int, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(i for i in range(rank) if i not in axes)
