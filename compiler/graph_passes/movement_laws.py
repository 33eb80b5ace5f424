"""Laws of movements. The normal form: movements late and few, broadcasts of tensors without repeated unit axes."""

from __future__ import annotations

from compiler.graph.ir import Value
from compiler.graph.op import Op
from compiler.graph_passes.law import Workbench
from compiler.ops.elementwise import Add
from compiler.ops.indexing import ScatterAdd
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.sources import Iota
from compiler.types import BatchExtent, Extent, Shape


def wide_axes(shape: Shape) -> list[int]:
    """The axes whose extent is not 1."""
    return [axis for axis, extent in enumerate(shape) if extent != 1]


def wide_extents(shape: Shape) -> list[Extent]:
    return [extent for extent in shape if extent != 1]


def scatter_of_empty(bench: Workbench, op: ScatterAdd, indices: Value, updates: Value) -> Value | None:
    return bench.filled(op, (indices, updates), 0) if 0 in updates.type.shape else None


def reshape(bench: Workbench, op: Reshape, x: Value) -> Value | None:
    if x.type.shape == op.shape:  # the same shape
        return x
    if (inner := bench.made_by(x, Reshape)) is not None:  # reshape(reshape(x)) -> reshape(x)
        return bench.emit(op, inner.operands[0])
    return _reshape_of_broadcast(bench, x, op.shape) or _reshape_of_transpose(bench, x, op.shape)


def _reshape_of_transpose(bench: Workbench, x: Value, shape: Shape) -> Value | None:
    """reshape(transpose(x)) -> transpose(reshape(x)), where one axis falls into several."""
    inner, more = bench.made(x, Transpose), len(shape) - x.type.rank
    if inner is None or more < 1:
        return None
    axis = next((k for k, extent in enumerate(x.type.shape) if extent != shape[k]), x.type.rank - 1)
    if shape[axis + more + 1 :] != x.type.shape[axis + 1 :]:
        return None
    op, (source,) = inner
    order = op.permutation
    split = order[axis]
    digits = bench.emit(
        Reshape((*source.type.shape[:split], *shape[axis : axis + more + 1], *source.type.shape[split + 1 :])), source
    )
    places = [[k] if k < split else [k + more] if k > split else [*range(k, k + more + 1)] for k in order]
    return bench.emit(Transpose(tuple(k for group in places for k in group)), digits)


def _reshape_of_broadcast(bench: Workbench, x: Value, shape: Shape) -> Value | None:
    """reshape(broadcast(s)) -> broadcast(s), where only unit axes come and go, or s is a scalar."""
    inner = bench.made(x, Broadcast)
    if inner is None:
        return None
    op, (small,) = inner
    if not small.type.shape:
        return bench.emit(Broadcast(shape, ()), small)
    if 1 in small.type.shape or wide_extents(x.type.shape) != wide_extents(shape):
        return None
    places = dict(zip(wide_axes(x.type.shape), wide_axes(shape), strict=True))
    return bench.emit(Broadcast(shape, tuple(places[axis] for axis in op.axes)), small)


def broadcast(bench: Workbench, op: Broadcast, x: Value) -> Value | None:
    if x.type.shape == op.shape:  # nothing is repeated
        return x
    kept = tuple(axis for extent, axis in zip(x.type.shape, op.axes, strict=True) if extent == op.shape[axis])
    if len(kept) < x.type.rank:  # repeated unit axes -> new axes
        dropped = bench.emit(Reshape(tuple(op.shape[axis] for axis in kept)), x)
        return bench.emit(Broadcast(op.shape, kept), dropped)
    if (inner := bench.made(x, Broadcast)) is not None:  # broadcast(broadcast(x)) -> broadcast(x)
        return bench.emit(Broadcast(op.shape, tuple(op.axes[axis] for axis in inner[0].axes)), *inner[1])
    return _broadcast_of_reshape(bench, op, x)


