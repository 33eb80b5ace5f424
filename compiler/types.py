"""Element types, extents and tensor types: the vocabulary that every stage shares."""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import TypeAlias, final

from compiler.support.arrays import Array, np
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
    F16 = "f16"
    I8 = "i8"
    I16 = "i16"
    U16 = "u16"
    U32 = "u32"
    U64 = "u64"

    __hash__ = object.__hash__  # not that of the name, which takes two calls

    def __init__(self, text: str) -> None:
        self.is_float = text in ("f32", "f64", "bf16", "f16")
        self.is_unsigned = text in ("u8", "bool", "u16", "u32", "u64")
        # bytes of one element in memory
        self.size = 1 if text == "bool" else int(text.lstrip("bfiu")) // 8

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest number of an integer type, or of bool."""
        bits = 1 if self is DType.BOOL else 8 * self.size
        return (0, (1 << bits) - 1) if self.is_unsigned else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


class Rounding(Enum):
    """What a GPU rounds the factors of a product to before it multiplies them; their range is that of f32."""

    BF16 = "bf16"  # 8 binary digits; of two numbers as near, the even one
    TF32 = "tf32"  # 11 binary digits; of two numbers as near, the one further from 0


OF_PRODUCTS = tuple([rounding.value for rounding in Rounding])
"""Values of `precision` that only products have."""


READ_AS = {DType.I8: DType.I32, DType.I16: DType.I32, DType.U16: DType.I32, DType.U32: DType.I64, DType.F16: DType.F32}
"""The type, with all its numbers, in which arithmetic reads elements of a type that is only stored; u64 has none."""
STORED = (*READ_AS, DType.U64)
"""Types of data in memory: they are moved, chosen and converted, and nothing is computed in them."""


_NUMPY = {
    DType.F32: "float32",
    DType.F64: "float64",
    DType.BF16: "float32",
    DType.I32: "int32",
    DType.I64: "int64",
    DType.U8: "uint8",
    DType.BOOL: "bool",
    DType.F16: "float16",
    DType.I8: "int8",
    DType.I16: "int16",
    DType.U16: "uint16",
    DType.U32: "uint32",
    DType.U64: "uint64",
}

_DIGITS = {DType.F16: 11, DType.BF16: 8, DType.F32: 24, DType.F64: 53}  # binary ones, of the fraction of a float


def widens(source: DType, target: DType) -> bool:
    """Whether `target` has every number of `source`."""
    if source.is_float:
        return source is target or target is DType.F64 or (target is DType.F32 and source is not DType.F64)
    low, high = source.limits
    if target.is_float:
        return high.bit_length() <= _DIGITS[target]
    return target.limits[0] <= low and high <= target.limits[1]


@cache
def numpy_dtype(dtype: DType) -> np.dtype[np.generic]:
    """The NumPy type of arrays that hold such elements.

    NumPy has no bf16: the reference target holds such values in f32, rounded to bf16 after each node.
    """
    return np.dtype(_NUMPY[dtype])


_WORDS = {name: dtype.value for dtype, name in _NUMPY.items() if dtype is not DType.BF16}


def word_of(dtype: np.dtype[np.generic]) -> str:
    """The language's word for the elements of an array, such as `f32`; NumPy's own, where the language has none."""
    return _WORDS.get(dtype.name, dtype.name)


def array_type(array: Array) -> str:
    """The type of an array in the words of the language, such as `f32[2, 64]`."""
    return f"{word_of(array.dtype)}{list(array.shape)}"


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

    @property
    def of_slope(self) -> TensorType:
        """The type of a derivative by such a tensor: that of f16 is computed in f32, as all arithmetic on f16 is."""
        return TensorType(DType.F32, self.shape) if self.dtype is DType.F16 else self

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
