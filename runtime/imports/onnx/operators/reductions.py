"""Operators that sum, choose or order along axes, and products of matrices."""

from __future__ import annotations

from collections.abc import Callable

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.graph import HIDING
from runtime.imports.onnx.operators.elementwise import cast_to
from runtime.imports.onnx.operators.shapes import reshaped, transposed
from runtime.imports.onnx.site import Site, Translation


def _axes(site: Site) -> list[int] | None:
    """The axes that are reduced; None for nothing to reduce."""
    rank = site.rank()
    axes = site.attribute("axes")
    if axes is None and site.has(1):
        axes = site.numbers(1)
    if not axes:
        return None if site.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(site.axis(axis, rank) for axis in axes)


def reduced(function: str, x: Code, axes: list[int], rank: int, keep: bool) -> Code:
    settings: dict[str, object] = {}
    if len(axes) != rank:
        settings["axis"] = axes[0] if len(axes) == 1 else axes
        if axes == [rank - 1]:
            settings["axis"] = -1
    if keep:
        settings["keepdims"] = Code("true")
    return code.apply(function, x, **settings)


def _reduction(function: Callable[[Site, Code, list[int], bool], Code], alone: Callable[[Code], Code]) -> Translation:
    def translate(site: Site) -> Code:
        axes = _axes(site)
        x = site.tensor(0)
        if axes is None or site.rank() == 0:
            found = alone(x)
        else:
            found = function(site, x, axes, bool(site.attribute("keepdims", 1)))
        dtype = site.value(0).dtype
        return found if dtype.startswith("float") else code.call("cast", found, Code(site.dtype(site.result())))

    return translate


def _plain(function: str) -> Callable[[Site, Code, list[int], bool], Code]:
    return lambda site, x, axes, keep: reduced(function, x, axes, site.rank(), keep)


def _extreme(site: Site, x: Code, axes: list[int], keep: bool) -> Code:
    kind = "max" if site.node.op == "ReduceMax" else "min"
    if site.value(0).dtype == "bool":
        kind = {"max": "any", "min": "all"}[kind]
    return reduced(kind, x, axes, site.rank(), keep)


def _of(before: Callable[[Code], Code], after: Callable[[Code], Code]) -> Callable[[Site, Code, list[int], bool], Code]:
    return lambda site, x, axes, keep: after(reduced("sum", before(x), axes, site.rank(), keep))


def _square(x: Code) -> Code:
    return code.binary("^", x, code.number(2))


def _function(name: str) -> Callable[[Code], Code]:
    return lambda x: code.call(name, x)


def _same(x: Code) -> Code:
    return x


def _log_sum_exp(site: Site, x: Code, axes: list[int], keep: bool) -> Code:
    rank = site.rank()
    last = axes == [rank - 1]
    if len(axes) == 1:
        axis = "" if last else f"({axes[0]})"
        return code.layer(f"{'logsumexp_kept' if keep else 'logsumexp'}{axis}", x)
    flat = _at_end(site, x, axes)
    return _restored(site, code.layer("logsumexp", flat), axes, keep)


def _at_end(site: Site, x: Code, axes: list[int]) -> Code:
    """The axes that are reduced as one, behind all others."""
    value = site.value(0)
    others = [axis for axis in range(value.rank) if axis not in axes]
    x = transposed(x, others + axes)
    return x if len(axes) == 1 else reshaped(x, [*(site.extent(value, axis) for axis in others), "-1"])


def _restored(site: Site, x: Code, axes: list[int], keep: bool) -> Code:
    if not keep:
        return x
    items = ["None" if axis in axes else ":" for axis in range(site.rank())]
    return code.index(x, ", ".join(items))


def _product(site: Site, x: Code, axes: list[int], keep: bool) -> Code:
    site.helper("product")
    return _restored(site, code.call("product", _at_end(site, x, axes)), axes, keep)


def _arg(site: Site) -> Code:
    rank = site.rank()
    axis = site.axis(site.attribute("axis", 0), rank)
    x = site.tensor(0)
    if site.node.op == "ArgMin":
        x = code.negative(x)
    last = bool(site.attribute("select_last_index", 0))
    if last:
        x = code.call("reverse", x, code.number(axis))
    found = code.call("argmax", x, axis=axis, **({"keepdims": Code("true")} if site.attribute("keepdims", 1) else {}))
    if last:
        found = code.binary("-", code.number(site.fixed(site.value(0), axis) - 1), found)
    return code.call("cast", found, Code("i64"))


def _hiding(site: Site, layer: str, x: Code) -> Code:
    """A softmax that hides elements of -inf, so that rows of nothing else are 0."""
    (bound,) = site.bind(x, 1)
    return Code(f"{layer}({bound.text}, where = not ({bound.text} == -inf))")


def _soft(function: str) -> Translation:
    def translate(site: Site) -> Code:
        rank = site.rank()
        old = site.node.version < 13
        axis = site.axis(site.attribute("axis", 1 if old else -1), rank)
        x = site.tensor(0)
        if site.attribute(HIDING):
            return _hiding(site, function if axis == rank - 1 else f"{function}({axis})", x)
        if old and axis != rank - 1:
            value = site.value(0)
            whole = reshaped(x, [*site.extents(value)[:axis], "-1"])
            return reshaped(code.layer(function, whole), site.extents(value))
        return code.layer(function if axis == rank - 1 else f"{function}({axis})", x)

    return translate