def _broadcast_of_reshape(bench: Workbench, op: Broadcast, x: Value) -> Value | None:
    """broadcast(reshape(s)) -> broadcast(s), where the reshape only puts in unit axes."""
    inner = bench.made_by(x, Reshape)
    if inner is None:
        return None
    (small,) = inner.operands
    if small.type.rank == x.type.rank or list(small.type.shape) != wide_extents(x.type.shape):
        return None
    return bench.emit(Broadcast(op.shape, tuple(op.axes[axis] for axis in wide_axes(x.type.shape))), small)


def transpose(bench: Workbench, op: Transpose, x: Value) -> Value | None:
    order = op.permutation
    if order == tuple(range(x.type.rank)):  # nothing moves
        return x
    if (inner := bench.made(x, Transpose)) is not None:  # transpose(transpose(x)) -> transpose(x)
        return bench.emit(Transpose(tuple(inner[0].permutation[axis] for axis in order)), *inner[1])
    moved = [axis for axis in order if x.type.shape[axis] != 1]
    if moved == sorted(moved):  # only unit axes move: a reshape
        return bench.emit(Reshape(tuple(x.type.shape[axis] for axis in order)), x)
    return _transpose_of_broadcast(bench, order, x)


def _transpose_of_broadcast(bench: Workbench, order: tuple[int, ...], x: Value) -> Value | None:
    """transpose(broadcast(s)) -> broadcast(transpose(s))."""
    inner = bench.made(x, Broadcast)
    if inner is None:
        return None
    places = [order.index(axis) for axis in inner[0].axes]
    small = bench.emit(Transpose(tuple(sorted(range(len(places)), key=places.__getitem__))), *inner[1])
    shape = tuple(x.type.shape[axis] for axis in order)
    return bench.emit(Broadcast(shape, tuple(sorted(places))), small)


def slice_(bench: Workbench, op: Slice, x: Value) -> Value | None:
    if x.type.shape == op.sizes:  # all of it
        return x
    inner = bench.builder.definition(x)
    if inner is None:
        return None
    match inner.op:
        case Slice():  # slice(slice(x)) -> slice(x)
            return _slice_of_slice(bench, op, inner.op, inner.operands[0])
        case Broadcast():
            return _slice_of_broadcast(bench, op, inner.op, inner.operands[0])
        case Pad():
            return _slice_of_pad(bench, op, inner.op, inner.operands[0])
        case Concat():
            return _slice_of_concat(bench, op, inner.op, inner.operands)
        case _:
            return None


def _slice_of_slice(bench: Workbench, outer: Slice, inner: Slice, x: Value) -> Value:
    starts = tuple(i + o * step for i, o, step in zip(inner.starts, outer.starts, inner.steps, strict=True))
    steps = tuple(i * o for i, o in zip(inner.steps, outer.steps, strict=True))
    return bench.emit(Slice(starts, outer.sizes, steps), x)


def _slice_of_broadcast(bench: Workbench, outer: Slice, inner: Broadcast, x: Value) -> Value | None:
    """slice(broadcast(x)) -> broadcast(x), where only repeated elements are cut off."""
    if any(outer.sizes[axis] != inner.shape[axis] for axis in inner.axes):
        return None
    return bench.emit(Broadcast(outer.sizes, inner.axes), x)


def _slice_of_pad(bench: Workbench, outer: Slice, inner: Pad, x: Value) -> Value | None:
    """slice(pad(x)) -> slice(x), where the slice lies inside x."""
    starts: list[int] = []
    for axis, extent in enumerate(x.type.shape):
        start, size, step = outer.starts[axis] - inner.low[axis], outer.sizes[axis], outer.steps[axis]
        if not (isinstance(extent, BatchExtent) or isinstance(size, BatchExtent)) and (
            start < 0 or start + (size - 1) * step >= extent
        ):
            return None
        starts.append(start)
    return bench.emit(Slice(tuple(starts), outer.sizes, outer.steps), x)


def _slice_of_concat(bench: Workbench, outer: Slice, inner: Concat, parts: tuple[Value, ...]) -> Value | None:
    """slice(concat(…, x, …)) -> slice(x), where the slice lies inside x."""
    axis, before = inner.axis, 0
    size = outer.sizes[axis]
    assert isinstance(size, int)
    first = outer.starts[axis]
    last = first + (size - 1) * outer.steps[axis]
    for part in parts:
        extent = part.type.shape[axis]
        assert isinstance(extent, int)
        if before <= first and last < before + extent:
            starts = tuple(start - before if i == axis else start for i, start in enumerate(outer.starts))
            return bench.emit(Slice(starts, outer.sizes, outer.steps), part)
        before += extent
    return None


