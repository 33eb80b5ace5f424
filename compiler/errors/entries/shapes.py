"""Shapes and element types: E04."""

from __future__ import annotations

from compiler.errors.entries.entry import ErrorEntry


def _model(output: str, inputs: str = "x: f32[batch, 4]", before: str = "") -> str:
    lines = "".join(f"    input {line}\n" for line in inputs.split("; "))
    start = f"{before}\n\n" if before else ""
    return f"{start}model M {{\n{lines}    output y = {output}\n}}"


def _chosen(limits: str) -> str:
    train = f"    target label: i32[batch] in {limits}\n    loss = cross_entropy(y, label)\n"
    return f"{_model('dense(3)(x)')}\n\ntrain M {{\n{train}    optimizer = adam()\n    batch = 32\n}}"


_TWO = "x: f32[batch, 4]; z: f32[batch, 3]"

SHAPES: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "E0401",
        "sizes that do not fit elementwise",
        "Elementwise operations follow NumPy: shapes are aligned at the right, and two sizes fit when they are equal "
        "or one of them is 1.",
        _model("x + z", _TWO),
        _model("x + dense(4)(z)", _TWO),
    ),
    ErrorEntry(
        "E0402",
        "a named dimension at two places",
        "When both operands of an elementwise operation have a dimension of the same name, it must stand at the same "
        "place from the right in both. Without this rule, `[batch, 1] - [batch]` would give `[batch, batch]` without a "
        "word: the classic mistake of losses. Drop an axis of 1 with `[:, 0]`, add one with `[:, None]`, or let "
        "`align(v, x)` put each named dimension of `v` where `x` has it.",
        _model("x - mean(x, axis = -1)"),
        _model("x - mean(x, axis = -1)[:, None]"),
    ),
    ErrorEntry(
        "E0403",
        "two named dimensions that meet",
        "Two different dimension names of one signature never meet in an elementwise operation, even when the sizes "
        "happen to be equal today. A named dimension may meet itself, 1, nothing, or a plain number of its size.",
        _model("f(x, x)", before="fn f(a: [batch, i], b: [batch, j]) = a * b"),
        _model("f(x, x)", before="fn f(a: [batch, i], b: [batch, i]) = a * b"),
    ),
    ErrorEntry(
        "E0404",
        "an argument that does not fit the signature",
        "A dimension name of a signature is bound by its first use and must agree in each later one; numbers, settings "
        "and expressions such as `2 * units` must come out equal; all `...` of one signature are the same dimensions.",
        _model("f(x, z)", _TWO, "fn f(a: [batch, n], b: [batch, n]) = a + b"),
        _model("f(x, z)", "x: f32[batch, 4]; z: f32[batch, 4]", "fn f(a: [batch, n], b: [batch, n]) = a + b"),
    ),
    ErrorEntry(
        "E0405",
        "a result of another type than declared",
        "The type after `->` is checked for each application, with the sizes of that application.",
        _model("f(x)", before="fn f(a: [batch, n]) -> [batch, n] = sum(a, axis = n)"),
        _model("f(x)", before="fn f(a: [batch, n]) -> [batch] = sum(a, axis = n)"),
    ),
    ErrorEntry(
        "E0406",
        "an axis that the tensor does not have",
        "An axis is a number (negative ones count from the end) or the name of a dimension, which the tensor must have "
        "exactly once. Names stay on a value through calls and through every operation that leaves the axis whole; "
        "reshape, split, concat and slicing drop them on that axis.",
        _model("sum(x, axis = 2)[:, None]"),
        _model("sum(x, axis = 1)[:, None]"),
    ),
    ErrorEntry(
        "E0407",
        "a reshape that changes the number of elements",
        "A reshape arranges the same elements in another shape. One dimension may be -1: it takes the remaining "
        "elements. A dimension that depends on the batch stands as a multiple of `batch`.",
        _model("reshape(x, batch, 3)"),
        _model("reshape(x, batch, 2, 2)"),
    ),
    ErrorEntry(
        "E0408",
        "a product over axes of different size",
        "`a @ b` sums over the last axis of `a` and the next-to-last of `b` (its only one, if it is a vector). In an "
        "`einsum`, a name has one size in all operands.",
        _model("x @ ones(3, 2)"),
        _model("x @ ones(4, 2)"),
    ),
    ErrorEntry(
        "E0409",
        "an index that does not fit",
        "An index is a whole number within the axis, a slice, `None` for a new axis, `...` once, or one tensor of "
        "integers, which gathers.",
        _model("x[:, 4]"),
        _model("x[:, 3]"),
    ),
    ErrorEntry(
        "E0410",
        "a shape that batch cannot have",
        "The batch is known only at run time, and the same program serves every size of it. A dimension may be `k * "
        "batch`; a tensor has at most one such dimension, which cannot be cut, and parameters have none. The first "
        "dimension of an input is `batch`.",
        _model("zeros(batch + 1, 4)[:, 0]"),
        _model("zeros(2 * batch, 4)[:, 0]"),
    ),
    ErrorEntry(
        "E0411",
        "parts that do not make a whole",
        "`split(x, n)` cuts an axis into n equal parts, so n must divide its size; a list gives the size of each part. "
        "`concat` joins tensors that are equal in all other dimensions.",
        _model("concat(x, z, axis = 0)", _TWO),
        _model("concat(x, z, axis = 1)", _TWO),
    ),
    ErrorEntry(
        "E0412",
        "a pattern that does not fit",
        "The patterns of `einsum` and `rearrange` name every axis of each operand, with spaces between names. In "
        "`rearrange`, both sides have the same names, brackets merge and split axes, and all sizes of a split but one "
        "are given.",
        _model('rearrange(x, "b (h c) -> b h c")'),
        _model('rearrange(x, "b (h c) -> b h c", h = 2)'),
    ),
    ErrorEntry(
        "E0413",
        "a dimension that is not a whole number",
        "`/` always gives a real number; a dimension that is divided takes `//`. Dimensions are not negative, and "
        "those of parameters and states not 0.",
        _model("dense(3)(x) + zeros(7 / 2)"),
        _model("dense(3)(x) + zeros(7 // 2)"),
    ),
    ErrorEntry(
        "E0414",
        "a tensor that is too large",
        "A tensor of more than 2,147,483,648 elements (for one row of the batch) is a misplaced dimension more often "
        "than a wish.",
        _model("x * mean(zeros(100000, 100000))"),
        _model("x * mean(zeros(1000, 1000))"),
    ),
    ErrorEntry(
        "E0415",
        "a dimension of unknown size",
        "In a `model`, `batch` is bound by the data loader; every other dimension is a number, a setting, or as large "
        "as the data says: the shape of a field of its name, or the columns of a table that are left for it. Where no "
        "data is at hand, `--set width=4` says it. `...` stands for dimensions of the signature.",
        _model("x[..., 0]", "x: f32[batch, width]"),
        "model M(width = 4) {\n    input x: f32[batch, width]\n    output y = x[..., 0]\n}",
    ),
    ErrorEntry(
        "E0416",
        "an element type that does not fit",
        "A parameter without element type takes floats. Integers widen to larger ones and f32 to f64 where they are "
        "asked for; nothing else converts by itself. `cast(x, f32)` converts, and `/`, `mean` and the real functions "
        "turn integers into f32. Conditions and masks are tensors of bool.",
        _model("dense(2)(x)", "x: u8[batch, 4]"),
        _model("dense(2)(x / 255)", "x: u8[batch, 4]"),
    ),
    ErrorEntry(
        "E0417",
        "an operation that does not exist for these types",
        "The types of the operands do not fit the rule of a primitive operation, which the message states. A common "
        "case is a result that would depend on the batch twice.",
        _model("sum(x @ x.T, axis = -1)"),
        _model("sum(x.T @ x, axis = -1)"),
    ),
    ErrorEntry(
        "E0418",
        "a window that does not fit",
        "A window of a convolution or a pool, with the gaps that its dilation makes, is longer than the axis that it "
        "slides along, padding included; or windows are added up to a length that they do not have. Take a smaller "
        'window, or pad more: `padding = "same"` in a convolution.',
        _model("windows(x, 5)[:, 0]"),
        _model("windows(x, 4)[:, 0]"),
    ),
    ErrorEntry(
        "E0419",
        "a `scan` whose steps are not known",
        "A `scan` makes one step for each place along an axis. All its inputs, and its mask, have the same length "
        "there, which is at least 1 and known when the program is elaborated: so the axis is not the batch, whose rows "
        "do not follow one another.",
        _model("sums(x)", "x: f32[batch, 4]")
        + "\n\nfn sums(x: [batch, n]) = scan row in x over batch { emit sum(row) }",
        _model("sums(x)", "x: f32[batch, 4]")
        + "\n\nfn sums(x: [batch, n]) = scan column in x over n { emit column ^ 2 }",
    ),
    ErrorEntry(
        "E0420",
        "a carry of a `scan` that changes its type",
        "A carry has the same element type and the same shape at every step: those of the initial value. It is not "
        "repeated along axes of 1, so the initial value is given in full, as by `zeros(batch, units)`.",
        "fn total(x: [batch, time]) {\n    s = scan xt in x over time carry s = 0.0 { s = s + xt }\n    return s\n}\n\n"
        + _model("total(x)", "x: f32[batch, 4]"),
        "fn total(x: [batch, time]) {\n    s = scan xt in x over time carry s = zeros(batch) { s = s + xt }\n"
        "    return s\n}\n\n" + _model("total(x)", "x: f32[batch, 4]"),
    ),
    ErrorEntry(
        "E0421",
        "integers that can lie outside of the range that they choose from",
        "An integer that chooses a class of `cross_entropy` or a row of `embedding` counts from 0. Integers outside "
        "of the range have no class and no row: they would cost nothing, or pick the last row. The declared range of "
        "an input or target must not hold such values, unless the model leaves their places out, as by `where = "
        "label >= 0`. Classes that the data counts from 1 count from 0 after `label - 1`, or by csv `categories = "
        '["label"]`.',
        _chosen("1..4"),
        _chosen("0..3"),
    ),
)
