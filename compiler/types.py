"""Element types, extents and tensor types: the vocabulary that every stage shares."""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import TypeAlias, final

from compiler.support.arrays import np
from compiler.support.record import record


class DType(Enum):
    """An element type; the value is its name in `.dl` text."""

    F32 = "f32"
    F64 = "f64"
    BF16 = "bf16"
    I32 = "i32"
    I64 = "i64"
    U8 = "u8"
    BOOL = "bool"

    __hash__ = object.__hash__  # not that of the name, which takes two calls

    def __init__(self, text: str) -> None:
        self.is_float = text in ("f32", "f64", "bf16")
        # bytes of one element in memory
        self.size = {"f32": 4, "f64": 8, "bf16": 2, "i32": 4, "i64": 8, "u8": 1, "bool": 1}[text]


_NUMPY = {
    DType.F32: "float32",
    DType.F64: "float64",
    DType.BF16: "float32",
    DType.I32: "int32",
    DType.I64: "int64",
    DType.U8: "uint8",
    DType.BOOL: "bool",
}


@cache
def numpy_dtype(dtype: DType) -> np.dtype[np.generic]:
    """The NumPy type of arrays that hold such elements.

    NumPy has no bf16: the reference target holds such values in f32, rounded to bf16 after each node.
    """
    return np.dtype(_NUMPY[dtype])


@final
@record
class BatchExtent:
    """`multiple * batch`: an extent that is known only at run time."""

    multiple: int = 1

    # Written out, as that of `TensorType`: passes compare and hash little else.
    def __eq__(self, other: object) -> bool:
        return type(other) is BatchExtent and self.multiple == other.multiple

    def __hash__(self) -> int:
        return ~self.multiple

    def __str__(self) -> str:
        return "batch" if self.multiple == 1 else f"{self.multiple}*batch"


Extent: TypeAlias = int | BatchExtent
Shape: TypeAlias = tuple[Extent, ...]


@record
class TensorType:
    """The element type and shape of a tensor. Where several extents depend on the batch, it holds pairs of rows."""

    dtype: DType
    shape: Shape = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TensorType) and self.dtype is other.dtype and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.shape)

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.value}[{', '.join(map(str, self.shape))}]"


def static_elements(shape: Shape) -> int:
    """The number of elements for `batch = 1`."""
    count = 1
    for extent in shape:
        count *= extent.multiple if type(extent) is BatchExtent else extent
    return count


def depends_on_batch(shape: Shape) -> bool:
    return BatchExtent in map(type, shape)  # a compilation asks for nothing more often, so this is no generator


def batch_axis(shape: Shape) -> int | None:
    """The first axis that depends on the batch."""
    return next((axis for axis, extent in enumerate(shape) if isinstance(extent, BatchExtent)), None)


def batch_axes(shape: Shape) -> tuple[int, ...]:
    """The axes that depend on the batch, in order."""
    return tuple(axis for axis, extent in enumerate(shape) if isinstance(extent, BatchExtent))


def is_of_pairs(shape: Shape) -> bool:
    """Whether a tensor has an element for each pair of rows, or for several of them."""
    return depends_on_batch(shape) and len(batch_axes(shape)) > 1


def size_of(shape: Shape) -> tuple[int, int]:
    """The number of elements as (count, power): count * batch ^ power."""
    return static_elements(shape), len(batch_axes(shape))


def size_text(shape: Shape) -> str:
    """The number of elements as text: `4*batch*batch`."""
    count, power = size_of(shape)
    return "*".join([*([str(count)] if count != 1 or not power else []), *["batch"] * power])


def elements(shape: Shape) -> Extent:
    """The number of elements, as an extent, of a shape of which one axis at most depends on the batch."""
    assert not is_of_pairs(shape), f"{list(map(str, shape))} has more elements than a multiple of the batch"
    count = static_elements(shape)
    return BatchExtent(count) if depends_on_batch(shape) else count


def size_at(extent: Extent, batch: int) -> int:
    """An extent for a batch of so many rows."""
    return extent.multiple * batch if type(extent) is BatchExtent else extent


def at_batch(shape: Shape, batch: int) -> tuple[int, ...]:
    """The concrete shape for a batch of `batch` rows."""
    return tuple([size_at(extent, batch) for extent in shape])