def pad(bench: Workbench, op: Pad, x: Value) -> Value | None:
    if not any((*op.low, *op.high)):  # widths of 0
        return x
    inner = bench.made(x, Pad)
    if inner is None or repr(inner[0].value) != repr(op.value):
        return None
    low = tuple(a + b for a, b in zip(op.low, inner[0].low, strict=True))  # pad(pad(x)) -> pad(x)
    high = tuple(a + b for a, b in zip(op.high, inner[0].high, strict=True))
    return bench.emit(Pad(low, high, op.value), *inner[1])


def concat(bench: Workbench, op: Concat, *operands: Value) -> Value | None:
    if len(operands) == 1:  # concat(x) -> x
        return operands[0]
    parts: list[Value] = []
    for operand in operands:
        inner = bench.made_by(operand, Concat)
        parts.extend(inner.operands if inner is not None and inner.op == op else (operand,))
    if len(parts) > len(operands):  # concat(concat(a, b), c) -> concat(a, b, c)
        return bench.emit(op, *parts)
    return _concat_of_slices(bench, op.axis, parts) or _concat_of_transposes(bench, op.axis, parts)


def _concat_of_transposes(bench: Workbench, axis: int, parts: list[Value]) -> Value | None:
    """concat(transpose(x), transpose(y), …) -> transpose(concat(x, y, …)), where the axes move alike."""
    found = [inner for part in parts if (inner := bench.made(part, Transpose)) is not None]
    if len(found) < len(parts) or any(op != found[0][0] for op, _ in found):
        return None
    (op, _) = found[0]
    return bench.emit(op, bench.emit(Concat(op.permutation[axis]), *(x for _, (x,) in found)))


def _concat_of_slices(bench: Workbench, axis: int, parts: list[Value]) -> Value | None:
    """concat(x[0:a], x[a:b], …) -> x[0:b]."""
    start: int | None = None
    end, whole, starts = 0, parts[0], ()
    for part in parts:
        inner = bench.made(part, Slice)
        if inner is None:
            return None
        op, (source,) = inner
        size = op.sizes[axis]
        assert isinstance(size, int)
        others = tuple(0 if i == axis else first for i, first in enumerate(op.starts))
        if start is None:
            start = end = op.starts[axis]
            whole, starts = source, others
        continues = op.starts[axis] == end and others == starts and set(op.steps) <= {1}
        if not continues or source.index != whole.index:
            return None
        end += size
    assert start is not None
    sizes = tuple(end - start if i == axis else extent for i, extent in enumerate(parts[0].type.shape))
    starts = tuple(start if i == axis else first for i, first in enumerate(starts))
    return bench.emit(Slice(starts, sizes, (1,) * len(starts)), whole)


def sum_of_pads(bench: Workbench, _: Op, x: Value, y: Value) -> Value | None:
    """pad(a) + pad(b) -> pad(concat(a, b)), where both are padded with 0 and a ends where b begins."""
    first, second = bench.made(x, Pad), bench.made(y, Pad)
    if first is None or second is None:
        return None
    return _joined(bench, first, second) or _joined(bench, second, first)


def _joined(
    bench: Workbench, first: tuple[Pad, tuple[Value, ...]], second: tuple[Pad, tuple[Value, ...]]
) -> Value | None:
    (a, (inside,)), (b, behind) = first, second
    differing = [i for i in range(len(a.low)) if (a.low[i], a.high[i]) != (b.low[i], b.high[i])]
    if a.value != 0 or b.value != 0 or len(differing) != 1:
        return None
    (axis,) = differing
    extent = inside.type.shape[axis]
    if isinstance(extent, BatchExtent) or a.low[axis] + extent != b.low[axis]:
        return None
    joined = bench.emit(Concat(axis), inside, *behind)
    high = tuple(b.high[i] if i == axis else width for i, width in enumerate(a.high))
    return bench.emit(Pad(a.low, high, 0.0), joined)


