"""The type rules refuse what makes no sense, in a sentence that says what was given."""

from __future__ import annotations

import pytest
from op_samples import SAMPLES, Sample, name_of

from compiler.graph.op import Op, TypeRuleError
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, And, Where
from compiler.ops.indexing import Gather, ScatterAdd
from compiler.ops.mathematics import Exp
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, Max, Moments, Sum
from compiler.ops.sources import Constant, Iota, RandomUniform
from compiler.ops.window import Fold, Window
from compiler.types import BatchExtent, DType, Extent, TensorType

BATCH = BatchExtent()


def f32(*shape: Extent) -> TensorType:
    return TensorType(DType.F32, shape)


def i32(*shape: Extent) -> TensorType:
    return TensorType(DType.I32, shape)


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_one_operand_too_many_or_too_few(sample: Sample) -> None:
    if not isinstance(sample.op, Concat):
        with pytest.raises(TypeRuleError):
            sample.op.result_types((*sample.operands, TensorType(DType.BOOL, (7, 7))))
    if sample.operands and not (isinstance(sample.op, Concat) and len(sample.operands) > 1):
        with pytest.raises(TypeRuleError):
            sample.op.result_types(sample.operands[:-1])


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_types_do_not_depend_on_anything_but_operands(sample: Sample) -> None:
    assert sample.op.result_types(sample.operands) == sample.op.result_types(list(sample.operands))


@pytest.mark.parametrize(
    ("op", "operands", "message"),
    [
        (Add(), (f32(2, 3), f32(3)), r"add needs tensors of the same shape, but got f32\[2, 3\] and f32\[3\]"),
        (Add(), (f32(2), i32(2)), r"add needs tensors of one element type, but got f32\[2\] and i32\[2\]"),
        (Add(), (f32(2),), "add takes 2 tensors, but got 1"),
        (Exp(), (i32(2),), r"exp needs elements of type f32, f64, bf16, but got i32\[2\]"),
        (And(), (f32(), f32()), r"and needs elements of type bool, but got f32\[\]"),
        (Where(), (f32(), f32(), f32()), r"where needs elements of type bool, but got f32\[\]"),
        (Constant(1.5, DType.I32), (), "1.5 is not a constant of type i32"),
        (Constant(True, DType.I64), (), "True is not a constant of type i64"),
        (Constant(1 << 31, DType.I32), (), "2147483648 does not fit a constant of type i32"),
        (Constant(-1, DType.U8), (), "-1 does not fit a constant of type u8"),
        (Iota((3,), 1, DType.I32), (), r"i32\[3\] has no axis 1; its axes are 0 to 0"),
        (RandomUniform((BATCH, BATCH), 0), (TensorType(DType.I64),) * 2, "nothing is drawn for pairs of rows, as"),
        (RandomUniform((3,), 0), (i32(), i32()), r"a seed and a step of type i64\[\], but got i32\[\]"),
        (Sum((2,)), (f32(2, 3),), r"f32\[2, 3\] has no axis 2; its axes are 0 to 1"),
        (Sum((0,)), (f32(),), r"f32\[\] has no axis 0; its axes are none"),
        (Sum((1, 0)), (f32(2, 3),), r"the axes \[1, 0\] must be increasing and different"),
        (Sum((0,)), (TensorType(DType.BOOL, (2,)),), "sum needs elements of type f32, f64, bf16, i32, i64"),
        (Max((0,)), (f32(0, 3),), r"max of no elements has no value: f32\[0, 3\] over the axes \[0\]"),
        (ArgMax(0), (f32(0),), "argmax of no elements"),
        (Moments((0,)), (i32(3),), "moments needs elements of type"),
        (Reshape((4,)), (f32(2, 3),), r"f32\[2, 3\] has 6 elements and cannot be reshaped to f32\[4\] with 4"),
        (Reshape((3,)), (f32(BATCH, 3),), r"3\*batch elements and cannot be reshaped"),
        (Transpose((0, 0)), (f32(2, 3),), r"\[0, 0\] does not order the axes of f32\[2, 3\]"),
        (Broadcast((2, 4), (1,)), (f32(3),), r"f32\[3\] cannot be broadcast to f32\[2, 4\]: 3 meets 4"),
        (Broadcast((2, 4), ()), (f32(4),), r"needs a place for each axis of f32\[4\]"),
        (Reshape((3, BATCH, BATCH)), (f32(BATCH, 3, BATCH),), "would tear rows of the batch apart"),
        (Reshape((BATCH, BATCH)), (f32(BATCH),), r"has batch elements and cannot .* with batch\*batch"),
        (Reverse((1,)), (f32(BATCH, BATCH),), "which holds pairs of them, cannot be reversed"),
        (Slice((0,), (4,), (1,)), (f32(3),), "takes 4 elements from 0 on with step 1 along axis 0"),
        (Slice((0,), (2,), (1,)), (f32(BATCH),), r"axis 0 of f32\[batch\] is the batch, which cannot be cut"),
        (Slice((0,), (2,), (0,)), (f32(3),), "with step 0"),
        (Pad((1,), (0,), 0.0), (f32(BATCH),), r"axis 0 of f32\[batch\] is the batch, which cannot be padded"),
        (Pad((-1,), (0,), 0.0), (f32(3),), r"pad widths cannot be negative, but got \[-1\] and \[0\]"),
        (Concat(0), (), "concat needs at least one tensor"),
        (Concat(0), (f32(2, 3), f32(2, 4)), r"f32\[2, 3\] and f32\[2, 4\] differ in more than that axis"),
        (Concat(0), (f32(BATCH), f32(BATCH)), "the batch, along which nothing is concatenated"),
        (Reverse((3,)), (f32(2),), r"f32\[2\] has no axis 3"),
        (Window((1,), (2,), (1,), (1,)), (f32(3, BATCH),), "is the batch, over which no window slides"),
        (Window((0,), (3,), (1,), (2,)), (f32(4),), r"a window that spans 5 does not fit into axis 0 of f32\[4\]"),
        (Window((0,), (3,), (0,), (1,)), (f32(4),), "the sizes, strides and dilations of window start at 1"),
        (Window((0,), (3,), (1, 1), (1,)), (f32(4),), r"a size, a stride and a dilation for each of its axes \[0\]"),
        (Fold((0,), (3,), (1,), (1,), (6,)), (f32(3, 3),), r"f32\[3, 3\] does not hold the windows of f32\[6\]"),
        (Fold((0,), (3,), (1,), (1,), ()), (f32(3, 3),), r"an extent for each of its axes \[0\]"),
        (Contraction((0, 1), (1, 2), (0, 2)), (f32(2, 3), f32(4, 5)), r"f32\[2, 3\] and f32\[4, 5\] pairs 3 with 4"),
        (Contraction((0,), (1,), (0,)), (f32(2), f32(3)), "that one tensor lacks must be in both others"),
        (Contraction((0, 0), (0,), ()), (f32(2, 2), f32(2)), "a label stands twice"),
        (Gather(0), (f32(BATCH, 3), i32(2)), "is the batch, from which rows cannot be picked"),
        (Gather(0), (f32(3), f32(2)), "the second operand of gather needs elements of type i32, i64, u8"),
        (Gather(0), (f32(0), i32(2)), "is empty, so no index can pick from it"),
        (ScatterAdd(0, 4), (i32(2), f32(3)), r"i32\[2\] do not stand there in the updates f32\[3\]"),
    ],
)  # fmt: skip
def test_message(op: Op, operands: tuple[TensorType, ...], message: str) -> None:
    with pytest.raises(TypeRuleError, match=message):
        op.result_types(operands)
