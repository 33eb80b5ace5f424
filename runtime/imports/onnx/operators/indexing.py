"""Operators that read or write elements at places which a tensor gives."""

from __future__ import annotations

import numpy as np

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.extents import BATCH
from runtime.imports.onnx.graph import Tensor, Value
from runtime.imports.onnx.operators.shapes import reshaped, transposed
from runtime.imports.onnx.site import Site, Translation


def _last(site: Site, x: Code, axis: int, rank: int) -> Code:
    return transposed(x, [a for a in range(rank) if a != axis] + [axis])


def _placed(x: Code, axis: int, rank: int) -> Code:
    order = list(range(rank - 1))
    order.insert(axis, rank - 1)
    return transposed(x, order)


def _typed(site: Site, found: Code, value: Value) -> Code:
    """Sums of integers have a wider type: back to that of the value."""
    if value.dtype == "bool":
        return code.binary("!=", found, code.number(0))
    return found if value.dtype.startswith("float") else code.call("cast", found, Code(site.dtype(value)))


def _numeric(site: Site, x: Code, value: Value) -> Code:
    return code.call("where", x, code.number(1), code.number(0)) if value.dtype == "bool" else x


def _cut(site: Site, x: Code, value: Value, like: Value, axis: int) -> Code:
    """x as far as the indices reach along all other axes."""
    items = [":"] * value.rank
    for other in range(value.rank):
        if other != axis and value.shapes != like.shapes and site.extent(value, other) != site.extent(like, other):
            items[other] = f"0:{site.extent(like, other)}"
    return x if set(items) == {":"} else code.index(x, ", ".join(items))


def _gather_elements(site: Site) -> Code:
    value, index = site.value(0), site.value(1)
    axis = site.axis(site.attribute("axis", 0), value.rank)
    if site.is_batch(value, axis):
        raise site.refuse("from other rows of the batch", "a program of .dl sees rows of any number")
    site.helper("taken_along")
    x = _cut(site, _numeric(site, site.tensor(0), value), value, index, axis)
    found = code.call("taken_along", _last(site, x, axis, value.rank), _last(site, site.tensor(1), axis, value.rank))
    return _typed(site, _placed(found, axis, value.rank), value)


def _scatter_elements(site: Site) -> Code:
    value, index = site.value(0), site.value(1)
    rank = value.rank
    axis = site.axis(site.attribute("axis", 0), rank)
    if site.is_batch(value, axis):
        raise site.refuse("into other rows of the batch", "a program of .dl sees rows of any number")
    if any(site.extent(value, a) != site.extent(index, a) for a in range(rank) if a != axis):
        raise site.refuse("of fewer rows than the tensor has", "scatter into a slice")
    kind = site.attribute("reduction", "none")
    site.helper("scattered")
    operands = [_last(site, site.tensor(i), axis, rank) for i in range(3)]
    return _placed(code.call(f"scattered({code.string(kind)})", *operands), axis, rank)


def _flat_places(site: Site, index: Value, count: int, first: int) -> Code:
    """The places of `count` index components in the tensor whose axes from `first` on are one."""
    value = site.value(0)
    total: Code | None = None
    given = site.tensor(1)
    site.helper("counted_from_end")
    for i in range(count):
        extent = site.fixed(value, first + i)
        part = code.layer(f"counted_from_end({extent})", code.index(given, f"..., {i}"))
        part = Code(part.called or f"({part.text})", code.TIGHT, part.weights)
        total = part if total is None else code.binary("+", code.binary("*", total, code.number(extent)), part)
        if total.level != code.TIGHT:
            total = Code(f"({total.text})", code.TIGHT, total.weights)
    assert total is not None
    del index
    return total


def _gather_nd(site: Site) -> Code:
    value, index = site.value(0), site.value(1)
    batches = site.attribute("batch_dims", 0)
    count = site.fixed(index, index.rank - 1)
    own = _own_rows(site, value, index) if batches == 0 else None
    if own is not None:
        return own
    if batches > 1 or any(site.is_batch(value, batches + i) for i in range(count)):
        raise site.refuse("from other rows of the batch", "a program of .dl sees rows of any number")
    places = _flat_places(site, index, count, batches)
    rest = [site.extent(value, axis) for axis in range(batches + count, value.rank)]
    lead = [site.extent(value, axis) for axis in range(batches)]
    size = int(np.prod([site.fixed(value, batches + i) for i in range(count)]))
    x = reshaped(site.tensor(0), [*lead, str(size), *rest])
    if batches == 0:
        return Code(f"{x.at(code.TIGHT)}[{places.argument}]", code.TIGHT, x.weights + places.weights)
    found = code.call("gather", x, places)
    return found