def add_of_pads(bench: Workbench, op: Op, left: Value, last: Value) -> Value | None:
    """(x + pad(a)) + pad(b) -> x + pad(concat(a, b)), under the same conditions."""
    inner = bench.made_by(left, Add)
    if inner is None:
        return None
    x, middle = inner.operands
    joined = sum_of_pads(bench, op, middle, last)
    return None if joined is None else bench.emit(op, x, joined)


def reverse(bench: Workbench, op: Reverse, x: Value) -> Value | None:
    axes = tuple(axis for axis in op.axes if x.type.shape[axis] != 1)
    if not axes:  # nothing moves
        return x
    if axes != op.axes:
        return bench.emit(Reverse(axes), x)
    inner = bench.made(x, Reverse)
    return None if inner is None else bench.emit(Reverse(tuple(sorted({*axes} ^ {*inner[0].axes}))), *inner[1])


def iota(bench: Workbench, op: Iota) -> Value | None:
    """iota over several axes -> broadcast(iota over one)."""
    if len(op.shape) == 1:
        return None
    return bench.emit(Broadcast(op.shape, (op.axis,)), bench.emit(Iota((op.shape[op.axis],), 0, op.dtype)))


def is_empty(value: Value) -> bool:
    return 0 in value.type.shape


def concat_of_empty(bench: Workbench, op: Concat, *operands: Value) -> Value | None:
    """concat(x, empty, y) -> concat(x, y)"""
    parts = tuple(part for part in operands if part.type.shape[op.axis] != 0)
    if len(parts) == 1:
        return parts[0]
    return bench.emit(op, *parts) if 1 < len(parts) < len(operands) else None


def pad_of_empty(bench: Workbench, op: Pad, x: Value) -> Value | None:
    """pad(empty) -> the padding alone"""
    return bench.filled(op, (x,), op.value) if is_empty(x) else None


def sum_of_empty(bench: Workbench, op: Op, *operands: Value) -> Value | None:
    """sum(empty) -> 0, also of products"""
    return bench.filled(op, operands, 0) if any(map(is_empty, operands)) else None


def pull_reshapes(bench: Workbench, op: Op, *operands: Value) -> Value | None:
    """op(reshape(a), reshape(b)) -> reshape(op(a, b)), where only unit axes come and go; scalars may stand beside."""
    shape = operands[0].type.shape
    inner: Shape | None = None
    sources: list[tuple[Value, bool]] = []
    for operand in operands:
        definition = bench.made_by(operand, Reshape, Broadcast)
        if definition is None:
            return None
        (source,) = definition.operands
        is_scalar = isinstance(definition.op, Broadcast)
        if is_scalar and source.type.shape:
            return None
        if not is_scalar:
            if inner is not None and source.type.shape != inner:
                return None
            inner = source.type.shape
        sources.append((source, is_scalar))
    if inner is None or wide_extents(inner) != wide_extents(shape):
        return None
    spread = Broadcast(inner, ())
    found = [bench.emit(spread, source) if is_scalar else source for source, is_scalar in sources]
    return bench.emit(Reshape(shape), bench.emit(op, *found))


def push_broadcasts(bench: Workbench, op: Op, *operands: Value) -> Value | None:
    """op(broadcast(a), broadcast(b)) -> broadcast(op(a, b)), on the axes that one of them has."""
    parts: list[tuple[Broadcast, tuple[Value, ...]]] = []
    for operand in operands:
        definition = bench.builder.definition(operand)
        if definition is None or not isinstance(definition.op, Broadcast):
            return None
        parts.append((definition.op, definition.operands))
    shape = operands[0].type.shape
    axes = tuple(sorted({axis for spread, _ in parts for axis in spread.axes}))
    if len(axes) == len(shape):
        return None
    small = tuple(shape[axis] for axis in axes)
    found = [bench.emit(Broadcast(small, tuple(map(axes.index, spread.axes))), *value) for spread, value in parts]
    return bench.emit(Broadcast(shape, axes), bench.emit(op, *found))