def _hardmax(site: Site) -> Code:
    rank = site.rank()
    old = site.node.version < 13
    axis = site.axis(site.attribute("axis", 1 if old else -1), rank)
    x, value = site.tensor(0), site.value(0)
    if old and axis != rank - 1:
        x = reshaped(x, [*site.extents(value)[:axis], "-1"])
        n = "extent(x, -1)"
        raise site.refuse(f"over several axes ({n})")
    size = site.fixed(value, axis)
    places = Code(
        f"arange({size})" + (f"[{', '.join([':', *['None'] * (rank - 1 - axis)])}]" if axis < rank - 1 else "")
    )
    best = code.call("argmax", x, axis=axis, keepdims=Code("true"))
    return code.call("where", code.binary("==", best, places), code.number(1.0), code.number(0.0))


def _along_last(site: Site, axis: int, x: Code) -> Code:
    rank = site.rank()
    order = [a for a in range(rank) if a != axis] + [axis]
    return transposed(x, order)


def _back(site: Site, axis: int, x: Code) -> Code:
    rank = site.rank()
    order = list(range(rank - 1))
    order.insert(axis, rank - 1)
    return transposed(x, order)


def _running(site: Site) -> Code:
    axis = site.axis(site.numbers(1)[0], site.rank())
    x, value = site.tensor(0), site.value(0)
    backward, exclusive = bool(site.attribute("reverse", 0)), bool(site.attribute("exclusive", 0))
    if site.node.op == "CumProd":
        site.helper("running_product")
        x = _along_last(site, axis, x)
        x = code.call("reverse", x, code.number(-1)) if backward else x
        found = code.call("running_product", x)
        if exclusive:
            ones = code.call("pad", found, code.number(1), code.number(0), value=1.0)
            found = code.index(ones, "..., :-1")
        found = code.call("reverse", found, code.number(-1)) if backward else found
        return (
            cast_to(site, _back(site, axis, found), "", value.dtype)
            if not value.dtype.startswith("float")
            else _back(site, axis, found)
        )
    settings: dict[str, object] = {"axis": axis}
    if backward:
        settings["reverse"] = Code("true")
    found = code.call("cumsum", x, **settings)
    if exclusive:
        lead = ", ".join([":"] * axis)
        lead = f"{lead}, " if lead else ""
        low, high = (0, 1) if backward else (1, 0)
        found = code.index(
            code.call("pad", found, code.number(low), code.number(high), axis=axis),
            lead + ("1:" if backward else ":-1"),
        )
    return found if value.dtype.startswith("float") else code.call("cast", found, Code(site.dtype(value)))


def _top(site: Site) -> list[Code]:
    axis = site.axis(site.attribute("axis", -1), site.rank())
    k = site.fixed(site.result(), axis)
    value = site.value(0)
    site.helper("ranked")
    site.helper("first_ranked")
    x = _along_last(site, axis, site.tensor(0))
    keyed = x if site.attribute("largest", 1) else code.negative(x)
    rank = code.call("ranked", keyed)
    n = site.fixed(value, axis)
    places = Code(f"arange({n}) + 0 * ({rank.text})", code.SUM)
    values = _back(site, axis, code.call(f"first_ranked({k})", x, rank))
    indices = _back(site, axis, code.call(f"first_ranked({k})", places, rank))
    if not value.dtype.startswith("float"):
        values = code.call("cast", values, Code(site.dtype(value)))
    return [values, code.call("cast", indices, Code("i64"))]


def _einsum(site: Site) -> Code:
    equation = site.attribute("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        right = ("..." if "..." in left else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))

    def spaced(part: str) -> str:
        return " ".join(part.replace("...", "…")).replace("…", "...")

    pattern = ", ".join(spaced(part) for part in left.split(",")) + " -> " + spaced(right)
    operands = [site.tensor(i) for i in range(len(site.node.inputs))]
    return code.call("einsum", Code(code.string(pattern.rstrip())), *operands)


REDUCTIONS: dict[str, Translation] = {
    "ReduceSum": _reduction(_plain("sum"), _same),
    "ReduceMean": _reduction(_plain("mean"), _same),
    "ReduceMax": _reduction(_extreme, _same),
    "ReduceMin": _reduction(_extreme, _same),
    "ReduceProd": _reduction(_product, _same),
    "ReduceL1": _reduction(_of(_function("abs"), _same), _function("abs")),
    "ReduceL2": _reduction(_of(_square, _function("sqrt")), _function("abs")),
    "ReduceSumSquare": _reduction(_of(_square, _same), _square),
    "ReduceLogSum": _reduction(_of(_same, _function("log")), _function("log")),
    "ReduceLogSumExp": _reduction(_log_sum_exp, _same),
    "ArgMax": _arg,
    "ArgMin": _arg,
    "Softmax": _soft("softmax"),
    "LogSoftmax": _soft("log_softmax"),
    "Hardmax": _hardmax,
    "CumSum": _running,
    "CumProd": _running,
    "TopK": _top,
    "Einsum": _einsum,
}
