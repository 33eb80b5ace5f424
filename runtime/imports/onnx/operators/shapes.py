"""Operators that move elements: shapes, slices, joins, and tensors made of nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.extents import BATCH
from runtime.imports.onnx.graph import CLAMPED, Value, takes_all
from runtime.imports.onnx.operators.elementwise import cast_to
from runtime.imports.onnx.site import Site, Translation, joined


def reshaped(x: Code, extents: Sequence[str]) -> Code:
    return code.apply("reshape", x, *extents)


def _reshape(site: Site) -> Code:
    value, result = site.value(0), site.result()
    x = site.tensor(0)
    if value.shapes == result.shapes:
        return x
    extents = site.extents(result)
    floats = value.dtype.startswith("float")
    if floats and result.rank == 2 and value.rank > 2 and site.extents(value)[0] == extents[0]:
        return code.layer("flatten", x)
    short = _index_of_ones(site, value, result)
    return code.index(x, short) if short is not None else reshaped(x, extents)


def _index_of_ones(site: Site, value: Value, result: Value) -> str | None:
    """The items of an index that adds axes of 1, or takes them away, where a reshape does nothing else."""
    before, after = site.extents(value), site.extents(result)
    if [e for e in before if e != "1"] != [e for e in after if e != "1"]:
        return None
    items: list[str] = []
    i = j = 0
    while i < len(before) or j < len(after):
        if i < len(before) and j < len(after) and before[i] == after[j]:
            items.append(":")
            i, j = i + 1, j + 1
        elif j < len(after) and after[j] == "1":
            items.append("None")
            j += 1
        else:
            items.append("0")
            i += 1
    return _trimmed(items)


def _trimmed(items: list[str]) -> str:
    while len(items) > 1 and items[-1] == ":":
        items = items[:-1]
    return ", ".join(items)


def _flatten(site: Site) -> Code:
    return _reshape(site)


def transposed(x: Code, order: Sequence[int]) -> Code:
    rank = len(order)
    if list(order) == list(range(rank)):
        return x
    if rank >= 2 and list(order) == [*range(rank - 2), rank - 1, rank - 2]:
        return Code(f"{x.at(code.TIGHT)}.T", code.TIGHT, x.weights)
    return code.apply("transpose", x, *order)


def _transpose(site: Site) -> Code:
    rank = site.rank()
    order = site.attribute("perm", list(range(rank))[::-1])
    return transposed(site.tensor(0), [site.axis(axis, rank) for axis in order])


def _concat(site: Site) -> Code:
    axis = site.axis(site.attribute("axis", 1), site.result().rank)
    places = [i for i in range(len(site.node.inputs)) if 0 not in site.value(i).shapes[0]]
    if len(places) > 1 and site.is_batch(site.result(), axis):
        raise site.refuse("joins rows of the batch", "fix the axis with --size NAME=N")
    return joined([site.tensor(place) for place in places], axis)


def _split(site: Site) -> list[Code]:
    axis = site.axis(site.attribute("axis", 0), site.rank())
    sizes = [site.fixed(site.result(i), axis) for i in range(len(site.node.outputs))]
    if len(sizes) == 1:
        return [site.tensor(0)]
    parts: object = len(sizes) if len(set(sizes)) == 1 else sizes
    settings = {} if axis == site.rank() - 1 else {"axis": axis}
    return [code.apply("split", site.tensor(0), parts, **settings)] + [Code("")] * (len(sizes) - 1)


def _slice(site: Site) -> Code:
    value, rank = site.value(0), site.rank()
    if site.node.version < 10:
        starts, ends = ([[n] * len(site.graph.sizes) for n in site.attribute(key)] for key in ("starts", "ends"))
        axes, steps = site.attribute("axes", list(range(len(starts)))), [1] * len(starts)
    else:
        starts, ends = _known(site, 1), _known(site, 2)
        axes = site.numbers(3) if site.has(3) else list(range(len(starts)))
        steps = site.numbers(4) if site.has(4) else [1] * len(starts)
    items = [":"] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = site.axis(axis, rank)
        items[axis] = _item(site, value, axis, start, end, step)
        if items[axis] not in (":", "::-1") and site.is_batch(value, axis):
            raise site.refuse("takes some rows of the batch", "a program of .dl sees rows of any number")
    if all(item == ":" for item in items):
        return site.tensor(0)
    return code.index(site.tensor(0), _trimmed(items))


def _known(site: Site, place: int) -> list[list[int]]:
    """Each whole number of an operand, at every point."""
    site.known_numbers(place)
    contents = site.value(place).contents
    assert contents is not None
    return [[int(one.reshape(-1)[i]) for one in contents] for i in range(contents[0].size)]


def _item(site: Site, value: Value, axis: int, starts: list[int], ends: list[int], step: int) -> str:
    from runtime.imports.onnx.extents import expression

    parts = [range(shape[axis])[s:e:step] for shape, s, e in zip(value.shapes, starts, ends, strict=True)]
    sizes = [shape[axis] for shape in value.shapes]
    if all(len(part) == 0 for part in parts):
        return "0:0"
    if any(len(part) == 0 for part in parts):
        raise site.refuse("gives a tensor without elements for some sizes", "fix the sizes with --dims")
    if step == 1 and all(len(part) == size for part, size in zip(parts, sizes, strict=True)):
        return ":"
    points = site.graph.sizes
    first = [part[0] for part in parts]
    low = "" if first == [0] * len(first) and step > 0 else expression(first, points)
    if step < 0 and all(f == size - 1 for f, size in zip(first, sizes, strict=True)):
        low = ""
    if step > 0:
        stops = [part[-1] + 1 for part in parts]
        high = (
            ""
            if all(part[-1] + step >= size for part, size in zip(parts, sizes, strict=True))
            else expression(stops, points)
        )
    else:
        stops = [part[-1] - 1 for part in parts]
        high = "" if all(part[-1] + step < 0 for part in parts) else expression(stops, points)
    return f"{low}:{high}" if step == 1 else f"{low}:{high}:{step}"


def _gather(site: Site) -> Code:
    value, rank = site.value(0), site.rank()
    axis = site.axis(site.attribute("axis", 0), rank)
    if axis == 0 and takes_all(value, site.value(1)):
        return reshaped(site.tensor(0), site.extents(site.result()))
    if site.is_batch(value, axis):
        raise site.refuse("takes some rows of the batch", "a program of .dl sees rows of any number")
    before = [":"] * axis
    index = site.value(1)
    if index.is_constant and index.constant is not None:
        item = _constant_item(index.constant, site.fixed(value, axis))
        if item is not None:
            return code.index(site.tensor(0), ", ".join([*before, item]))
    found = _index_code(site, 1, site.fixed(value, axis))
    if axis == 0 and site.is_own(0, 2):
        table = site.weight(0)
        vocabulary, units = table.content.shape
        return code.layer(f"embedding({vocabulary}, {units})", found, [table])
    x = site.tensor(0)
    return Code(f"{x.at(code.TIGHT)}[{', '.join([*before, found.argument])}]", code.TIGHT, x.weights + found.weights)


def _constant_item(content: np.ndarray, extent: int) -> str | None:
    flat = np.where(content < 0, content + extent, content).reshape(-1)
    if content.ndim == 0:
        return str(int(flat[0]))
    if content.ndim == 1 and content.size > 1 and (np.diff(flat) == 1).all():
        return f"{flat[0]}:{flat[-1] + 1}"
    if content.ndim > 1 and content.size == content.shape[-1] > 1 and (np.diff(flat) == 1).all():
        return f"{', '.join(['None'] * (content.ndim - 1))}, {flat[0]}:{flat[-1] + 1}"
    if content.ndim == 1 and content.size == 1:
        return f"{flat[0]}:{flat[0] + 1}"
    return None


def _index_code(site: Site, place: int, extent: int) -> Code:
    """Whole numbers that choose among `extent`; negative ones count from the end, and inputs are taken to hold none."""
    name = site.node.inputs[place]
    index = site.value(place)
    found = site.tensor(place)
    if site.attribute(CLAMPED):
        return found
    known = index.contents is not None and all((one >= 0).all() for one in index.contents)
    if known or (site.source_of(name) in site.graph.inputs and site.source_of(name) not in site.graph.may_be_negative):
        return found
    site.helper("counted_from_end")
    return code.layer(f"counted_from_end({extent})", found)


def _expand(site: Site) -> Code:
    value, result = site.value(0), site.result()
    return site.tensor(0) if value.shapes == result.shapes else site.copies(site.tensor(0), value, result)


def _tile(site: Site) -> Code:
    value, result = site.value(0), site.result()
    x = site.tensor(0)
    for axis in range(value.rank):
        times = {r[axis] // v[axis] for r, v in zip(result.shapes, value.shapes, strict=True)}
        if len(times) > 1 or (times != {1} and site.is_batch(value, axis)):
            raise site.refuse("repeats by a free size", "fix it with --size NAME=N")
        count = times.pop()
        if count > 1:
            x = (
                code.call("concat", *([x] * count), axis=axis)
                if not x.weights
                else _by_ones(site, x, value, axis, count)
            )
    return x


def _by_ones(site: Site, x: Code, value: Value, axis: int, count: int) -> Code:
    raise site.refuse("repeats a weight", "store it repeated")


def _pad(site: Site) -> Code:
    value, rank = site.value(0), site.rank()
    pads = site.attribute("pads") or site.attribute("paddings") or site.numbers(1)
    mode = site.attribute("mode", "constant")
    axes = [site.axis(a, rank) for a in site.numbers(3)] if site.has(3) else list(range(rank))
    fill = site.scalar(2) if site.has(2) else site.attribute("value", 0.0)
    x = site.tensor(0)
    for i, axis in enumerate(axes):
        low, high = pads[i], pads[i + len(axes)]
        if (low or high) and site.is_batch(value, axis):
            raise site.refuse("adds rows to the batch", "leave it to the program around the model")
        if low < 0 or high < 0:
            stop = str(high) if high < 0 else ""
            x = code.index(x, ", ".join([*[":"] * axis, f"{-low if low < 0 else ''}:{stop}"]))
            low, high = max(low, 0), max(high, 0)
        if low or high:
            if fill is None:
                x = _filled_beside(site, x, axis, low, high)
            else:
                x = _widened(site, x, value, (axis, low, high), mode, fill)
    return x


def _filled_beside(site: Site, x: Code, axis: int, low: int, high: int) -> Code:
    """x between copies of a number that the model computes."""
    value = site.value(0)
    if value.dtype == "bool":
        raise site.refuse("of booleans", "pad before the comparison")
    fill = site.tensor(2)
    fill = code.index(fill, "0") if site.value(2).rank else fill
    first = code.call("zeros_like", code.call("sum", x, axis=axis, keepdims=Code("true")))

    def beside(count: int) -> list[Code]:
        ones = ", ".join("1" if i != axis else str(count) for i in range(value.rank))
        return [code.binary("+", code.binary("*", first, Code(f"ones({ones})")), fill)] if count else []

    parts = [*beside(low), x, *beside(high)]
    return code.call("concat", *parts, axis=axis)


def _widened(site: Site, x: Code, value: Value, place: tuple[int, int, int], mode: str, fill: float) -> Code:
    axis, low, high = place
    if mode == "constant":
        settings: dict[str, object] = {} if axis == value.rank - 1 else {"axis": axis}
        if fill != 0:
            settings["value"] = code.number(fill)
        if value.dtype == "bool":
            raise site.refuse("of booleans", "pad before the comparison")
        return code.apply("pad", x, low, high, **settings)
    if mode == "reflect":
        return code.layer(f"reflected({low}, {high}, {axis})", x)
    if mode == "edge":
        return code.layer(f"replicated({low}, {high}, {axis})", x)
    if mode == "wrap":
        whole = ", ".join([":"] * axis)
        lead = f"{whole}, " if whole else ""
        parts = [code.index(x, f"{lead}-{low}:")] if low else []
        parts += [x] + ([code.index(x, f"{lead}0:{high}")] if high else [])
        return code.call("concat", *parts, axis=axis)
    raise site.refuse(f"with mode {mode}")


def _constant_of_shape(site: Site) -> Code:
    value = site.attribute("value")
    fill = value.reshape(-1)[0] if value is not None else np.float32(0)
    return site.filled(code.number(fill), site.result())


def _range(site: Site) -> Code:
    result = site.result()
    count = site.extent(result, 0)
    start, step = site.text(0), site.text(2)
    numbers = Code(f"arange({count})")
    if step.text not in ("1", "1.0"):
        numbers = code.binary("*", numbers, step)
    if start.text not in ("0", "0.0"):
        numbers = code.binary("+", numbers, start)
    return cast_to(site, numbers, "int32", result.dtype)


def _eye(site: Site) -> Code:
    rows, columns = site.extents(site.result())
    k = site.attribute("k", 0)
    hit = code.binary(
        "==", Code(f"arange({columns})"), code.binary("+", Code(f"arange({rows})[:, None]"), code.number(k))
    )
    return (
        code.call("where", hit, code.number(1.0), code.number(0.0))
        if site.result().dtype == "float32"
        else cast_to(site, hit, "bool", site.result().dtype)
    )


def _triangle(site: Site) -> Code:
    value = site.value(0)
    rows, columns = site.extent(value, -2), site.extent(value, -1)
    k = site.numbers(1)[0] if site.has(1) else 0
    places = code.binary("+", Code(f"arange({rows})[:, None]"), code.number(k))
    seen = code.binary("<=" if site.attribute("upper", 1) else ">=", places, Code(f"arange({columns})"))
    if value.dtype == "bool":
        return code.binary("and", site.tensor(0), seen)
    return code.call("where", seen, site.tensor(0), code.number(0))


def _depth_to_space(site: Site) -> Code:
    size = site.attribute("blocksize")
    pattern = (
        "b (c p q) h w -> b c (h p) (w q)" if site.attribute("mode") == "CRD" else "b (p q c) h w -> b c (h p) (w q)"
    )
    return code.apply("rearrange", site.tensor(0), code.string(pattern), p=size, q=size)


def _space_to_depth(site: Site) -> Code:
    size = site.attribute("blocksize")
    made = "(c p q)" if site.attribute("mode") == "CRD" else "(p q c)"
    return code.apply("rearrange", site.tensor(0), code.string(f"b c (h p) (w q) -> b {made} h w"), p=size, q=size)


def _one_hot(site: Site) -> Code:
    result = site.result()
    axis = site.axis(site.attribute("axis", -1), result.rank)
    depth = site.fixed(result, axis)
    on_value = None if site.value(2).constant is None else site.held(2).reshape(-1)[1]
    if on_value is None:
        pair = site.tensor(2)
        on, off = code.index(pair, "1"), code.index(pair, "0")
    else:
        on, off = code.number(on_value), code.number(site.held(2).reshape(-1)[0])
    site.helper("counted_from_end")
    index = code.layer(f"counted_from_end({depth})", site.tensor(0))
    items = [":"] * axis + ["None"] + [":"] * (result.rank - 1 - axis)
    classes = (
        code.index(Code(f"arange({depth})"), ", ".join([":", *["None"] * (result.rank - 1 - axis)]))
        if axis < result.rank - 1
        else Code(f"arange({depth})")
    )
    if not site.value(0).dtype.startswith("float"):
        hit = code.binary("==", code.index(index, ", ".join(items)), classes)
    else:
        hit = code.binary("==", code.index(code.call("int", index), ", ".join(items)), classes)
    found = code.call("where", hit, on, off)
    return (
        found
        if result.dtype == site.value(2).dtype == "float32" and on_value is None
        else cast_to(site, found, "", result.dtype)
    )


def _reverse_sequence(site: Site) -> Code:
    time, batch = site.attribute("time_axis", 0), site.attribute("batch_axis", 1)
    n = site.fixed(site.value(0), time)
    x, lengths = site.tensor(0), site.tensor(1)
    site.helper("taken_along")
    rank = site.rank()
    order = [a for a in range(rank) if a not in (time, batch)] + [batch, time]
    turned = transposed(x, order)
    places = Code(f"arange({n})")
    ends = code.index(lengths, ":, None")
    index = code.call(
        "where",
        code.binary("<", places, ends),
        code.binary("-", code.binary("-", ends, code.number(1)), places),
        places,
    )
    found = code.call("taken_along", turned, index)
    return transposed(found, list(np.argsort(order)))


def _shape(site: Site) -> Code:
    """A shape as a tensor: its numbers side by side."""
    value = site.result()
    assert value.contents is not None
    numbers = [Code(text, code.SUM) for text in site.known_numbers_of(value)]
    if value.rank == 0:
        return code.call("cast", code.binary("+", Code("zeros()"), numbers[0]), Code("i64"))
    if any(BATCH in number.text for number in numbers):
        parts = [
            code.call("full", number, code.number(1))
            if BATCH not in number.text
            else Code(f"zeros(1) + {number.text}", code.SUM)
            for number in numbers
        ]
    else:
        parts = [code.call("full", number, code.number(1)) for number in numbers]
    return code.call("cast", joined(parts, 0), Code("i64"))


SHAPES: dict[str, Translation] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "EyeLike": _eye,
    "Trilu": _triangle,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "OneHot": _one_hot,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "Size": _shape,
}