def _own_rows(site: Site, value: Value, index: Value) -> Code | None:
    """Elements of each row of the batch, where the first component of the indices is the number of the row."""
    if index.contents is None or not site.is_batch(value, 0) or index.shapes[0][-1] != 2:
        return None
    places: list[Tensor] = []
    for content, point in zip(index.contents, site.graph.sizes, strict=True):
        rows, rest = content[..., 0], content[..., 1]
        numbers = np.arange(len(content)).reshape(-1, *[1] * (rows.ndim - 1))
        if len(content) != point[BATCH] or not (rows == numbers).all() or not (rest == rest[:1]).all():
            return None
        places.append(rest[0])
    if any(one.shape != places[0].shape or not np.array_equal(one, places[0]) for one in places):
        return None
    place, x = places[0], site.tensor(0)
    n = site.fixed(value, 1)
    if place.ndim and place.shape[-1] == n and (place == np.arange(n)).all():
        x = code.index(x, ", ".join([":", *["None"] * (place.ndim - 1)])) if place.ndim > 1 else x
        if place.size == n:
            return x
        return site.copies(x, value, site.result())
    return None


def _scatter_nd(site: Site) -> Code:
    value, index, updates = site.value(0), site.value(1), site.value(2)
    count = site.fixed(index, index.rank - 1)
    if any(site.is_batch(value, i) for i in range(count)):
        raise site.refuse("into rows of the batch", "a program of .dl sees rows of any number")
    size = int(np.prod([site.fixed(value, i) for i in range(count)]))
    rest = [site.fixed(value, axis) for axis in range(count, value.rank)]
    width, number = int(np.prod(rest)), int(np.prod(index.shapes[0][:-1]))
    places = reshaped(_flat_places(site, index, count, 0), [str(number)])
    x = Code(f"{reshaped(site.tensor(0), [str(size), str(width)]).at(code.TIGHT)}.T")
    new = Code(f"{reshaped(site.tensor(2), [str(number), str(width)]).at(code.TIGHT)}.T")
    wide = code.binary("+", code.index(Code(places.argument), "None, :"), Code(f"cast(zeros({width}, {number}), i64)"))
    site.helper("scattered")
    kind = code.string(site.attribute("reduction", "none"))
    del updates
    found = code.call(f"scattered({kind})", x, wide, new)
    return reshaped(Code(f"{found.text}.T"), [str(extent) for extent in value.shapes[0]])


def _tensor_scatter(site: Site) -> Code:
    """New entries in a cache, from a place on that each row of the batch has for itself."""
    value, rank = site.value(0), site.rank()
    axis = site.axis(site.attribute("axis", -2), rank)
    size, count = site.fixed(value, axis), site.fixed(site.value(1), axis)
    places = Code(f"arange({count})")
    if site.has(2):
        first = code.call("cast", site.tensor(2), Code("i32"))
        places = code.binary("+", code.index(first, ", ".join([":", *["None"] * (rank - 1)])), places)
    if site.attribute("mode", "linear") == "circular":
        places = code.binary("%", Code(f"({places.text})", weights=places.weights), code.number(size))
    site.helper("scattered")
    x, new = (_last(site, site.tensor(i), axis, rank) for i in range(2))
    return _placed(code.call('scattered("none")', x, places, new), axis, rank)


def _compress(site: Site) -> Code:
    condition = site.value(1).constant
    axis = site.attribute("axis")
    value = site.value(0)
    if condition is None:
        raise site.refuse("by a condition of the data", "keep a mask, and use `where`")
    kept = [str(i) for i in np.flatnonzero(condition)]
    x = site.tensor(0) if axis is not None else reshaped(site.tensor(0), ["-1"])
    axis = site.axis(axis, value.rank) if axis is not None else 0
    if site.is_batch(value, axis) or not kept:
        raise site.refuse("of rows of the batch", "leave it to the program behind the model")
    items = ", ".join([*[":"] * axis, ""])
    parts = [code.index(x, f"{items}{i}:{int(i) + 1}") for i in kept]
    return parts[0] if len(parts) == 1 else code.call("concat", *parts, axis=axis)


INDEXING: dict[str, Translation] = {
    "GatherElements": _gather_elements,
    "ScatterElements": _scatter_elements,
    "Scatter": _scatter_elements,
    "GatherND": _gather_nd,
    "ScatterND": _scatter_nd,
    "Compress": _compress,
    "TensorScatter": _tensor_scatter,
}
